//! This boot: its id, and the kernel's times since it, regardless of this process's time namespace.

use std::{fs, time::Duration};

use nix::{
    sys::time::TimeValLike as _,
    time::{ClockId, clock_gettime},
};

use crate::places::boot_offset_ns;

const NS_PER_S: u64 = 1_000_000_000;

/// Its id; empty if /proc lacks it; nettopd then does not start.
pub fn id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Time since boot, as in kernel events.
pub fn elapsed() -> Duration {
    // `CLOCK_BOOTTIME` exists since 2.6.39.
    let shown_ns = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| time.num_nanoseconds());
    // Without the offset, nettopd did not start.
    let ns = shown_ns.saturating_sub(boot_offset_ns().unwrap_or(0));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// The kernel's start time for `starttime` of /proc/PID/stat, to a tick.
pub fn start_ns(ticks: u64) -> u64 {
    let shown_ns = ticks.saturating_mul(NS_PER_S / procfs::ticks_per_second().max(1));
    shown_ns.saturating_add_signed(boot_offset_ns().unwrap_or(0).saturating_neg())
}

/// `starttime` of /proc/PID/stat for the kernel's start time: `do_task_stat` shifts it by the reader's time namespace
/// (since 5.5).
pub fn start_ticks(start_time_ns: u64) -> u64 {
    let shown_ns = start_time_ns.saturating_add_signed(boot_offset_ns().unwrap_or(0));
    shown_ns / (NS_PER_S / procfs::ticks_per_second().max(1))
}
