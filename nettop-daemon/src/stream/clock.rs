//! Times of events: the kernel's clock since boot, as people read it.

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};

/// Turns times since boot into times of day.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// Local, or UTC.
    pub fn new(utc: bool) -> Self {
        Self { zone: if utc { TimeZone::UTC } else { TimeZone::system() } }
    }

    /// `22:10:03.123456`.
    pub fn of_day(&self, since_boot_ns: u64) -> String {
        Zoned::new(wall(since_boot_ns), self.zone.clone()).strftime("%H:%M:%S%.6f").to_string()
    }

    /// RFC 3339, in UTC.
    pub fn rfc3339(since_boot_ns: u64) -> String {
        format!("{:.6}", wall(since_boot_ns))
    }
}

/// The kernel's clocks are compared each time: the wall's may be set.
fn wall(since_boot_ns: u64) -> Timestamp {
    let now = Timestamp::now();
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .map(|time| SignedDuration::from_nanos(time.num_nanoseconds()));
    let since = i64::try_from(since_boot_ns).ok().map(SignedDuration::from_nanos);
    match (since_boot, since) {
        (Some(boot), Some(event)) => now.checked_sub(boot - event).unwrap_or(now),
        _ => now,
    }
}
