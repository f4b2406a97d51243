//! What machines wait for, and what they are given.

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::amount;

/// Waits until something holds; returns whether it did in time. An emulated machine gets more, and is asked less often:
/// asking takes it most of a second.
pub fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let (times, pause_ms) = (amount(1, 5), amount(50, 2000));
    let deadline = Instant::now() + limit.saturating_mul(times.try_into().unwrap());
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(pause_ms));
    }
    true
}

/// What `cargo xtask test` passes in the environment.
pub fn given(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; run `cargo xtask test`"));
    value.into()
}
