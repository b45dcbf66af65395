//! Many texts in one allocation. What a measurement keeps must not change how the allocator serves
//! what is measured: hundreds of thousands of small pieces that stay would.

/// Virtual until it is used.
const RESERVED: usize = 16 << 20;

/// Texts in the order in which they came.
#[derive(Debug, Default)]
pub struct Pile {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pile {
    /// Keeps one.
    pub fn push(&mut self, text: &[u8]) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(RESERVED);
            self.ends.reserve(RESERVED / 128);
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Pile {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut pile = Self::default();
        texts.into_iter().for_each(|text| pile.push(text.as_ref()));
        pile
    }
}
