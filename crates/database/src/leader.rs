//! A lease in PostgreSQL: one holder at a time by the server's clock, and an epoch that fences off
//! a holder which has been asleep for longer than its term.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

/// A lease that is held. Losing it is noticed by [`Lease::renew`] or, for certain, by [`Lease::guard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is for, e.g. `scheduler`.
    pub name: String,
    /// Who holds it, unique per process run.
    pub holder: String,
    /// Grows with every change of holder.
    pub epoch: i64,
    /// How long it lasts without a renewal.
    pub ttl: Duration,
}

/// Takes the lease when it is free or its term has ended; `None` while another holds it.
pub async fn acquire(
    pool: &PgPool,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<Lease>, sqlx::Error> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "INSERT INTO leases AS held (name, holder, epoch, expires_at)
         VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (name) DO UPDATE
           SET holder = excluded.holder, epoch = held.epoch + 1,
               expires_at = clock_timestamp() + make_interval(secs => $3)
           WHERE held.expires_at <= clock_timestamp()
         RETURNING epoch",
    )
    .bind(name)
    .bind(holder)
    .bind(ttl.as_secs_f64())
    .fetch_optional(pool)
    .await?;
    Ok(epoch.map(|epoch| Lease { name: name.to_owned(), holder: holder.to_owned(), epoch, ttl }))
}

impl Lease {
    /// Extends the term from now; `false` when it has ended, taken by another or not.
    pub async fn renew(&self, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let renewed = sqlx::query(
            "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $4)
             WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()",
        )
        .bind(&self.name)
        .bind(&self.holder)
        .bind(self.epoch)
        .bind(self.ttl.as_secs_f64())
        .execute(pool)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Inside a transaction: `true` when the lease is held, and no other can take it before the
    /// transaction ends. What must be done by the holder alone goes into that transaction.
    pub async fn guard(&self, transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let held: Option<i32> = sqlx::query_scalar(
            "SELECT 1 FROM leases
             WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()
             FOR SHARE",
        )
        .bind(&self.name)
        .bind(&self.holder)
        .bind(self.epoch)
        .fetch_optional(transaction)
        .await?;
        Ok(held.is_some())
    }

    /// Gives it back, so that another need not wait for its term to end.
    pub async fn release(self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE leases SET expires_at = clock_timestamp()
             WHERE name = $1 AND holder = $2 AND epoch = $3 AND expires_at > clock_timestamp()",
        )
        .bind(&self.name)
        .bind(&self.holder)
        .bind(self.epoch)
        .execute(pool)
        .await?;
        Ok(())
    }
}
