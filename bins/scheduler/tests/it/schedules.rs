//! Policies' slots become messages, once, whichever scheduler is active; and what waits in the outbox
//! reaches its queue.

use std::net::Ipv4Addr;

use chassis::Broker;
use contracts::catalogue::AUDIT_RETENTION;
use database::Role;
use database::sqlx::{self, PgPool};
use queue_sqs::{AwsConfig, Deployment, Sqs};
use sqs_emulator::Server;
use testkit::{TestDatabase, eventually};
use tokio_util::sync::CancellationToken;

use crate::takeover::{DEADLINE, Process, holder};

/// A policy that was written in 2026 and whose latest slot is the last minute.
async fn policy(pool: &PgPool, name: &str) {
    let write = r#"WITH one AS (
        INSERT INTO policies (tenant, id, name, version, state)
        VALUES ('acme', gen_random_uuid(), $1, 1, 'active') RETURNING id)
        INSERT INTO policy_versions (tenant, policy_id, version, spec, effective_from, created_by, created_at)
        SELECT 'acme', id, 1, jsonb_build_object('name', $1, 'keep', 'P30D', 'then', 'delete', 'schedule',
                 '{"cron": "0 3 * * *", "time_zone": "Europe/Berlin"}'::jsonb), '2026-01-01', '{}', '2026-01-01'
          FROM one"#;
    sqlx::query(write).bind(name).execute(pool).await.expect("a policy");
}

/// Messages in the outbox by policy's name.
async fn told(pool: &PgPool) -> Vec<(String, i64)> {
    let count = "SELECT p.name, count(*) FROM outbox o JOIN policies p
                     ON p.id::text = convert_from(o.envelope, 'UTF8')::jsonb #>> '{body,policy_id}'
                  GROUP BY p.name ORDER BY p.name";
    sqlx::query_as(count).fetch_all(pool).await.expect("counts")
}

#[tokio::test]
async fn a_slot_is_told_once_also_when_the_active_scheduler_is_killed() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    policy(owner.pool(), "before").await;
    let two = [Process::start(database.url()), Process::start(database.url())];
    let (active, _) =
        eventually(DEADLINE, "one is active", async || holder(owner.pool()).await).await;
    let before = vec![("before".to_owned(), 1)];
    eventually(DEADLINE, "the slot is told", async || {
        (told(owner.pool()).await == before).then_some(())
    })
    .await;
    let (mut active, standby): (Vec<_>, Vec<_>) =
        two.into_iter().partition(|process| process.id() == active);
    active.pop().expect("one of the two").kill();
    policy(owner.pool(), "later").await;
    let both = vec![("before".to_owned(), 1), ("later".to_owned(), 1)];
    eventually(DEADLINE, "the other one goes on", async || {
        (told(owner.pool()).await == both).then_some(())
    })
    .await;
    let (follower, _) = holder(owner.pool()).await.expect("it is active");
    assert_eq!(follower, standby[0].id());
}

#[tokio::test]
async fn what_waits_in_the_outbox_reaches_its_queue() {
    let database = TestDatabase::new().await;
    let owner = database.connect(Role::Owner);
    let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), None).await.expect("binds");
    let endpoint = server.endpoint();
    let stop = CancellationToken::new();
    tokio::spawn(server.run(stop.clone()));
    let options = [
        "--aws-region=us-east-1".to_owned(),
        format!("--aws-endpoint-url={endpoint}"),
        "--aws-access-key-id=test".to_owned(),
        "--aws-secret-access-key=test".to_owned(),
    ];
    let none = chassis::Environment::empty();
    let aws = chassis::config::parse::<AwsConfig>("test", options.clone(), &none).expect("options");
    let sqs = Sqs::connect(&aws).await.expect("connects");
    let made = sqs.admin().create(&AUDIT_RETENTION, Deployment::Dev).await.expect("a queue");
    policy(owner.pool(), "nightly").await;
    let mut arguments = options.to_vec();
    arguments.push(format!("--audit-retention-queue-url={}", made.url));
    let _scheduler = Process::start_with(database.url(), &arguments);
    let queue = <Sqs as Broker>::queue(&sqs, AUDIT_RETENTION.name, &made.url);
    eventually(DEADLINE, "the message is in the queue", async || {
        let counts = queue.attributes().await.expect("counts");
        (counts.depth.visible == 1).then_some(())
    })
    .await;
    eventually(DEADLINE, "and in the outbox no more", async || {
        told(owner.pool()).await.is_empty().then_some(())
    })
    .await;
    stop.cancel();
}
