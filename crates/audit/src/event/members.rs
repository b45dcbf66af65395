//! Splits a JSON object or array into its raw members, up to a bound; the text of each stays as it
//! was sent. It never looks into a member.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object or array that fitted the bound, and how many there were.
#[derive(Debug)]
pub(super) struct Members<T> {
    /// The first ones, at most the bound.
    pub(super) kept: Vec<T>,
    /// All of them.
    pub(super) total: usize,
}

/// The key and value of an object's member, as sent.
pub(super) type Pair<'a> = (&'a RawValue, &'a RawValue);

struct Object(usize);
struct Array(usize);

/// The members of an object; `None` when the text is no object.
pub(super) fn of_object(raw: &RawValue, bound: usize) -> Option<Members<Pair<'_>>> {
    Object(bound).deserialize(&mut serde_json::Deserializer::from_str(raw.get())).ok()
}

/// The elements of an array; `None` when the text is no array.
pub(super) fn of_array(raw: &RawValue, bound: usize) -> Option<Members<&RawValue>> {
    Array(bound).deserialize(&mut serde_json::Deserializer::from_str(raw.get())).ok()
}

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Members<Pair<'de>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Members<Pair<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { kept: Vec::new(), total: 0 };
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            members.total += 1;
            if members.kept.len() < self.0 {
                members.kept.push((key, map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

impl<'de> DeserializeSeed<'de> for Array {
    type Value = Members<&'de RawValue>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array {
    type Value = Members<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { kept: Vec::new(), total: 0 };
        while members.kept.len() < self.0 {
            let Some(element) = seq.next_element()? else { return Ok(members) };
            members.total += 1;
            members.kept.push(element);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            members.total += 1;
        }
        Ok(members)
    }
}
