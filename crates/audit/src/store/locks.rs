//! The lock that orders inserts against erasures of one tenant. An insert that read the tombstones
//! just before an erasure committed would bring the log back; so inserts share this lock, an
//! erasure takes it alone, and each looks only after it has it.

use contracts::Tenant;
use sqlx::PgConnection;

/// Tenants share this many locks, so that a batch of a thousand tenants does not fill the server's
/// lock table; two tenants in one bucket wait for each other's erasures, which are rare and short.
const BUCKETS: u64 = 64;
/// First half of the two-part advisory key: "flot" in ASCII, so that no other program's lock meets
/// ours.
const SPACE: u64 = 0x666c_6f74 << 32;

fn bucket(tenant: &Tenant) -> i64 {
    // FNV-1a: stable over versions and processes, which std's hasher does not promise.
    let hash = tenant.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (SPACE | (hash % BUCKETS)).cast_signed()
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
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(bucket(tenant))
        .execute(connection)
        .await
        .map(|_| ())
}
