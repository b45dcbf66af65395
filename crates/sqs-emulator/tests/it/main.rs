//! The emulator from outside: the broker against a simple reference, replay against the live state,
//! the wire byte by byte, the server with real sockets and files.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod broker;
mod disk;
mod errors;
mod fifo;
mod forms;
mod http;
mod long_polls;
mod reference;
mod replay;
mod support;
