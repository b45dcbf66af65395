//! Partitions of `logs`: made ahead of the time they hold, counted so that running out is an alarm
//! long before it is an error. What is empty and long over goes by [`retire`].

pub mod retire;

use chrono::{DateTime, Days, Utc};
use contracts::RetentionClass;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

/// Days ahead that the scheduler keeps partitions for.
pub const DAYS_AHEAD: u32 = 14;
/// Fewer remaining than this is an alarm.
pub const REMAINING_ALARM: u32 = 3;
/// Days behind now: clocks differ, and a message may wait in its queue or dead-letter queue, 14
/// days at most on SQS.
pub const DAYS_BEHIND: u32 = 14;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Partitions made by this run.
    pub made: u64,
    /// Partitions that were there.
    pub found: u64,
}

/// How long the partitions of a class last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remaining {
    /// The class.
    pub class: RetentionClass,
    /// Days from now until the first moment without a partition, rounded down.
    pub days: u32,
    /// Partitions, consecutive from the next one on, that are ready and not yet in use.
    pub partitions: u32,
    /// That first moment.
    pub until: DateTime<Utc>,
}

impl Remaining {
    /// Whether to ring: days for classes cut by day; for those cut by month, three days as well,
    /// since a month's partition made 14 days ahead is the last one for most of the month.
    pub fn alarming(&self) -> bool {
        self.days < REMAINING_ALARM
    }
}

/// Makes every partition from `DAYS_BEHIND` before `now` to `days` after it, of every class.
/// Idempotent; two at once are safe. Each partition is its own transaction.
pub async fn ensure_ahead(
    pool: &PgPool,
    now: DateTime<Utc>,
    days: u32,
) -> Result<Made, sqlx::Error> {
    let from = now.checked_sub_days(Days::new(DAYS_BEHIND.into())).unwrap_or(now);
    let to = now.checked_add_days(Days::new(days.into())).unwrap_or(now);
    ensure_range(pool, from, to).await
}

/// Makes every partition that holds a moment from `from` to `to`, both included, of every class.
pub async fn ensure_range(
    pool: &PgPool,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Made, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    ensure_on(&mut connection, from, to).await
}

async fn ensure_on(
    connection: &mut PgConnection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Made, sqlx::Error> {
    let mut total = Made::default();
    for class in RetentionClass::ALL {
        for at in missing(connection, class, from, to).await? {
            let made: bool = sqlx::query_scalar("SELECT flotilla_make_partition($1, $2)")
                .bind(class.as_str())
                .bind(at)
                .fetch_one(&mut *connection)
                .await?;
            total.made += u64::from(made);
        }
    }
    let found: i64 =
        sqlx::query_scalar("SELECT count(*) FROM log_partitions").fetch_one(connection).await?;
    total.found = u64::try_from(found).unwrap_or(0).saturating_sub(total.made);
    Ok(total)
}

/// Starts of the partitions that are not there yet.
async fn missing(
    connection: &mut PgConnection,
    class: RetentionClass,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT starts FROM (
           SELECT DISTINCT flotilla_partition_start($1, at) AS starts
             FROM generate_series($2::timestamptz, $3::timestamptz, interval '1 day') AS at
           UNION SELECT flotilla_partition_start($1, $3)) AS wanted
         WHERE starts NOT IN (SELECT starts_at FROM log_partitions WHERE class = $1)
         ORDER BY starts",
    )
    .bind(class.as_str())
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await
}

/// As [`ensure_ahead`], by PostgreSQL's clock: for migrating, where no other clock is at hand.
pub(crate) async fn ensure_ahead_by_server_clock(
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&mut *connection).await?;
    let from = now.checked_sub_days(Days::new(DAYS_BEHIND.into())).unwrap_or(now);
    let to = now.checked_add_days(Days::new(DAYS_AHEAD.into())).unwrap_or(now);
    Ok(ensure_on(connection, from, to).await?.made)
}

/// How long the partitions of each class last, in the order of [`RetentionClass::ALL`].
pub async fn remaining(pool: &PgPool, now: DateTime<Utc>) -> Result<Vec<Remaining>, sqlx::Error> {
    let bounds: Vec<(String, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "SELECT class, starts_at, ends_at FROM log_partitions WHERE ends_at > $1 ORDER BY starts_at",
    )
    .bind(now)
    .fetch_all(pool)
    .await?;
    Ok(RetentionClass::ALL.into_iter().map(|class| run_of(class, now, &bounds)).collect())
}

/// The unbroken run of partitions from now on: a hole ends it.
fn run_of(
    class: RetentionClass,
    now: DateTime<Utc>,
    bounds: &[(String, DateTime<Utc>, DateTime<Utc>)],
) -> Remaining {
    let (mut until, mut partitions) = (now, 0);
    for (_, starts, ends) in bounds.iter().filter(|(of, ..)| of == class.as_str()) {
        if *starts > until {
            break;
        }
        until = *ends;
        partitions += u32::from(*starts > now);
    }
    let days = u32::try_from((until - now).num_days()).unwrap_or(0);
    Remaining { class, days, partitions, until }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn day(class: &str, of: &str, days: i64) -> (String, DateTime<Utc>, DateTime<Utc>) {
        let starts = at(of);
        (class.to_owned(), starts, starts + chrono::Duration::days(days))
    }

    #[test]
    fn a_hole_ends_the_run_and_fewer_than_three_days_ring() {
        let now = at("2026-03-10T12:00:00Z");
        let mut bounds = vec![
            day("7d", "2026-03-10T00:00:00Z", 1),
            day("7d", "2026-03-11T00:00:00Z", 1),
            day("7d", "2026-03-12T00:00:00Z", 1),
        ];
        let run = run_of(RetentionClass::Days7, now, &bounds);
        assert_eq!((run.days, run.partitions), (2, 2));
        assert!(run.alarming());
        // Three whole days are enough, but not behind a hole.
        bounds.push(day("7d", "2026-03-14T00:00:00Z", 1));
        assert!(run_of(RetentionClass::Days7, now, &bounds).alarming());
        bounds.insert(3, day("7d", "2026-03-13T00:00:00Z", 1));
        assert!(!run_of(RetentionClass::Days7, now, &bounds).alarming());
        // Another class's partitions do not help.
        assert_eq!(run_of(RetentionClass::Days30, now, &bounds).until, now);
    }
}
