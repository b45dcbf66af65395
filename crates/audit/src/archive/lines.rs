//! Rows and revisions as lines of an object. The record is the line, byte for byte; a revision is one
//! of its own, made here once and the same each time.

use contracts::{LogId, Tenant};
use evidence::merkle::{SALT_BYTES, Salt};
use evidence::moment;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::{ExportRevision, ExportRow};

/// A line on its way into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) salt: Salt,
    pub(crate) bytes: Vec<u8>,
    /// Whether it is an event and no revision.
    pub(crate) event: bool,
}

/// The order of the members is that of the format.
#[derive(Serialize)]
struct Revision<'a> {
    id: LogId,
    tenant: &'a str,
    recorded_at: String,
    kind: &'static str,
    #[serde(rename = "revision")]
    number: i64,
    operation_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation: Option<&'a str>,
    actor: &'a serde_json::Value,
}

/// A row's line.
pub(crate) fn event(row: &mut ExportRow) -> Result<Line, String> {
    let salt = salt(row)?;
    Ok(Line { salt, bytes: std::mem::take(&mut row.record), event: true })
}

/// A revision's line.
pub(crate) fn revision(
    tenant: &Tenant,
    row: &ExportRow,
    revision: &ExportRevision,
) -> Result<Line, String> {
    let written = Revision {
        id: LogId(row.id),
        tenant: tenant.as_str(),
        recorded_at: moment::text(revision.recorded_at),
        kind: "revision",
        number: revision.revision,
        operation_id: revision.operation_id,
        tags: revision.tags.as_deref(),
        annotation: revision.annotation.as_deref(),
        actor: &revision.actor,
    };
    let bytes = contracts::json::to_ascii(&written)
        .map_err(|error| format!("revision {} of log {}: {error}", revision.revision, row.id))?;
    Ok(Line { salt: revision_salt(salt(row)?, revision), bytes: bytes.into_bytes(), event: false })
}

fn salt(row: &ExportRow) -> Result<Salt, String> {
    row.salt.as_slice().try_into().map_err(|_| {
        format!("log {}: a salt of {} bytes, not {SALT_BYTES}", row.id, row.salt.len())
    })
}

/// As secret as the log's own, and the same whenever the unit is done again.
fn revision_salt(salt: Salt, revision: &ExportRevision) -> Salt {
    let digest = Sha256::new_with_prefix(b"flotilla.revision\n")
        .chain_update(salt)
        .chain_update(revision.operation_id.as_bytes())
        .finalize();
    let mut short = Salt::default();
    short.copy_from_slice(&digest[..SALT_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_has_one_line_that_the_archive_reads() {
        let at = "2026-01-31T23:00:00.000001Z".parse().unwrap();
        let row = ExportRow {
            recorded_at: at,
            id: Uuid::from_u128(0x0194_0000_0000_7000_8000_0000_0000_0001),
            record: b"{}".to_vec(),
            salt: vec![7; 16],
            revision: 1,
            actor_type: "user".into(),
            actor_id: "u".into(),
            action: "a".into(),
            outcome: "success".into(),
            target_types: Vec::new(),
        };
        let change = ExportRevision {
            revision: 1,
            operation_id: Uuid::from_u128(9),
            tags: Some(vec!["é".into()]),
            annotation: None,
            actor: serde_json::json!({"key_id": "k1"}),
            recorded_at: at,
        };
        let tenant: Tenant = "acme".parse().unwrap();
        let line = revision(&tenant, &row, &change).unwrap();
        let expected = r#"{"id":"01940000-0000-7000-8000-000000000001","tenant":"acme","recorded_at":"2026-01-31T23:00:00.000001Z","kind":"revision","revision":1,"operation_id":"00000000-0000-0000-0000-000000000009","tags":["\u00e9"],"actor":{"key_id":"k1"}}"#;
        assert_eq!(String::from_utf8(line.bytes.clone()).unwrap(), expected);
        let read = evidence::line::Line::parse(&line.bytes).unwrap();
        assert_eq!((read.key.revision, read.key.id), (1, row.id));
        assert_eq!(revision(&tenant, &row, &change).unwrap(), line);
        assert!(line.salt != [7; 16] && !line.event);
        let short = ExportRow { salt: vec![1], ..row };
        assert!(revision(&tenant, &short, &change).unwrap_err().contains("1 bytes"));
    }
}
