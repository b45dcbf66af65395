//! What a message may contain. The texts are AWS's where they were recorded.

use crate::errors::{ErrorKind, SqsError};
use crate::limits::{ATTRIBUTE_NAME_BYTES_MAX, FIFO_ID_CHARS_MAX, MESSAGE_ATTRIBUTES_MAX};
use crate::model::{AttributeValue, MessageAttribute};

/// A body has to be there and to hold characters of XML 1.0 only.
pub(crate) fn body(body: Option<&String>) -> Result<&str, SqsError> {
    let body = body.filter(|body| !body.is_empty());
    let body = body.ok_or_else(|| SqsError::missing("MessageBody"))?;
    characters(body)?;
    Ok(body)
}

fn characters(text: &str) -> Result<(), SqsError> {
    // Most bodies are printable ASCII: one pass over bytes settles those.
    if text.bytes().all(|byte| (0x20..0x80).contains(&byte)) {
        return Ok(());
    }
    match text.chars().find(|&c| !is_xml(c)) {
        None => Ok(()),
        Some(c) => Err(SqsError::new(
            ErrorKind::InvalidMessageContents,
            format!(
                "Invalid binary character '#x{:X}' was found in the message body, the set of \
                 allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | \
                 #x10000 to #x10FFFF",
                u32::from(c)
            ),
        )),
    }
}

fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A group, deduplication or attempt id.
pub(crate) fn fifo_id(value: Option<&String>, parameter: &str) -> Result<(), SqsError> {
    let Some(value) = value else { return Ok(()) };
    let good = (1..=FIFO_ID_CHARS_MAX).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        return Ok(());
    }
    let reason = format!(
        "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
    );
    Err(SqsError::value(value, parameter, &reason))
}

/// Names, types and values of message attributes.
pub(crate) fn attributes(attributes: &[MessageAttribute]) -> Result<(), SqsError> {
    if attributes.len() > MESSAGE_ATTRIBUTES_MAX {
        return Err(SqsError::invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum \
             [{MESSAGE_ATTRIBUTES_MAX}].",
            attributes.len()
        )));
    }
    attributes.iter().try_for_each(attribute)
}

fn attribute(attribute: &MessageAttribute) -> Result<(), SqsError> {
    let MessageAttribute { name, data_type, value } = attribute;
    attribute_name(name)?;
    if data_type.is_empty() {
        return Err(SqsError::invalid(format!(
            "The message attribute '{name}' must contain non-empty message attribute type."
        )));
    }
    if data_type.len() > ATTRIBUTE_NAME_BYTES_MAX {
        return Err(SqsError::invalid(
            "Message (user) attribute types must be shorter than 256 Bytes",
        ));
    }
    let base = data_type.split('.').next().unwrap_or_default();
    if !matches!(base, "String" | "Number" | "Binary") {
        return Err(SqsError::invalid(format!(
            "The type of message (user) attribute '{name}' is invalid. You must use only the \
             following supported type prefixes: Binary, Number, String."
        )));
    }
    let empty = || {
        SqsError::invalid(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{base}'."
        ))
    };
    match (base, value) {
        ("Binary", Some(AttributeValue::Binary(bytes))) if !bytes.is_empty() => Ok(()),
        ("String", Some(AttributeValue::Text(text))) if !text.is_empty() => {
            // The same characters as in a body, another error.
            characters(text).map_err(|error| SqsError::invalid(error.message))
        }
        ("Number", Some(AttributeValue::Text(text))) if !text.is_empty() => {
            let number = text.parse::<f64>().is_ok_and(f64::is_finite);
            if number {
                return Ok(());
            }
            Err(SqsError::invalid(format!(
                "Can't cast the value of message (user) attribute '{name}' to a number."
            )))
        }
        _ => Err(empty()),
    }
}

fn attribute_name(name: &str) -> Result<(), SqsError> {
    if name.len() > ATTRIBUTE_NAME_BYTES_MAX {
        return Err(SqsError::invalid(
            "Message (user) attribute names must be shorter than 256 Bytes",
        ));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(allowed) || name.contains("..") {
        return Err(SqsError::invalid(
            "Message (user) attributes name can only contain upper and lower score characters, \
             digits, periods, hyphens and underscores. ",
        ));
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("aws.")
        || lower.starts_with("amazon.")
        || name.starts_with('.')
        || name.ends_with('.')
    {
        return Err(SqsError::invalid(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These \
             strings are reserved for internal use. Additionally, they cannot start or end with '.'.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_xml_characters_only() {
        for (text, good) in [
            ("plain", true),
            ("tab\tline\nreturn\r", true),
            ("snow ☃ and \u{1F600}", true),
            ("nul \u{0}", false),
            ("bell \u{7}", false),
            ("\u{FFFE}", false),
            ("\u{FFFD}", true),
            ("del \u{7f}", true),
        ] {
            assert_eq!(characters(text).is_ok(), good, "{text:?}");
        }
        assert_eq!(body(Some(&String::new())).unwrap_err().kind, ErrorKind::MissingParameter);
        assert_eq!(body(None).unwrap_err().kind, ErrorKind::MissingParameter);
    }

    #[test]
    fn attributes_are_named_and_typed() {
        let check = |name: &str, data_type: &str, value: &str| {
            attribute(&MessageAttribute {
                name: name.to_owned(),
                data_type: data_type.to_owned(),
                value: Some(AttributeValue::Text(value.to_owned())),
            })
            .is_ok()
        };
        assert!(check("a", "String", "x"));
        assert!(check(&"a".repeat(256), "String.custom", "x"));
        assert!(!check(&"a".repeat(257), "String", "x"));
        assert!(check("n", "Number.float", "-1.5e3"));
        assert!(!check("n", "Number", "one"));
        assert!(!check("s", "String", ""));
        assert!(!check("s", "Strong", "x"));
        assert!(!check("b", "Binary", "text"));
        for name in ["AWS.x", "amazon.x", ".x", "x.", "x..y", "x y", ""] {
            assert!(!check(name, "String", "x"), "{name}");
        }
    }
}
