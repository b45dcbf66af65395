//! What most reads have in common: the few parameters of a list, the key's scope, a transaction of its
//! tenant that changes nothing, and a limit to the time it may take.

use std::time::Duration;

use axum::extract::Query as Pairs;
use chrono::{DateTime, Utc};
use edge::{Principal, Problem, Scope};
use http::Uri;
use sqlx::{Postgres, Transaction};

use super::filters::wrong;
use super::{Api, problems};

/// What a read may take before the client is told that PostgreSQL does not answer.
pub(super) const READ_TIME: Duration = Duration::from_secs(5);

/// The parameters of a list that has few: none that is not known, each once.
pub(super) fn parameters<const N: usize>(
    uri: &Uri,
    known: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| wrong(format!("the query string cannot be read: {error}")))?;
    let mut found = std::array::from_fn(|_| None);
    for (name, value) in pairs {
        let at = known.iter().position(|known| *known == name).ok_or_else(|| {
            wrong(format!("expected no parameter but {}, got {name:.80}", known.join(" and ")))
        })?;
        if found[at].replace(value).is_some() {
            return Err(wrong(format!("expected {name} once, got it twice")));
        }
    }
    Ok(found)
}

/// The time before which things are listed.
pub(super) fn before(text: Option<String>) -> Result<Option<DateTime<Utc>>, Problem> {
    let time = |text: String| {
        text.parse().map_err(|_| wrong("expected before to be a time, e.g. 2026-01-01T00:00:00Z"))
    };
    text.map(time).transpose()
}

impl Api {
    /// What `read` finds for a key of that scope, in a transaction of its tenant, which is given back
    /// undone.
    pub(super) async fn read<T, F>(
        &self,
        principal: &Principal,
        scope: Scope,
        read: impl FnOnce(Transaction<'static, Postgres>) -> F,
    ) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        principal.require(scope)?;
        let reading = async { read(self.database.tenant(&principal.tenant).await?).await };
        database::timed(READ_TIME, reading).await.map_err(problems::database)
    }
}
