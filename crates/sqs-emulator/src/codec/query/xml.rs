//! Writes the little XML that replies need: elements with texts or elements inside, escaped so that a
//! parser gives back the same characters.

use std::fmt::{Display, Write as _};

/// A document that is written front to back.
#[derive(Debug, Default)]
pub(super) struct Xml {
    out: String,
}

impl Xml {
    /// Starts with the declaration.
    pub(super) fn document() -> Self {
        Self { out: "<?xml version=\"1.0\"?>".to_owned() }
    }

    /// An element with elements inside; without any, it closes itself.
    pub(super) fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.element_with(name, "", inside);
    }

    /// An element in a namespace.
    pub(super) fn root(&mut self, name: &str, namespace: &str, inside: impl FnOnce(&mut Self)) {
        self.element_with(name, &format!(" xmlns=\"{namespace}\""), inside);
    }

    fn element_with(&mut self, name: &str, attributes: &str, inside: impl FnOnce(&mut Self)) {
        self.push(&["<", name, attributes, ">"]);
        let start = self.out.len();
        inside(self);
        if self.out.len() == start {
            self.out.pop();
            self.push(&["/>"]);
        } else {
            self.push(&["</", name, ">"]);
        }
    }

    /// An element with a text.
    pub(super) fn leaf(&mut self, name: &str, text: &str) {
        self.push(&["<", name, ">"]);
        self.text(text);
        self.push(&["</", name, ">"]);
    }

    /// An element with a number or another thing that needs no escaping.
    pub(super) fn plain(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.out, "<{name}>{value}</{name}>");
    }

    /// An element, when there is a text for it.
    pub(super) fn some(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                // A parser would make a line feed of it.
                '\r' => self.out.push_str("&#xD;"),
                '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'.. => self.out.push(c),
                // XML has no way to say it.
                _ => self.out.push(char::REPLACEMENT_CHARACTER),
            }
        }
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }

    /// The document.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_empty_elements_close_themselves() {
        let mut xml = Xml::default();
        xml.root("a", "urn:x", |xml| {
            xml.element("none", |_| {});
            xml.leaf("t", "<&>\"'\r\n\t\u{1F600}]]>\u{1}\u{FFFE}");
            xml.plain("n", 5);
            xml.some("absent", None);
        });
        assert_eq!(
            String::from_utf8(xml.into_bytes()).unwrap(),
            "<a xmlns=\"urn:x\"><none/><t>&lt;&amp;&gt;&quot;'&#xD;\n\t\u{1F600}]]&gt;\u{FFFD}\u{FFFD}\
             </t><n>5</n></a>"
        );
    }
}
