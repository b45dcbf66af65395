//! What LocalStack 4.14 does otherwise than Amazon SQS, in one table. Each behaviour runs all the same
//! and has to fail: when it no longer does, its row goes.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// The behaviour, and what LocalStack does instead.
const LOCALSTACK: &[(&str, &str)] = &[
    (
        "a_lease_over_twelve_hours_is_refused_per_entry",
        "takes any lease in ChangeMessageVisibilityBatch; SQS takes 0 to 43,200 seconds",
    ),
    (
        "one_bad_entry_leaves_the_others",
        "takes any DelaySeconds in SendMessageBatch; SQS takes 0 to 900",
    ),
    (
        "an_earlier_receipt_settles_nothing",
        "deletes by any receipt of a message; SQS by the most recent one, others succeed in vain",
    ),
    (
        "a_duplicate_answers_with_the_original",
        "answers a duplicate with a new SequenceNumber; SQS with the original's",
    ),
    (
        "a_hidden_head_blocks_its_followers",
        "hands out a group's later messages while its first is in flight (its issue 12457)",
    ),
    (
        "a_group_deduplicates_by_itself",
        "forgets a group's deduplication id when another group uses it; in SQS each group has its own",
    ),
];

/// Runs a behaviour that LocalStack has to show, or has to fail to show.
pub(crate) async fn unless_different(behaviour: &str, test: impl Future<Output = ()>) {
    let row = LOCALSTACK.iter().find(|(name, _)| *name == behaviour);
    let Some((_, instead)) = row else { return test.await };
    let failed = AssertUnwindSafe(test).catch_unwind().await.is_err();
    assert!(failed, "LocalStack now does {behaviour} as SQS does ({instead}): remove its row");
}

#[test]
fn every_row_names_a_behaviour_of_the_suite() {
    let suite = include_str!("main.rs");
    for (name, _) in LOCALSTACK {
        assert!(suite.contains(&format!("::{name},")), "{name}");
    }
}
