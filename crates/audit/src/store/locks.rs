//! The locks of a tenant. One orders inserts against erasures. An insert that read the tombstones
//! just before an erasure committed would bring the log back; so inserts share this lock, an
//! erasure takes it alone, and each looks only after it has it. Another orders deletions against holds,
//! a third the writers of policies and holds among themselves.

use contracts::Tenant;
use sqlx::PgConnection;

/// Tenants share this many locks, so that a batch of a thousand tenants does not fill the server's
/// lock table; two tenants in one bucket wait for each other's erasures, which are rare and short.
const BUCKETS: u64 = 64;
/// First half of the two-part advisory key: "flot" in ASCII, so that no other program's lock meets
/// ours.
const SPACE: u64 = 0x666c_6f74 << 32;
/// The same of holds: "hold". A transaction takes few of these, so tenants do not share them.
const HOLD_SPACE: u64 = 0x686f_6c64 << 32;
/// The same of who writes policies or holds: "rule".
const RULE_SPACE: u64 = 0x7275_6c65 << 32;

fn hashed(tenant: &Tenant) -> u64 {
    // FNV-1a: stable over versions and processes, which std's hasher does not promise.
    tenant.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn bucket(tenant: &Tenant) -> i64 {
    (SPACE | (hashed(tenant) % BUCKETS)).cast_signed()
}

fn of_holds(tenant: &Tenant) -> i64 {
    (HOLD_SPACE | (hashed(tenant) >> 32)).cast_signed()
}

/// Holds off the placing of holds until the transaction ends: who deletes has this first and then looks
/// which holds are in force.
pub(super) async fn share_holds(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(of_holds(tenant))
        .execute(connection)
        .await
        .map(|_| ())
}

/// Holds off deletions of the tenant until the transaction ends: a hold that was answered as placed is
/// seen by every deletion that commits later.
pub(super) async fn holds_alone(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    take_alone(connection, of_holds(tenant)).await
}

/// Holds off other writers of the tenant's rules until the transaction ends: limits and contradictions
/// are judged on what holds then.
pub(super) async fn rules_alone(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    take_alone(connection, (RULE_SPACE | (hashed(tenant) >> 32)).cast_signed()).await
}

async fn take_alone(connection: &mut PgConnection, key: i64) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(connection).await.map(|_| ())
}

/// Holds off erasures of these tenants until the transaction ends. Taken in one order by everyone.
pub(super) async fn share<'a>(
    connection: &mut PgConnection,
    tenants: impl Iterator<Item = &'a Tenant>,
) -> Result<(), sqlx::Error> {
    let mut keys: Vec<i64> = tenants.map(bucket).collect();
    keys.sort_unstable();
    keys.dedup();
    sqlx::query("SELECT pg_advisory_xact_lock_shared(key) FROM unnest($1::bigint[]) AS key")
        .bind(keys)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Holds off inserts and other erasures of the tenant until the transaction ends.
pub(super) async fn alone(
    connection: &mut PgConnection,
    tenant: &Tenant,
) -> Result<(), sqlx::Error> {
    take_alone(connection, bucket(tenant)).await
}
