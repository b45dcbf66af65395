//! queue-sqs
