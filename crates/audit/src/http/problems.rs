//! Failures of the parts behind the routes as problem documents. The parts' own words go to the log,
//! not to the client.

use contracts::errors::{DATABASE_UNAVAILABLE, INTERNAL, INVALID_FIELD, INVALID_JSON, NOT_FOUND};
use contracts::{ErrorCode, errors};
use database::DbErrorClass;
use edge::{FieldProblem, Problem};
use sinks::SinkError;

use crate::event::{FieldError, Invalid};
use crate::ingest::Refused;
use crate::publish::PublishError;

/// PostgreSQL failed.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(crate) fn database(error: sqlx::Error) -> Problem {
    match database::classify(&error) {
        DbErrorClass::Unavailable | DbErrorClass::Retry => {
            tracing::warn!(%error, "PostgreSQL failed a request");
            Problem::new(DATABASE_UNAVAILABLE, "PostgreSQL does not answer now").retry_after(2)
        }
        DbErrorClass::NoPartition | DbErrorClass::Data | DbErrorClass::Fault => {
            tracing::error!(%error, "PostgreSQL refused a request's query");
            Problem::new(INTERNAL, "the request hit a fault of ours")
        }
    }
}

/// The search engine or Redis failed.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(crate) fn sink(error: SinkError) -> Problem {
    tracing::warn!(%error, "a sink failed a request");
    Problem::new(error.code(), format!("{} does not answer now", error.sink)).retry_after(2)
}

/// The queue did not take it.
#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(crate) fn publish(error: PublishError) -> Problem {
    Problem::new(error.code(), error.to_string()).retry_after(error.retry_after_secs())
}

/// A request was refused as a whole.
pub(crate) fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Publish(error) => publish(error),
        Refused::Mismatch => Problem::new(refused.code(), refused.to_string()),
        Refused::KeysUnavailable(_) => {
            Problem::new(refused.code(), refused.to_string()).retry_after(2)
        }
    }
}

/// The code and the fields of an event that cannot be taken.
pub(crate) fn invalid(invalid: Invalid) -> (ErrorCode, String, Vec<FieldProblem>) {
    let detail = invalid.to_string();
    match invalid {
        Invalid::Json(_) => (INVALID_JSON, detail, Vec::new()),
        Invalid::TooLarge { .. } => (errors::BODY_TOO_LARGE, detail, Vec::new()),
        Invalid::Fields(fields) => (INVALID_FIELD, detail, fields.into_iter().map(field).collect()),
    }
}

fn field(error: FieldError) -> FieldProblem {
    FieldProblem { pointer: error.pointer, detail: error.detail }
}

/// One field of a body is wrong.
pub(crate) fn one_field(pointer: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::new(INVALID_FIELD, format!("{pointer}: {detail}"))
        .with_errors(vec![FieldProblem { pointer: pointer.to_owned(), detail }])
}

/// No log of that id, or of another tenant: the answer is the same.
pub(crate) fn no_such_log() -> Problem {
    Problem::new(NOT_FOUND, "no log of that id is stored for this tenant")
}
