//! JSON to members. Absent and null members are the same; unknown members are ignored; a member of
//! another type is a `SerializationException`, as on AWS.

use serde::de::DeserializeOwned;

use crate::codec::members::{
    Batch, Members, Parameters, ReceiveMembers, SendMembers, SettleEntry, malformed,
};
use crate::errors::SqsError;

/// A request's body.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl Members for Body<'_> {
    fn parameters(&self) -> Result<Parameters, SqsError> {
        read(self.0)
    }

    fn receive(&self) -> Result<ReceiveMembers, SqsError> {
        read(self.0)
    }

    fn send(&self) -> Result<SendMembers, SqsError> {
        read(self.0)
    }

    fn sends(&self) -> Result<Batch<SendMembers>, SqsError> {
        read(self.0)
    }

    fn settles(&self) -> Result<Batch<SettleEntry>, SqsError> {
        read(self.0)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    // An array would be read as a struct's fields in order: only an object is a request.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| *byte != b'{') {
        return Err(malformed("the body is not a JSON object"));
    }
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))
}
