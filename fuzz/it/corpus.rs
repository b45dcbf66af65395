//! Inputs: a file of the corpus with some changes. Random bytes alone would never get past a parser;
//! a valid request with a piece cut out, doubled or taken from another one does.

use std::path::Path;

use bolero::TypeGenerator;

/// What to put in where it hurts.
const TOKENS: [&str; 40] = [
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "9223372036854775808",
    "0.5",
    "\"\"",
    "{}",
    "[]",
    "[{}]",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "\\\"",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "%00",
    "%",
    "%f",
    "&",
    "=",
    ".1",
    ".0",
    ".member.1",
    ".4294967296",
    "+",
    "<",
    "&amp;",
    "\u{1F600}",
    "\u{FFFE}",
    "\u{0}",
    "All",
    ".*",
    ".fifo",
];

/// A file and what is done to it, in order. Places are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) struct Input {
    file: u8,
    #[generator(bolero::produce::<Vec<Change>>().with().len(0_usize..8))]
    changes: Vec<Change>,
}

/// Several inputs, one after the other.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) struct Session {
    #[generator(bolero::produce::<Vec<Input>>().with().len(1_usize..6))]
    inputs: Vec<Input>,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Change {
    Byte {
        at: u16,
        byte: u8,
    },
    Cut {
        at: u16,
        length: u8,
    },
    Double {
        at: u16,
        length: u8,
        times: u8,
    },
    Token {
        at: u16,
        token: u8,
    },
    /// A token instead of what stands between two characters that are no letters or digits.
    Value {
        at: u16,
        token: u8,
    },
    Splice {
        at: u16,
        file: u8,
        from: u16,
        length: u8,
    },
}

/// The files of one folder, in the order of their names.
#[derive(Debug)]
pub(crate) struct Corpus {
    files: Vec<Vec<u8>>,
}

impl Corpus {
    pub(crate) fn read(folder: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
        Self::of(&[folder])
    }

    /// The files of several folders.
    pub(crate) fn of(folders: &[std::path::PathBuf]) -> Self {
        let paths = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let mut paths: Vec<_> = paths.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!files.is_empty(), "{folders:?}");
        Self { files }
    }

    /// Files that are made, not read.
    pub(crate) fn from(files: Vec<Vec<u8>>) -> Self {
        Self { files }
    }

    /// Every file as it is.
    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(Vec::as_slice)
    }

    /// The input's file with its changes.
    pub(crate) fn make(&self, input: &Input) -> Vec<u8> {
        let mut bytes = self.file(input.file).to_vec();
        for change in &input.changes {
            self.change(&mut bytes, change);
        }
        bytes
    }

    pub(crate) fn session(&self, session: &Session) -> impl Iterator<Item = Vec<u8>> {
        session.inputs.iter().map(|input| self.make(input))
    }

    fn file(&self, number: u8) -> &[u8] {
        &self.files[usize::from(number) % self.files.len()]
    }

    fn change(&self, bytes: &mut Vec<u8>, change: &Change) {
        let place = |at: u16| usize::from(at) % (bytes.len() + 1);
        let token = |token: u8| TOKENS[usize::from(token) % TOKENS.len()].bytes();
        match *change {
            Change::Byte { at, byte } => {
                let at = place(at);
                bytes.splice(at..bytes.len().min(at + 1), [byte]);
            }
            Change::Cut { at, length } => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + usize::from(length)));
            }
            Change::Double { at, length, times } => {
                let at = place(at);
                let piece = bytes[at..bytes.len().min(at + usize::from(length))].to_vec();
                let pieces = piece.repeat(usize::from(times % 32));
                bytes.splice(at..at, pieces);
            }
            Change::Token { at, token: which } => {
                let at = place(at);
                bytes.splice(at..at, token(which));
            }
            Change::Value { at, token: which } => {
                let at = place(at);
                let word = |byte: &u8| byte.is_ascii_alphanumeric();
                let before = bytes[..at].iter().rev().take_while(|byte| word(byte)).count();
                let after = bytes[at..].iter().take_while(|byte| word(byte)).count();
                bytes.splice(at - before..at + after, token(which));
            }
            Change::Splice { at, file, from, length } => {
                let at = place(at);
                let other = self.file(file);
                let from = usize::from(from) % (other.len() + 1);
                let piece = other[from..other.len().min(from + usize::from(length))].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}
