//! The emulator from outside: the broker against a simple reference, replay against the live state,
//! the wire byte by byte, the server with real sockets and files.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod attempts;
mod broker;
mod clock;
mod codecs;
mod disk;
mod errors;
mod fairness;
mod faults;
mod fifo;
mod forms;
mod http;
mod limits;
mod long_polls;
mod origins;
mod page;
mod quotas;
mod redrive;
mod reference;
mod replay;
mod rig;
mod support;
