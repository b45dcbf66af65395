//! The cursor of a search: opaque text that says where the next page starts and which search it
//! belongs to. It carries no right: the tenant is always the key's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use contracts::LogId;
use contracts::errors::CURSOR_INVALID;
use edge::Problem;
use sha2::{Digest, Sha256};
use sinks::search::SortKey;
use uuid::Uuid;

/// The first byte; another one is another build's.
const VERSION: u8 = 1;
/// Version, microseconds, id, fingerprint.
const LENGTH: usize = 1 + 8 + 16 + 8;

/// Ties a cursor to a tenant and a search.
pub type Fingerprint = [u8; 8];

/// The fingerprint of a tenant's search, given its parameters in a fixed order.
pub fn fingerprint(tenant: &str, parameters: &str) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(tenant);
    hash.update([0]);
    hash.update(parameters);
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    short
}

/// Writes the cursor that goes on after `key`.
pub fn encode(key: SortKey, fingerprint: Fingerprint) -> String {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.push(VERSION);
    bytes.extend_from_slice(&key.recorded_at.timestamp_micros().to_be_bytes());
    bytes.extend_from_slice(key.id.0.as_bytes());
    bytes.extend_from_slice(&fingerprint);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a cursor of that search.
pub fn decode(text: &str, fingerprint: Fingerprint) -> Result<SortKey, Problem> {
    let key = read(text).ok_or_else(|| Problem::new(CURSOR_INVALID, "the cursor is damaged"))?;
    if key.1 != fingerprint {
        let detail = "the cursor belongs to a search with other parameters";
        return Err(Problem::new(CURSOR_INVALID, detail));
    }
    Ok(key.0)
}

fn read(text: &str) -> Option<(SortKey, Fingerprint)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let bytes: [u8; LENGTH] = bytes.try_into().ok()?;
    let micros = i64::from_be_bytes(bytes[1..9].try_into().ok()?);
    let id = Uuid::from_slice(&bytes[9..25]).ok()?;
    let recorded_at = DateTime::from_timestamp_micros(micros)?;
    let key = SortKey { recorded_at, id: LogId(id) };
    (bytes[0] == VERSION).then_some((key, bytes[25..].try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_is_bound_to_tenant_and_search() {
        let key = SortKey {
            recorded_at: "2026-03-01T12:00:00.000001Z".parse().unwrap(),
            id: LogId(Uuid::from_u128(7)),
        };
        let mine = fingerprint("acme", "action=a");
        let text = encode(key, mine);
        assert_eq!(decode(&text, mine).unwrap(), key);
        for other in [fingerprint("acme", "action=b"), fingerprint("umbrella", "action=a")] {
            assert_eq!(decode(&text, other).unwrap_err().code.code, "cursor-invalid");
        }
        assert!(decode(&text[1..], mine).is_err());
        assert!(decode("", mine).is_err());
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in ".{0,64}") {
            prop_assert!(decode(&text, [0; 8]).is_err());
        }
    }
}
