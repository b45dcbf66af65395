//! The driver from outside: one conformance suite over `dyn Driver`, run against the emulator and
//! against LocalStack, and a double that fails in ways neither does.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod admin;
mod backends;
mod faults;
mod fifo;
mod standard;

/// The whole suite, once per backend. A behaviour is a function that takes the backend. What stands
/// under `emulator` alone LocalStack 4.14 does otherwise than SQS.
macro_rules! suite {
    (both: [$($module:ident :: $behaviour:ident,)*] emulator: [$($ours:ident :: $only:ident,)*]) => {
        mod on_the_emulator {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$module::$behaviour(super::backends::emulator().await).await;
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $only() {
                super::$ours::$only(super::backends::emulator().await).await;
            })*
        }

        mod on_localstack {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                if let Some(backend) = super::backends::localstack().await {
                    super::$module::$behaviour(backend).await;
                }
            })*
        }
    };
}

suite! {
    both: [
        standard::a_message_arrives_as_it_was_sent,
        standard::an_empty_poll_waits_and_returns_nothing,
        standard::a_long_poll_wakes_when_a_message_arrives,
        standard::a_receive_returns_at_most_what_it_asks_for,
        standard::results_come_in_the_order_of_the_entries,
        standard::a_receipt_twice_in_a_batch_harms_no_other_entry,
        standard::empty_batches_make_no_call,
        standard::a_batch_over_ten_is_refused,
        standard::an_expired_lease_brings_the_message_back,
        standard::zero_gives_a_message_back_at_once,
        standard::an_extension_keeps_a_message_hidden,
        standard::a_settled_message_cannot_be_extended,
        standard::a_delay_is_kept,
        standard::a_body_at_the_limit_passes_and_one_byte_more_does_not,
        standard::a_missing_queue_is_refused_with_its_name,
        fifo::a_group_comes_in_order,
        fifo::a_group_in_flight_is_blocked_and_others_flow,
        fifo::a_duplicate_is_taken_once,
        fifo::a_message_given_back_keeps_its_place,
        admin::queues_carry_the_figures_of_the_catalogue,
        admin::making_a_queue_twice_brings_it_to_the_figures,
        admin::queues_are_listed_by_prefix,
        admin::depth_counts_visible_in_flight_and_delayed,
        admin::a_peek_gives_everything_back,
        admin::a_redrive_sends_and_deletes,
        admin::a_move_task_moves_everything_back,
        admin::a_purge_empties_the_queue,
        admin::the_net_under_a_crash_loop_is_the_dead_letter_queue,
    ]
    emulator: [
        // LocalStack takes any lease in a batch.
        standard::a_lease_over_twelve_hours_is_refused_per_entry,
    ]
}
