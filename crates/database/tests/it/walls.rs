//! Row-level security, as the API's own role, over every table that the catalog says has a tenant:
//! with no predicate no foreign row is read, changed or written, and without a tenant there is none.

use database::sqlx::{self, AssertSqlSafe, PgConnection, PgPool, Row};
use database::{Database, Role};
use testkit::TestDatabase;

use crate::tenant;

/// A table with a column that names the tenant.
struct Walled {
    table: String,
    column: String,
}

/// Every ordinary or partitioned table of `public` with a column `tenant`, and `tenants` itself.
async fn walled(owner: &PgPool) -> Vec<Walled> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name, a.attname::text AS attribute
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND (a.attname IN ('tenant', 'tenant_id') OR (c.relname = 'tenants' AND a.attname = 'id'))
         ORDER BY 1",
    )
    .fetch_all(owner)
    .await
    .expect("the catalog");
    rows.iter().map(|row| Walled { table: row.get("name"), column: row.get("attribute") }).collect()
}

/// Puts one row of a tenant into a table, whatever its columns: values are made up by type, and
/// where a check wants others, by column.
async fn plant(owner: &mut PgConnection, walled: &Walled, tenant: &str) {
    let columns = sqlx::query(
        "SELECT attname::text AS name, format_type(atttypid, atttypmod) AS kind
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull
           AND attgenerated = '' AND attidentity = '' AND d.oid IS NULL",
    )
    .bind(&walled.table)
    .fetch_all(&mut *owner)
    .await
    .expect("the columns");
    let (mut names, mut values) = (vec![], vec![]);
    for column in columns {
        let (name, kind): (String, String) = (column.get("name"), column.get("kind"));
        values.push(if name == walled.column {
            format!("'{tenant}'")
        } else {
            made_up(&walled.table, &name, &kind).to_owned()
        });
        names.push(name);
    }
    if !names.contains(&walled.column) {
        names.push(walled.column.clone());
        values.push(format!("'{tenant}'"));
    }
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
        walled.table,
        names.join(", "),
        values.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(insert.clone()))
        .execute(owner)
        .await
        .unwrap_or_else(|error| panic!("teach `made_up` this table: {insert}: {error}"));
}

fn made_up(table: &str, name: &str, kind: &str) -> &'static str {
    match (name, kind) {
        ("state", _) if table == "policies" => "'active'",
        // What refers to a policy refers to this one.
        ("policy_id", _) => "'00000000-0000-0000-0000-000000000001'",
        ("id", _) if table == "policies" => "'00000000-0000-0000-0000-000000000001'",
        ("retention_class" | "class" | "default_class", _) => "'30d'",
        ("key_id", _) => "substr(md5(random()::text), 1, 16)",
        ("env", _) => "'test'",
        ("outcome", _) => "'success'",
        ("state", _) => "'reserved'",
        ("standing", _) => "'waiting'",
        ("decision", _) => "'done'",
        ("then_do" | "work", _) => "'archive'",
        ("kind", _) => "'key'",
        ("scope", _) => "'rows'",
        ("entries", _) => "''",
        ("severity", _) => "'critical'",
        ("notice", _) => "'opened'",
        ("message_id", _) => "md5(random()::text)",
        ("scopes", _) => "ARRAY['logs:read']",
        (_, "uuid") => "gen_random_uuid()",
        (_, "bytea") => "sha256(random()::text::bytea)",
        (_, "timestamp with time zone") => "now()",
        (_, "date") => "current_date",
        (_, "jsonb") => "'{}'",
        (_, "boolean") => "false",
        (_, "bigint" | "integer" | "smallint") => "1",
        (_, "tsvector") => "''",
        (_, "uuid[]") => "ARRAY[gen_random_uuid()]",
        (_, kind) if kind.ends_with("[]") => "'{}'",
        _ => "'text'",
    }
}

/// A migrated database with a row of `acme` and one of `globex` in every table.
async fn planted() -> (TestDatabase, Vec<Walled>) {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let all = walled(owner.pool()).await;
    let mut connection = owner.pool().acquire().await.expect("connects");
    for name in ["acme", "globex"] {
        sqlx::query("INSERT INTO tenants (id) VALUES ($1)")
            .bind(name)
            .execute(&mut *connection)
            .await
            .expect("a tenant");
        for walled in all.iter().filter(|walled| !is_partition(&walled.table)) {
            plant(&mut connection, walled, name).await;
        }
    }
    (database, all)
}

/// `logs_7d_20260101` and the like, and `logs_7d`; not `log_revisions`.
fn is_partition(table: &str) -> bool {
    table.starts_with("logs_")
}

/// `Ok(rows)`, or `None` where the role has no right at all, which is a wall, too.
fn unless_forbidden<T>(result: Result<T, sqlx::Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => None,
        Err(error) => panic!("{error}"),
    }
}

async fn tenants_seen(
    database: &Database,
    walled: &Walled,
    as_tenant: Option<&str>,
) -> Option<Vec<String>> {
    let mut transaction = match as_tenant {
        Some(name) => database.tenant(&tenant(name)).await.expect("begins"),
        None => database.pool().begin().await.expect("begins"),
    };
    let sql = format!("SELECT DISTINCT {} FROM {}", walled.column, walled.table);
    unless_forbidden(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *transaction).await)
}

#[tokio::test]
async fn reads_meet_no_foreign_row_in_any_table() {
    let (database, all) = planted().await;
    let (api, worker) = (database.connect(Role::Api), database.connect(Role::Worker));
    let mut readable = 0;
    for walled in &all {
        let table = &walled.table;
        if let Some(own) = tenants_seen(&api, walled, Some("acme")).await {
            assert_eq!(own, ["acme"], "{table}");
            readable += 1;
        }
        let without = tenants_seen(&api, walled, None).await.unwrap_or_default();
        assert!(without.is_empty(), "{table}: {without:?} without a tenant");
        // The wall is the API's: the workers see all.
        if let Some(seen) = tenants_seen(&worker, walled, None).await {
            assert!(seen.len() >= 2 || is_partition(table), "{table}: {seen:?}");
        }
    }
    assert!(
        readable >= 5,
        "the API reads logs, log_revisions, tombstones, ingest_keys and tenants"
    );
}

#[tokio::test]
async fn writes_meet_no_foreign_row_in_any_table() {
    let (database, all) = planted().await;
    let (api, owner) = (database.connect(Role::Api), database.connect(Role::Owner));
    for Walled { table, column } in &all {
        let count = format!("SELECT count(*) FROM {table} WHERE {column} = 'globex'");
        let count =
            || sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone())).fetch_one(owner.pool());
        let before = count().await.expect("counts");
        let any = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped LIMIT 1"
        );
        let any: String =
            sqlx::query_scalar(AssertSqlSafe(any)).fetch_one(owner.pool()).await.expect("a column");
        for change in [
            format!("DELETE FROM {table} WHERE {column} = 'globex'"),
            format!("UPDATE {table} SET {any} = {any} WHERE {column} = 'globex'"),
        ] {
            let mut transaction = api.tenant(&tenant("acme")).await.expect("begins");
            let done =
                sqlx::raw_sql(AssertSqlSafe(change.clone())).execute(&mut *transaction).await;
            let rows = unless_forbidden(done).map_or(0, |done| done.rows_affected());
            assert_eq!(rows, 0, "{change}");
            transaction.commit().await.ok();
        }
        assert_eq!(count().await.expect("counts"), before, "{table}");
    }
}

#[tokio::test]
async fn a_row_of_another_tenant_cannot_be_written() {
    let (database, all) = planted().await;
    let owner = database.connect(Role::Owner);
    let api = database.connect(Role::Api);
    // Every right, so that what refuses is the policy and not a missing grant.
    for walled in all.iter().filter(|walled| !is_partition(&walled.table)) {
        let grant = format!("GRANT ALL ON {} TO flotilla_api", walled.table);
        sqlx::raw_sql(AssertSqlSafe(grant)).execute(owner.pool()).await.expect("grants");
    }
    for walled in all.iter().filter(|walled| !is_partition(&walled.table)) {
        let Walled { table, column } = walled;
        // Moving an own row to another tenant is writing a foreign one.
        let steal = format!("UPDATE {table} SET {column} = 'globex'");
        let mut transaction = api.tenant(&tenant("acme")).await.expect("begins");
        let refused = sqlx::raw_sql(AssertSqlSafe(steal)).execute(&mut *transaction).await;
        let code =
            refused.expect_err(table).as_database_error().and_then(|e| e.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{table}");
        drop(transaction);

        let copy = format!(
            "CREATE TEMPORARY TABLE planted ON COMMIT DROP AS SELECT * FROM {table} WHERE {column} = 'globex' LIMIT 1; GRANT SELECT ON planted TO flotilla_api; SET LOCAL ROLE flotilla_api; SELECT set_config('flotilla.tenant', 'acme', true); INSERT INTO {table} SELECT * FROM planted"
        );
        let mut transaction = owner.pool().begin().await.expect("begins");
        let refused = sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *transaction).await;
        let refused = refused.expect_err(table).to_string();
        assert!(refused.contains("row-level security"), "{table}: {refused}");
    }
}

#[tokio::test]
async fn every_table_with_a_tenant_has_both_walls() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let all = walled(owner.pool()).await;
    assert!(all.len() > 50, "the catalog query finds the partitions, too: {}", all.len());
    for Walled { table, .. } in all {
        let (enabled, forced): (bool, bool) = sqlx::query_as(
            "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::regclass",
        )
        .bind(&table)
        .fetch_one(owner.pool())
        .await
        .expect("the table");
        // Partitions are granted to nobody, so that the owner alone could walk round.
        assert!(enabled && (forced || is_partition(&table)), "{table}: SELECT flotilla_wall(…)");
    }
}

#[tokio::test]
async fn a_tenant_set_in_one_transaction_is_gone_in_the_next() {
    let (database, _) = planted().await;
    let mut config = database.config();
    config.database_pool_max = 1;
    let api = Database::connect(&config, Role::Api).expect("the URL is our own");
    let transaction = api.tenant(&tenant("acme")).await.expect("begins");
    transaction.commit().await.expect("commits");
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM logs")
        .fetch_one(api.pool())
        .await
        .expect("counts");
    assert_eq!(seen, 0);
}
