//! One reading of PostgreSQL's errors: what to try again, what to wait out, what to reject.

use std::time::Duration;

use contracts::ErrorCode;
use contracts::errors::{DATABASE_UNAVAILABLE, INTERNAL, REJECTED_BY_STORE};
use queue_core::{Failure, Trouble};

/// What an error means for the work that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorClass {
    /// Serialization failure, deadlock, lock timeout: the same transaction may succeed at once, free of charge.
    Retry,
    /// Not reachable, shutting down, out of resources, too slow, not migrated, read-only: wait, never count it.
    Unavailable,
    /// No partition of `logs` holds the row's `recorded_at`: the scheduler is behind, or the time is
    /// wild. The caller knows which: a time near now is `Unavailable`, another is `Data`.
    NoPartition,
    /// The rows themselves are refused (SQLSTATE 22 and 23): it will fail again; bisect and reject.
    Data,
    /// A fault of ours: wrong SQL, a missing right, a column that does not decode.
    Fault,
}

impl DbErrorClass {
    /// Its row in the engine's table.
    pub const fn trouble(self) -> Trouble {
        match self {
            Self::Retry => Trouble::Conflict,
            // It is the scheduler that is behind, not the message that is wrong.
            Self::Unavailable | Self::NoPartition => Trouble::Unavailable,
            Self::Data => Trouble::Invalid,
            Self::Fault => Trouble::Poison,
        }
    }

    /// What a handler answers to it.
    pub fn failure(self, message: impl Into<String>) -> Failure {
        let code = match self {
            // Waiting for a partition is waiting for the database.
            Self::NoPartition => DATABASE_UNAVAILABLE,
            _ => self.code(),
        };
        self.trouble().failure(code, message, None)
    }

    /// The registry's code for it.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Retry | Self::Unavailable => DATABASE_UNAVAILABLE,
            Self::NoPartition | Self::Data => REJECTED_BY_STORE,
            Self::Fault => INTERNAL,
        }
    }
}

/// Reads an error.
pub fn classify(error: &sqlx::Error) -> DbErrorClass {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let without_constraint = database.constraint().is_none();
            classify_state(&code, database.message(), without_constraint)
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        // A connection cut inside a message reads as a protocol violation.
        | sqlx::Error::Protocol(_) => DbErrorClass::Unavailable,
        // A NUL in a text, a value that PostgreSQL's type cannot hold.
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => DbErrorClass::Data,
        _ => DbErrorClass::Fault,
    }
}

/// By SQLSTATE (PostgreSQL, appendix A). The message decides only where one state has two meanings.
fn classify_state(code: &str, message: &str, without_constraint: bool) -> DbErrorClass {
    match code {
        "40001" | "40P01" | "55P03" => DbErrorClass::Retry,
        "23514" if without_constraint => DbErrorClass::NoPartition,
        // `SET ROLE` before the migrations ran.
        "22023" if message.starts_with("role \"flotilla_") => DbErrorClass::Unavailable,
        // Our own bug: a row of another tenant.
        "42501" if message.contains("row-level security") => DbErrorClass::Fault,
        // Read-only after a failover, or a transaction that was aborted; no such database; the
        // migrations or the grants of this release have not run. No message is to blame for these.
        "25006" | "25P02" | "3D000" | "42501" | "42P01" | "42703" | "42883" => {
            DbErrorClass::Unavailable
        }
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "28" | "53" | "55" | "57" | "58" => DbErrorClass::Unavailable,
            // 54: a value or a statement over one of PostgreSQL's own limits.
            "22" | "23" | "54" => DbErrorClass::Data,
            _ => DbErrorClass::Fault,
        },
    }
}

/// Bounds a call from our side too: the server's own statement timeout does not help when the
/// network has swallowed the connection. Ends in [`DbErrorClass::Unavailable`].
pub async fn timed<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_elapsed) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer from PostgreSQL within {limit:?}"),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_by_their_class() {
        use DbErrorClass::{Data, Fault, NoPartition, Retry, Unavailable};
        for (code, message, without_constraint, class) in [
            ("40001", "", true, Retry),
            ("40P01", "", true, Retry),
            ("55P03", "", true, Retry),
            ("08006", "", true, Unavailable),
            ("57P01", "", true, Unavailable),
            ("57014", "", true, Unavailable),
            ("53300", "", true, Unavailable),
            ("53100", "", true, Unavailable),
            ("58030", "", true, Unavailable),
            ("28P01", "", true, Unavailable),
            ("3D000", "", true, Unavailable),
            ("25006", "", true, Unavailable),
            ("42P01", "", true, Unavailable),
            ("22023", "role \"flotilla_api\" does not exist", true, Unavailable),
            ("22023", "invalid value", true, Data),
            ("22001", "", true, Data),
            ("23505", "", false, Data),
            ("23514", "", false, Data),
            ("23514", "", true, NoPartition),
            ("42501", "permission denied for table logs", true, Unavailable),
            ("42501", "new row violates row-level security policy", true, Fault),
            ("25P02", "", true, Unavailable),
            ("55006", "", true, Unavailable),
            ("54000", "", true, Data),
            ("42601", "", true, Fault),
            ("XX000", "", true, Fault),
            ("", "", true, Fault),
        ] {
            assert_eq!(
                classify_state(code, message, without_constraint),
                class,
                "{code} {message}"
            );
        }
    }
}
