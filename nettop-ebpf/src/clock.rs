//! The clock of events and sockets.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;

/// Since boot, sleep included.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper has no preconditions; it exists since 5.8.
    unsafe { bpf_ktime_get_boot_ns() }
}
