//! Which keys are believed: those that the caller gives, and those that key records tie to them. A
//! rotation is signed by both keys, so that either of them vouches for the other: an old chain stays
//! verifiable with the newest key, and a new one with the first.

use std::collections::BTreeMap;

use crate::document::{Body, KeyRecord, Sealed};
use crate::key::VerifyKey;
use crate::note::{Note, Signed};

/// Trusted keys by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keyring {
    keys: BTreeMap<String, VerifyKey>,
}

impl Keyring {
    /// The given keys.
    pub(crate) fn new(given: &[VerifyKey]) -> Self {
        Self { keys: given.iter().map(|key| (key.id(), key.clone())).collect() }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&VerifyKey> {
        self.keys.get(id)
    }

    /// Learns what these key records add, in any order.
    pub(crate) fn learn<'a>(&mut self, records: impl Iterator<Item = &'a Sealed>) {
        let records: Vec<_> =
            records.filter_map(|sealed| Some((key_record(sealed)?, &sealed.note))).collect();
        let named: BTreeMap<String, VerifyKey> = records
            .iter()
            .filter_map(|(record, _)| record.public_key.parse::<VerifyKey>().ok())
            .map(|key| (key.id(), key))
            .collect();
        loop {
            let before = self.keys.len();
            for (record, note) in &records {
                self.rotation(record, note, &named);
            }
            if self.keys.len() == before {
                return;
            }
        }
    }

    fn rotation(
        &mut self,
        record: &KeyRecord,
        note: &Note,
        named: &BTreeMap<String, VerifyKey>,
    ) -> Option<()> {
        let old_id = record.replaces.as_ref()?;
        let new: VerifyKey = record.public_key.parse().ok()?;
        let old = self.keys.get(old_id).or_else(|| named.get(old_id))?.clone();
        let one_trusted = self.keys.contains_key(old_id) || self.keys.contains_key(&new.id());
        let both = [&old, &new].iter().all(|key| note.signed_by(key) == Signed::Valid);
        if one_trusted && both {
            self.keys.extend([(old.id(), old), (new.id(), new)]);
        }
        Some(())
    }

    /// Whether a key record is what it says: its key signed it too, and is trusted.
    pub(crate) fn accepts(&self, record: &KeyRecord, note: &Note) -> bool {
        record.public_key.parse::<VerifyKey>().is_ok_and(|key| {
            self.keys.get(&key.id()) == Some(&key) && note.signed_by(&key) == Signed::Valid
        })
    }

    /// Whether any trusted key of a name signed the note.
    pub(crate) fn signed(&self, note: &Note, name: impl Fn(&VerifyKey) -> bool) -> bool {
        self.keys.values().any(|key| name(key) && note.signed_by(key) == Signed::Valid)
    }
}

/// The key record, when the document is one.
pub(crate) fn key_record(sealed: &Sealed) -> Option<&KeyRecord> {
    match &sealed.document.body {
        Body::Key(record) => Some(record),
        _ => None,
    }
}
