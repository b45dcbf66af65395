//! The confirm token of a cleanup's dry run: what was shown, of which request, when and by which rules,
//! under an HMAC keyed with the API key that asked. So it needs no storage and no secret that replicas
//! share; nobody but the key's holder can make one, and an altered one is seen.
//!
//! It guards against mistakes, not against the key's holder, who may ask for a dry run anyway: no right
//! and no bound of a deletion depends on it alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::audit::lifecycle::RunId;
use contracts::errors::{CONFIRM_EXPIRED, CONFIRM_FOREIGN, CONFIRM_INVALID};
use edge::{Principal, Problem};
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

/// How long a dry run can be confirmed.
pub(super) const CONFIRM_TIME: TimeDelta = TimeDelta::minutes(15);
/// The first byte; another one is another build's.
const VERSION: u8 = 1;
/// Version, whose it is, time, transaction, events, bytes, request, rules.
const CLAIMS_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 8 + 32 + 32;
const MAC_BYTES: usize = 32;

/// What a dry run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The time that it was judged by.
    pub(super) as_of: DateTime<Utc>,
    /// Logs of transactions below this one were looked at.
    pub(super) snapshot_xmin: u64,
    /// Logs that go.
    pub(super) events: u64,
    /// Bytes of their records.
    pub(super) bytes: u64,
    /// Of the request: [`crate::retention::CleanupDraft::fingerprint`].
    pub(super) request: [u8; 32],
    /// SHA-256 of the fingerprint of the tenant's rules.
    pub(super) rules: [u8; 32],
}

impl Shown {
    /// When it cannot be confirmed any more.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        self.as_of + CONFIRM_TIME
    }

    /// Refuses what is too old.
    pub(super) fn check_age(&self, now: DateTime<Utc>) -> Result<(), Problem> {
        if now <= self.expires_at() {
            return Ok(());
        }
        let text = format!("the dry run was made at {}", self.as_of.to_rfc3339());
        Err(Problem::new(CONFIRM_EXPIRED, text))
    }
}

/// A token that its key made for that request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    /// What its dry run showed.
    pub(super) shown: Shown,
    /// The run that it starts: the same for the same token.
    pub(super) run: RunId,
}

/// Makes and reads the tokens of one key.
pub(super) struct Seal {
    /// Tells its tokens from another key's, before anything is computed.
    whose: [u8; 8],
    mac: Hmac<Sha256>,
}

impl Seal {
    /// Of the key that the request carries, which the edge has checked.
    pub(super) fn of(principal: &Principal, headers: &HeaderMap) -> Self {
        let authorization = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let key = authorization.unwrap_or_default().split(|byte| *byte == b' ').next_back();
        Self::new(principal.tenant.as_str(), &principal.key_id, key.unwrap_or_default())
    }

    fn new(tenant: &str, key_id: &str, key: &[u8]) -> Self {
        let mut of = Sha256::new();
        of.update(tenant);
        of.update([0]);
        of.update(key_id);
        let mut whose = [0; 8];
        whose.copy_from_slice(&of.clone().finalize()[..8]);
        let mut secret = Sha256::new_with_prefix("flotilla cleanup confirm\0");
        secret.update(key);
        let mac = Hmac::<Sha256>::new_from_slice(&secret.finalize())
            .unwrap_or_else(|_| unreachable!("any length is a key"));
        Self { whose, mac: mac.chain_update(of.finalize()) }
    }

    /// The token of a dry run.
    pub(super) fn token(&self, shown: &Shown) -> String {
        let mut bytes = Vec::with_capacity(CLAIMS_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.whose);
        bytes.extend(shown.as_of.timestamp_micros().to_be_bytes());
        for number in [shown.snapshot_xmin, shown.events, shown.bytes] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(shown.request);
        bytes.extend(shown.rules);
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token of this key for that request, however old it is.
    pub(super) fn open(&self, token: &str, request: [u8; 32]) -> Result<Confirmed, Problem> {
        let damaged = || Problem::new(CONFIRM_INVALID, "the confirm token is damaged");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| damaged())?;
        let (claims, mac) = bytes.split_at_checked(CLAIMS_BYTES).ok_or_else(damaged)?;
        let (shown, whose) = read(claims).ok_or_else(damaged)?;
        if whose != self.whose {
            return Err(Problem::new(CONFIRM_FOREIGN, "the confirm token is another key's"));
        }
        let expected = self.mac.clone().chain_update(claims);
        expected.verify_slice(mac).map_err(|_| damaged())?;
        if shown.request != request {
            let text = "the confirm token belongs to another filter or another time";
            return Err(Problem::new(CONFIRM_INVALID, text));
        }
        let digest = Sha256::digest(claims);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Ok(Confirmed { shown, run: uuid::Builder::from_custom_bytes(id).into_uuid() })
    }
}

fn read(claims: &[u8]) -> Option<(Shown, [u8; 8])> {
    let claims: &[u8; CLAIMS_BYTES] = claims.try_into().ok()?;
    let number = |at: usize| Some(u64::from_be_bytes(claims[at..at + 8].try_into().ok()?));
    let shown = Shown {
        as_of: DateTime::from_timestamp_micros(number(9)?.cast_signed())?,
        snapshot_xmin: number(17)?,
        events: number(25)?,
        bytes: number(33)?,
        request: claims[41..73].try_into().ok()?,
        rules: claims[73..105].try_into().ok()?,
    };
    (claims[0] == VERSION).then_some((shown, claims[1..9].try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown() -> Shown {
        Shown {
            as_of: "2026-06-01T00:00:00.000001Z".parse().unwrap(),
            snapshot_xmin: 7,
            events: 3,
            bytes: 900,
            request: [1; 32],
            rules: [2; 32],
        }
    }

    fn code(opened: Result<Confirmed, Problem>) -> &'static str {
        opened.unwrap_err().code.code
    }

    #[test]
    fn a_token_is_read_by_its_own_key_for_its_own_request() {
        let seal = Seal::new("acme", "k1", b"flt_live_k1_s");
        let token = seal.token(&shown());
        let opened = seal.open(&token, [1; 32]).unwrap();
        assert_eq!(opened.shown, shown());
        assert_eq!(seal.open(&token, [1; 32]).unwrap().run, opened.run, "the same run");
        let other = Shown { events: 4, ..shown() };
        assert_ne!(seal.open(&seal.token(&other), [1; 32]).unwrap().run, opened.run);
        assert_eq!(code(seal.open(&token, [3; 32])), "confirm-invalid");
        for foreign in [Seal::new("acme", "k2", b"flt_live_k2_s"), Seal::new("b", "k1", b"x")] {
            assert_eq!(code(foreign.open(&token, [1; 32])), "confirm-foreign");
        }
        let guessed = Seal::new("acme", "k1", b"flt_live_k1_guessed");
        assert_eq!(code(seal.open(&guessed.token(&shown()), [1; 32])), "confirm-invalid");
    }

    #[test]
    fn a_token_lasts_so_long() {
        let end = shown().expires_at();
        assert!(shown().check_age(end).is_ok());
        let late = shown().check_age(end + TimeDelta::microseconds(1)).unwrap_err();
        assert_eq!(late.code.code, "confirm-expired");
    }

    proptest! {
        #[test]
        fn an_altered_token_is_seen(at in 0..CLAIMS_BYTES + MAC_BYTES, bit in 0_u8..8) {
            let seal = Seal::new("acme", "k1", b"flt_live_k1_s");
            let mut bytes = URL_SAFE_NO_PAD.decode(seal.token(&shown())).unwrap();
            bytes[at] ^= 1 << bit;
            prop_assert!(seal.open(&URL_SAFE_NO_PAD.encode(bytes), [1; 32]).is_err());
        }

        #[test]
        fn any_text_gets_an_answer(text in ".{0,200}") {
            let seal = Seal::new("acme", "k1", b"flt_live_k1_s");
            prop_assert!(seal.open(&text, [1; 32]).is_err());
        }
    }
}
