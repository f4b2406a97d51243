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
    /// When the machine was booted, where it is not asked each time: the wall's clock may be set.
    boot: Option<Timestamp>,
}

impl Clock {
    /// Local, or UTC.
    pub fn new(utc: bool) -> Self {
        Self { zone: if utc { TimeZone::UTC } else { TimeZone::system() }, boot: None }
    }

    /// UTC, of a wall's clock that is asked once: the times of one document agree.
    pub fn of_document() -> Self {
        Self { zone: TimeZone::UTC, boot: Some(boot()) }
    }

    /// `22:10:03.123456`.
    pub fn of_day(&self, since_boot_ns: u64) -> String {
        Zoned::new(self.wall(since_boot_ns), self.zone.clone()).strftime("%H:%M:%S%.6f").to_string()
    }

    /// RFC 3339, in UTC.
    pub fn rfc3339(&self, since_boot_ns: u64) -> String {
        format!("{:.6}", self.wall(since_boot_ns))
    }

    /// RFC 3339, in UTC, to the millisecond: below that the difference of two clocks is noise.
    pub fn rfc3339_ms(&self, since_boot_ns: u64) -> String {
        to_ms(self.wall(since_boot_ns))
    }

    fn wall(&self, since_boot_ns: u64) -> Timestamp {
        let since_boot = SignedDuration::from_nanos(i64::try_from(since_boot_ns).unwrap_or(i64::MAX));
        let boot = self.boot.unwrap_or_else(boot);
        boot.checked_add(since_boot).unwrap_or(boot)
    }
}

/// The time of day, RFC 3339 in UTC, to the millisecond.
pub fn now() -> String {
    to_ms(Timestamp::now())
}

fn to_ms(time: Timestamp) -> String {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time).to_string()
}

fn boot() -> Timestamp {
    let now = Timestamp::now();
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| time.num_nanoseconds());
    now.checked_sub(SignedDuration::from_nanos(since_boot)).unwrap_or(now)
}

#[cfg(test)]
pub mod fixed {
    use jiff::{Timestamp, tz::TimeZone};

    use super::Clock;

    /// Of a machine that was booted when 2026 began, in UTC.
    pub fn clock() -> Clock {
        let boot = Timestamp::from_second(1_767_225_600).expect("a time");
        Clock { zone: TimeZone::UTC, boot: Some(boot) }
    }

    #[test]
    fn times_are_those_of_the_wall() {
        assert_eq!(clock().of_day(3_661_000_002_000), "01:01:01.000002");
        assert_eq!(clock().rfc3339(3_661_000_002_000), "2026-01-01T01:01:01.000002Z");
        assert_eq!(clock().rfc3339_ms(3_661_050_999_999), "2026-01-01T01:01:01.05Z");
        assert_eq!(clock().rfc3339_ms(3_661_000_999_999), "2026-01-01T01:01:01Z");
        let now = Clock::new(true).wall(0);
        assert!((now.as_second() - super::boot().as_second()).abs() <= 1);
    }
}
