//! Waiting for what others do, and not for ever.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::amount;

/// Returns once something holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(amount(20, 80));
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5));
    }
}
