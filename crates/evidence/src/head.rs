//! The signed head of a tenant's chain: a C2SP checkpoint (c2sp.org/tlog-checkpoint) over the Merkle tree
//! of its documents, with the time as an extension line. Whoever holds one can tell when a document at
//! the end of the chain is missing, or when history was written anew.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use contracts::Tenant;

use crate::hash::Hash;
use crate::key::{SignError, Signer};
use crate::moment;
use crate::note::{BadNote, Note};

/// Bytes of a head's file at most.
pub const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// `<key name>/<tenant>`.
    pub origin: String,
    /// Documents in the chain.
    pub size: u64,
    /// RFC 6962 root over their lines.
    pub root: Hash,
    /// When it was signed.
    pub at: DateTime<Utc>,
}

/// A head as it was read; the signatures are for the caller to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// What it says.
    pub head: Head,
    /// The checkpoint.
    pub note: Note,
}

/// Bytes that are no head.
#[derive(Debug, thiserror::Error)]
pub enum BadHead {
    /// No signed note.
    #[error(transparent)]
    Note(#[from] BadNote),
    /// Its text is not origin, size, root and time.
    #[error("no checkpoint: its lines are origin, size, root in base64, `time <RFC 3339>`")]
    Text,
}

/// The origin of a tenant's checkpoints under a key.
pub fn origin(key_name: &str, tenant: &Tenant) -> String {
    format!("{key_name}/{tenant}")
}

impl Head {
    /// The checkpoint's text.
    pub fn text(&self) -> String {
        let Self { origin, size, root, at } = self;
        format!("{origin}\n{size}\n{}\ntime {}\n", BASE64.encode(root.0), moment::text(*at))
    }

    /// Signs it.
    pub async fn sign(&self, signer: &dyn Signer) -> Result<String, SignError> {
        Ok(Note::sign(self.text(), &[signer]).await?.to_string())
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut next = || lines.next();
        let head = Self {
            origin: next()?.to_owned(),
            size: next()?.parse().ok()?,
            root: Hash(BASE64.decode(next()?).ok()?.try_into().ok()?),
            at: moment::parse(next()?.strip_prefix("time ")?)?,
        };
        // Further extension lines may come; what is read must be written so.
        text.starts_with(&head.text()).then_some(head)
    }
}

impl SignedHead {
    /// Reads a head.
    pub fn parse(file: &[u8]) -> Result<Self, BadHead> {
        let text = std::str::from_utf8(file).map_err(|_| BadHead::Text)?;
        let note = Note::parse(text)?;
        let head = Head::read(&note.text).ok_or(BadHead::Text)?;
        Ok(Self { head, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_one_text() {
        let head = Head {
            origin: "audit.example.com/acme".into(),
            size: 17,
            root: Hash::of("root"),
            at: moment::parse("2026-01-31T23:00:00.000000Z").unwrap(),
        };
        let text = head.text();
        assert_eq!(Head::read(&text), Some(head.clone()));
        assert_eq!(Head::read(&format!("{text}more to come\n")), Some(head));
        for bad in [
            text.replace("17", "017"),
            text.replace("17", "+17"),
            text.replace("time ", "time  "),
            text.replace('=', ""),
            text.replace("time 2026-01-31T23:00:00.000000Z\n", ""),
            String::new(),
        ] {
            assert_eq!(Head::read(&bad), None, "{bad}");
        }
    }
}
