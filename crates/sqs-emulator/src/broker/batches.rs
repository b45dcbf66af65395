//! What every batch call checks before it looks at an entry.

use std::collections::BTreeSet;

use crate::errors::{ErrorKind, SqsError};
use crate::limits::{BATCH_ENTRIES_MAX, BATCH_ID_CHARS_MAX};

/// Refuses a batch that is empty, too long, or whose ids are wrong. `entry` is the entry's shape.
pub(crate) fn check<T>(entries: &[(String, T)], entry: &str) -> Result<(), SqsError> {
    if entries.is_empty() {
        return Err(SqsError::new(
            ErrorKind::EmptyBatchRequest,
            format!("There should be at least one {entry} in the request."),
        ));
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        return Err(SqsError::new(
            ErrorKind::TooManyEntriesInBatchRequest,
            format!(
                "Maximum number of entries per request are {BATCH_ENTRIES_MAX}. You have sent {}.",
                entries.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    for (id, _) in entries {
        if !is_id(id) {
            return Err(SqsError::new(
                ErrorKind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long.",
            ));
        }
        if !seen.insert(id.as_str()) {
            return Err(SqsError::new(
                ErrorKind::BatchEntryIdsNotDistinct,
                format!("Id {id} repeated."),
            ));
        }
    }
    Ok(())
}

fn is_id(id: &str) -> bool {
    (1..=BATCH_ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(ids: &[&str]) -> Option<ErrorKind> {
        let entries: Vec<(String, ())> = ids.iter().map(|id| ((*id).to_owned(), ())).collect();
        check(&entries, "Entry").err().map(|error| error.kind)
    }

    #[test]
    fn limits_hold_just_below_and_just_above() {
        let long = "a".repeat(80);
        let ten = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        assert_eq!(kind(&ten), None);
        assert_eq!(kind(&[long.as_str()]), None);
        assert_eq!(kind(&[]), Some(ErrorKind::EmptyBatchRequest));
        assert_eq!(
            kind(&[ten.as_slice(), &["10"]].concat()),
            Some(ErrorKind::TooManyEntriesInBatchRequest)
        );
        assert_eq!(kind(&[format!("{long}a").as_str()]), Some(ErrorKind::InvalidBatchEntryId));
        assert_eq!(kind(&["a.b"]), Some(ErrorKind::InvalidBatchEntryId));
        assert_eq!(kind(&["a", "a"]), Some(ErrorKind::BatchEntryIdsNotDistinct));
    }
}
