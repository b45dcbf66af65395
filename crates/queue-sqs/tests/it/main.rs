//! One conformance suite for every driver and broker: the emulator in this process, the emulator over
//! HTTP, LocalStack. And a double that fails in ways none of them does.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod admin;
mod backends;
mod dead_letters;
mod differences;
mod faults;
mod fifo;
mod standard;
mod storm;
mod wakes;

/// The whole suite, once per backend. A behaviour is a function that takes the backend. What LocalStack
/// does otherwise than SQS stands in `differences`, with the reason, and is run there, too.
macro_rules! suite {
    (
        drivers: [$($module:ident :: $behaviour:ident,)*]
        over_http: [$($admin:ident :: $operation:ident,)*]
    ) => {
        mod on_the_broker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$module::$behaviour(super::backends::in_process().await).await;
            })*
        }

        mod on_the_emulator {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$module::$behaviour(super::backends::emulator().await).await;
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $operation() {
                super::$admin::$operation(super::backends::emulator().await).await;
            })*
        }

        mod on_localstack {
            use super::differences::unless_different;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                if let Some(backend) = super::backends::localstack().await {
                    let test = super::$module::$behaviour(backend);
                    unless_different(stringify!($behaviour), test).await;
                }
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $operation() {
                if let Some(backend) = super::backends::localstack().await {
                    let test = super::$admin::$operation(backend);
                    unless_different(stringify!($operation), test).await;
                }
            })*
        }
    };
}

suite! {
    drivers: [
        standard::a_message_arrives_as_it_was_sent,
        standard::odd_characters_arrive_as_they_were_sent,
        standard::an_empty_poll_waits_and_returns_nothing,
        standard::a_receive_returns_at_most_what_it_asks_for,
        standard::results_come_in_the_order_of_the_entries,
        standard::one_bad_entry_leaves_the_others,
        standard::a_receipt_twice_in_a_batch_harms_no_other_entry,
        standard::empty_batches_do_nothing,
        standard::a_batch_over_ten_is_refused,
        standard::an_expired_lease_brings_the_message_back,
        standard::the_latest_receipt_settles_after_its_lease,
        standard::an_earlier_receipt_settles_nothing,
        standard::zero_gives_a_message_back_at_once,
        standard::an_extension_keeps_a_message_hidden,
        standard::a_lease_over_twelve_hours_is_refused_per_entry,
        standard::a_settled_message_cannot_be_extended,
        standard::a_delay_is_kept,
        standard::a_body_at_the_limit_passes_and_one_byte_more_does_not,
        standard::a_batch_over_the_limit_is_refused_whole,
        standard::depth_counts_visible_in_flight_and_delayed,
        wakes::a_long_poll_wakes_when_a_message_arrives,
        wakes::a_long_poll_wakes_when_a_lease_ends,
        wakes::a_long_poll_wakes_when_a_message_is_given_back,
        wakes::a_long_poll_wakes_when_a_group_is_free,
        fifo::a_group_comes_in_order,
        fifo::a_group_in_flight_is_blocked_and_others_flow,
        fifo::a_hidden_head_blocks_its_followers,
        fifo::a_head_comes_while_its_follower_is_in_flight,
        fifo::a_duplicate_is_taken_once,
        fifo::a_duplicate_is_taken_once_after_it_was_settled,
        fifo::a_group_deduplicates_by_itself,
        fifo::a_message_given_back_keeps_its_place,
        fifo::an_expired_receipt_settles_nothing,
        fifo::a_sequence_is_kept,
        dead_letters::what_is_received_too_often_is_dead,
        dead_letters::a_dead_message_frees_its_group,
    ]
    over_http: [
        standard::a_missing_queue_is_refused_with_its_name,
        fifo::a_duplicate_answers_with_the_original,
        admin::queues_carry_the_figures_of_the_catalogue,
        admin::making_a_queue_twice_brings_it_to_the_figures,
        admin::queues_are_listed_by_prefix,
        admin::a_peek_gives_everything_back,
        admin::a_redrive_sends_and_deletes,
        admin::a_move_task_moves_everything_back,
        admin::a_purge_empties_the_queue,
    ]
}
