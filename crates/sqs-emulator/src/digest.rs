//! The hashes on the wire: MD5 of bodies and attributes (SDKs verify them), SHA-256 of bodies for
//! content-based deduplication.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::model::{AttributeValue, MessageAttribute};

/// Type marker of text values inside the attribute hash.
const TEXT: u8 = 1;
/// Type marker of binary values inside the attribute hash.
const BINARY: u8 = 2;

/// MD5 of a body's UTF-8 bytes.
pub fn md5_text(text: &str) -> [u8; 16] {
    Md5::digest(text.as_bytes()).into()
}

/// MD5 over attributes in the order given, which must be by name; `None` without any. Attributes
/// without a value (an error elsewhere) are left out.
pub fn md5_attributes<'a>(
    attributes: impl Iterator<Item = &'a MessageAttribute>,
) -> Option<[u8; 16]> {
    let mut hash = Md5::new();
    let mut any = false;
    for attribute in attributes {
        let Some(value) = &attribute.value else { continue };
        any = true;
        field(&mut hash, attribute.name.as_bytes());
        field(&mut hash, attribute.data_type.as_bytes());
        hash.update([match value {
            AttributeValue::Text(_) => TEXT,
            AttributeValue::Binary(_) => BINARY,
        }]);
        field(&mut hash, value.as_bytes());
    }
    any.then(|| hash.finalize().into())
}

/// SHA-256 of a body, in hex: the deduplication id of content-based queues.
pub fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn field(hash: &mut Md5, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash.update(length.to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(name: &str, data_type: &str, value: AttributeValue) -> String {
        let attribute = MessageAttribute {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            value: Some(value),
        };
        hex::encode(md5_attributes(std::iter::once(&attribute)).unwrap())
    }

    #[test]
    fn hashes_match_recorded_vectors() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        assert_eq!(
            hash("attribName1", "String", text("attribValue 1")),
            "19e27d4e946b072f3f58da80d94fd778"
        );
        assert_eq!(
            hash(
                "customNumberTypeAttrib",
                "Number.float",
                text("4563442423554324324264524243.32543234")
            ),
            "9fe1b90bbd9965bdf77bac517c7d2495"
        );
        assert_eq!(
            hash(
                "binaryAttribute",
                "Binary",
                AttributeValue::Binary(b"Hello binary world!".as_slice().into())
            ),
            "31a92b15d92f8db860eda32aceb656c3"
        );
        assert_eq!(md5_attributes(std::iter::empty()), None);
        assert_eq!(hex::encode(md5_text("msg")), "6e2baaf3b97dbeef01c0043275f9a0e7");
    }
}
