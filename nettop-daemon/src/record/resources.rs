//! What processes and the host used, as the document has it.

use nettop_history::{HostUsage, Usage};
use nettop_model::history::{Host, Resources};

/// Of a row, with the host in the same time.
pub fn resources(usage: &Usage, host: &HostUsage) -> Resources {
    let told = |untold: u64, value: u64| (untold == 0).then_some(value);
    let usage_ms = host.usage_ms.max(1);
    let mean_bytes = |kib_s: u64| u64::try_from(u128::from(kib_s) * 1024 * 1000 / u128::from(usage_ms)).unwrap_or(0);
    Resources {
        user_us: usage.user_us,
        system_us: usage.system_us,
        // A percent of a millisecond is ten microseconds.
        cpu_percent: ratio(usage.cpu_us(), usage_ms * 10),
        wait_us: told(host.untold_wait, usage.wait_us),
        block_io_us: told(host.untold_block_io, usage.block_io_us),
        runnable_mean: ratio(usage.runnable_ms, usage_ms),
        blocked_mean: ratio(usage.blocked_ms, usage_ms),
        rss_mean_bytes: told(host.untold_memory, mean_bytes(usage.rss_kib_s)),
        rss_peak_bytes: told(host.untold_memory, usage.rss_peak_kib * 1024),
        swap_mean_bytes: told(host.untold_memory, mean_bytes(usage.swap_kib_s)),
        read_bytes: told(host.untold_disk, usage.read_bytes),
        write_bytes: told(host.untold_disk, usage.write_bytes),
        cancelled_write_bytes: told(host.untold_disk, usage.cancelled_write_bytes),
        major_faults: usage.major_faults,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
        threads: usage.threads,
        oom_kills: told(host.untold_ended, usage.oom_kills),
    }
}

/// Of the host.
pub const fn host(host: &HostUsage) -> Host {
    Host {
        usage_ms: host.usage_ms,
        user_ms: host.user_ms,
        system_ms: host.system_ms,
        irq_ms: host.irq_ms,
        iowait_ms: host.iowait_ms,
        idle_ms: host.idle_ms,
        steal_ms: host.steal_ms,
        disk_read_bytes: host.disk_read_bytes,
        disk_write_bytes: host.disk_write_bytes,
        swap_in_bytes: host.swap_in_bytes,
        swap_out_bytes: host.swap_out_bytes,
        oom_kills: host.oom_kills,
        memory_bytes: host.memory_total_kib * 1024,
        memory_used_bytes: host.memory_used_kib * 1024,
        swap_bytes: host.swap_total_kib * 1024,
        swap_used_bytes: host.swap_used_kib * 1024,
    }
}

/// With two digits.
#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64 * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_measured_time_and_what_is_untold_is_null() {
        let usage = Usage {
            user_us: 4_000_000,
            system_us: 1_000_000,
            blocked_ms: 15_000,
            rss_kib_s: 10 * 2048,
            ..Usage::default()
        };
        let host =
            HostUsage { usage_ms: 10_000, untold_block_io: 1, untold_disk: 1, untold_ended: 1, ..HostUsage::default() };
        let shown = resources(&usage, &host);
        assert!((shown.cpu_percent - 50.0).abs() < 0.001 && (shown.blocked_mean - 1.5).abs() < 0.001);
        assert_eq!((shown.rss_mean_bytes, shown.wait_us), (Some(2048 * 1024), Some(0)));
        assert_eq!((shown.block_io_us, shown.read_bytes, shown.cancelled_write_bytes), (None, None, None));
        assert_eq!(shown.oom_kills, None);
    }
}
