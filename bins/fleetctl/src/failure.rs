//! How a command ends badly: what happened, what to do, and the exit code. It never holds a secret.

use std::fmt::Display;

/// What was verified is in order as far as it goes, but its end is not proved.
pub(crate) const TAIL_UNPROVEN: u8 = 3;
/// A tenant's chain in `PostgreSQL` and the published one are two.
pub(crate) const CHAIN_BROKEN: u8 = 4;
/// The command line is wrong (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// Something does not answer (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: u8 = 69;
/// The configuration is wrong (`EX_CONFIG`).
pub(crate) const CONFIG: u8 = 78;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The process's exit code.
    pub(crate) exit: u8,
}

impl Failure {
    /// It failed; exit code 1.
    pub(crate) fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, exit: 1 }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { exit: USAGE, ..Self::new(message) }
    }

    /// Something does not answer.
    pub(crate) fn unavailable(message: impl Display) -> Self {
        Self { exit: UNAVAILABLE, ..Self::new(message) }
    }

    /// The configuration is wrong.
    pub(crate) fn config(message: impl Display) -> Self {
        Self { exit: CONFIG, ..Self::new(message) }
    }

    /// The same with what to do.
    pub(crate) fn hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }

    /// A failed query, told apart by whether PostgreSQL answered.
    pub(crate) fn database(error: &database::sqlx::Error) -> Self {
        use database::sqlx::Error;
        match error {
            Error::Database(refused) if refused.code().as_deref() == Some("42P01") => {
                Self::new("the schema is not there").hint("run `fleetctl migrate`")
            }
            Error::Database(refused) => Self::new(format!("PostgreSQL refused: {refused}")),
            other => Self::unavailable(format!("PostgreSQL does not answer: {other}"))
                .hint("check DATABASE_URL; `fleetctl doctor` names what is wrong"),
        }
    }

    /// A failed call to SQS, told apart by whether a retry can help.
    pub(crate) fn sqs(error: &queue_core::DriverError) -> Self {
        use queue_core::DriverError;
        match error {
            DriverError::Refused(_) => Self::new(format!("SQS: {error}"))
                .hint("check the queue's variable, the region and the credentials' rights"),
            _ => Self::unavailable(format!("SQS: {error}")).hint(
                "check AWS_ENDPOINT_URL and the network; `fleetctl doctor` names what is wrong",
            ),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<database::sqlx::Error> for Failure {
    fn from(error: database::sqlx::Error) -> Self {
        Self::database(&error)
    }
}
