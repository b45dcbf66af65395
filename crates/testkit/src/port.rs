//! Ports for processes under test that have to be told one before they start.

use local_services::port;

use crate::missing::required;

/// A loopback port that nobody listens on, another one each time, and none that the system hands out
/// by itself: it is still free when the process binds it.
#[track_caller]
pub fn free_port() -> u16 {
    required(port::free())
}
