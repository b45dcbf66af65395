//! The text of an API key, `flt_{env}_{key id}_{secret}`: read, made, never logged.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest key text that is looked at.
pub const KEY_TEXT_MAX: usize = 256;
/// Random bytes of a secret: 256 bits, so that its plain SHA-256 cannot be searched.
const SECRET_BYTES: usize = 32;
/// Characters of a key id.
const KEY_ID_CHARS: usize = 16;
const KEY_ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A key as a client presents it; the secret is hashed at once and not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PresentedKey {
    /// The environment it was made for.
    pub env: String,
    /// Public part.
    pub key_id: String,
    secret_sha256: [u8; 32],
}

impl std::fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentedKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl PresentedKey {
    /// Reads `flt_{env}_{key id}_{secret}`; `None` when the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > KEY_TEXT_MAX {
            return None;
        }
        let mut parts = text.strip_prefix("flt_")?.splitn(3, '_');
        let (env, key_id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid = (1..=16).contains(&env.len())
            && env.bytes().all(lower)
            && (8..=40).contains(&key_id.len())
            && key_id.bytes().all(|c| c.is_ascii_alphanumeric())
            && secret.len() >= 16
            && secret.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
        valid.then(|| Self {
            env: env.to_owned(),
            key_id: key_id.to_owned(),
            secret_sha256: secret_sha256(secret),
        })
    }

    /// Whether the secret is the one whose hash is stored, in time that tells nothing.
    pub fn matches(&self, stored_sha256: &[u8; 32]) -> bool {
        self.secret_sha256.ct_eq(stored_sha256).into()
    }
}

/// The hash under which a secret is stored.
pub fn secret_sha256(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A key that was just made; its text is shown once and stored nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// `flt_{env}_{key id}_{secret}`.
    pub text: String,
    /// Public part.
    pub key_id: String,
    /// What is stored of the secret.
    pub secret_sha256: [u8; 32],
}

impl std::fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratedKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Makes a key for `env` (1 to 16 of `a-z0-9`).
pub fn generate(env: &str) -> GeneratedKey {
    let random: [u8; SECRET_BYTES] = rand::random();
    let secret = URL_SAFE_NO_PAD.encode(random);
    let id_bytes: [u8; KEY_ID_CHARS] = rand::random();
    let key_id: String =
        id_bytes.iter().map(|byte| char::from(KEY_ID_ALPHABET[usize::from(byte % 32)])).collect();
    GeneratedKey {
        text: format!("flt_{env}_{key_id}_{secret}"),
        secret_sha256: secret_sha256(&secret),
        key_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_back() {
        for _ in 0..64 {
            let made = generate("live");
            let read = PresentedKey::parse(&made.text).unwrap();
            assert_eq!((read.env.as_str(), &read.key_id), ("live", &made.key_id));
            assert!(read.matches(&made.secret_sha256));
            assert!(!read.matches(&[0; 32]));
            let secret = made.text.rsplit(&made.key_id).next().unwrap();
            assert!(!format!("{made:?} {read:?}").contains(secret), "a secret in a debug text");
        }
    }

    #[test]
    fn malformed_keys_are_none() {
        let good = "flt_live_abcdefgh_0123456789abcdef";
        assert!(PresentedKey::parse(good).is_some());
        assert!(PresentedKey::parse("flt_live_abcdefgh_0123456789_-cdef").is_some());
        for bad in [
            "",
            "flt_",
            "flt_live_abcdefgh",
            "flt_live_abcdefgh_short",
            "flt_LIVE_abcdefgh_0123456789abcdef",
            "flt__abcdefgh_0123456789abcdef",
            "flt_live_abc_0123456789abcdef",
            "FLT_live_abcdefgh_0123456789abcdef",
            "flt_live_abcdefgh_0123456789abcde ",
            "flt_live_abcdefgh_0123456789abcdé",
            "flt_live_abcd%00gh_0123456789abcdef",
        ] {
            assert!(PresentedKey::parse(bad).is_none(), "{bad}");
        }
        let long = format!("flt_live_abcdefgh_{}", "a".repeat(KEY_TEXT_MAX));
        assert!(PresentedKey::parse(&long).is_none());
    }
}
