//! Times of events: the kernel's clock since boot, as people read it.

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use nettop_kernel::boot;

/// Turns times since boot into times of day.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
    /// Boot time, if not asked each time: the wall clock may be set.
    boot: Option<Timestamp>,
}

impl Clock {
    /// Local, or UTC.
    pub fn new(utc: bool) -> Self {
        Self { zone: if utc { TimeZone::UTC } else { TimeZone::system() }, boot: None }
    }

    /// UTC, by a wall clock that is read once: the times of one document agree.
    pub fn of_document() -> Self {
        Self { zone: TimeZone::UTC, boot: Some(booted()) }
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
        let boot = self.boot.unwrap_or_else(booted);
        boot.checked_add(since_boot).unwrap_or(boot)
    }
}

/// The time of day, RFC 3339 in UTC, to the millisecond.
pub fn now() -> String {
    to_ms(Timestamp::now())
}

fn to_ms(time: Timestamp) -> String {
    format!("{time:.3}")
}

fn booted() -> Timestamp {
    let now = Timestamp::now();
    SignedDuration::try_from(boot::elapsed())
        .ok()
        .and_then(|since_boot| now.checked_sub(since_boot).ok())
        .unwrap_or(now)
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
        assert_eq!(clock().rfc3339_ms(3_661_050_999_999), "2026-01-01T01:01:01.050Z");
        assert_eq!(clock().rfc3339_ms(3_661_000_999_999), "2026-01-01T01:01:01.000Z");
        let now = Clock::new(true).wall(0);
        assert!((now.as_second() - super::booted().as_second()).abs() <= 1);
    }
}
