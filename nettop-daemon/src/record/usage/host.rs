//! The host's own counters of CPU, memory and disk, as differences.

use std::path::PathBuf;

use nettop_history::HostUsage;
use procfs::{FromRead as _, KernelStats, Meminfo, VmStat};

/// Counters since boot.
#[derive(Clone, Copy, Default)]
struct Counters {
    user_ms: u64,
    system_ms: u64,
    irq_ms: u64,
    iowait_ms: u64,
    idle_ms: u64,
    steal_ms: u64,
    disk_read_bytes: u64,
    disk_write_bytes: u64,
    swap_in_bytes: u64,
    swap_out_bytes: u64,
    oom_kills: u64,
}

/// Remembers the last reading.
pub struct Host {
    proc: PathBuf,
    last: Counters,
}

impl Host {
    /// Reads below `proc`, which is /proc outside of tests.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        let mut host = Self { proc: proc.into(), last: Counters::default() };
        host.last = host.counters();
        host
    }

    /// What it did since the last reading. What cannot be read is 0.
    pub fn read(&mut self) -> HostUsage {
        let (now, last) = (self.counters(), self.last);
        self.last = now;
        let meminfo = Meminfo::from_file(self.proc.join("meminfo")).ok();
        let kib = |bytes: u64| bytes / 1024;
        let [total, available, swap, swap_free] = meminfo.map_or([0; 4], |memory| {
            let available = memory.mem_available.unwrap_or(memory.mem_free);
            [memory.mem_total, available, memory.swap_total, memory.swap_free].map(kib)
        });
        HostUsage {
            usage_ms: 0,
            user_ms: now.user_ms.saturating_sub(last.user_ms),
            system_ms: now.system_ms.saturating_sub(last.system_ms),
            irq_ms: now.irq_ms.saturating_sub(last.irq_ms),
            iowait_ms: now.iowait_ms.saturating_sub(last.iowait_ms),
            idle_ms: now.idle_ms.saturating_sub(last.idle_ms),
            steal_ms: now.steal_ms.saturating_sub(last.steal_ms),
            disk_read_bytes: now.disk_read_bytes.saturating_sub(last.disk_read_bytes),
            disk_write_bytes: now.disk_write_bytes.saturating_sub(last.disk_write_bytes),
            swap_in_bytes: now.swap_in_bytes.saturating_sub(last.swap_in_bytes),
            swap_out_bytes: now.swap_out_bytes.saturating_sub(last.swap_out_bytes),
            oom_kills: now.oom_kills.saturating_sub(last.oom_kills),
            memory_total_kib: total,
            memory_used_kib: total.saturating_sub(available),
            swap_total_kib: swap,
            swap_used_kib: swap.saturating_sub(swap_free),
            untold: 0,
        }
    }

    fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        if let Ok(stat) = procfs::FromReadSI::from_file(self.proc.join("stat"), procfs::current_system_info()) {
            let KernelStats { total, .. } = stat;
            counters.user_ms = total.user_ms() + total.nice_ms();
            counters.system_ms = total.system_ms();
            counters.irq_ms = total.irq_ms().unwrap_or(0) + total.softirq_ms().unwrap_or(0);
            counters.iowait_ms = total.iowait_ms().unwrap_or(0);
            counters.idle_ms = total.idle_ms();
            counters.steal_ms = total.steal_ms().unwrap_or(0);
        }
        if let Ok(VmStat(vm)) = VmStat::from_file(self.proc.join("vmstat")) {
            let of = |name: &str| vm.get(name).and_then(|value| u64::try_from(*value).ok()).unwrap_or(0);
            let page = procfs::page_size();
            // In KiB, counted where a bio is submitted (`submit_bio`): once, however many devices it passes.
            counters.disk_read_bytes = of("pgpgin") * 1024;
            counters.disk_write_bytes = of("pgpgout") * 1024;
            counters.swap_in_bytes = of("pswpin") * page;
            counters.swap_out_bytes = of("pswpout") * page;
            counters.oom_kills = of("oom_kill");
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn counters_are_differences_and_what_is_missing_is_nothing() {
        let proc = tempfile::tempdir().unwrap();
        let write = |user: u64, read: u64| {
            let line = format!("cpu {user} 20 30 40 50 6 4 7 0 0");
            let rest = "intr 0\nctxt 1\nbtime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n";
            fs::write(proc.path().join("stat"), format!("{line}\n{}\n{rest}", line.replacen("cpu", "cpu0", 1)))
                .unwrap();
            fs::write(proc.path().join("vmstat"), format!("pgpgin {read}\npgpgout 3\noom_kill 1\n")).unwrap();
        };
        let mut host = Host::new(proc.path());
        write(100, 5);
        assert!(host.read().user_ms > 0);
        write(300, 12);
        let read = host.read();
        assert_eq!(read.user_ms, 200 * 1000 / procfs::ticks_per_second());
        assert_eq!((read.disk_read_bytes, read.disk_write_bytes, read.oom_kills), (7 * 1024, 0, 0));
        assert_eq!((read.memory_total_kib, read.idle_ms), (0, 0));
        fs::remove_file(proc.path().join("stat")).unwrap();
        assert_eq!(host.read().user_ms, 0);
    }
}
