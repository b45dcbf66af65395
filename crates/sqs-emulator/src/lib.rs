//! sqs-emulator
