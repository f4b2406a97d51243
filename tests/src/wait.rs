//! Waiting for what others do, and not for ever.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::amount;

/// A bound for what hangs. It is no demand: on a busy machine a daemon's start, a process or a key may take a minute.
pub fn hang_timeout() -> Duration {
    Duration::from_secs(amount(120, 240))
}

/// Returns once something holds.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_at_most(Duration::from_secs(amount(20, 80)), what, holds);
}

/// Returns once something holds, which may take this long.
pub fn wait_at_most(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5));
    }
}
