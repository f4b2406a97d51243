//! The host's own counters of CPU, memory and disk, as differences.

use std::path::Path;

use nettop_history::HostUsage;
use procfs::{FromReadSI as _, KernelStats, Meminfo, VmStat};

use crate::sys::proc_file::ProcFile;

/// Counters since boot.
type Counters<const N: usize> = [u64; N];

/// As they were read last; none if that failed.
struct Last<const N: usize>(Option<Counters<N>>);

/// Remembers the last reading.
pub struct Host {
    stat: ProcFile,
    vmstat: ProcFile,
    meminfo: ProcFile,
    last_times: Last<6>,
    last_events: Last<5>,
}

impl Host {
    /// Reads below `proc`, which is /proc outside of tests.
    pub fn new(proc: &Path) -> Self {
        let file = |name: &str| ProcFile::new(proc.join(name));
        let (stat, vmstat, meminfo) = (file("stat"), file("vmstat"), file("meminfo"));
        let mut host = Self { stat, vmstat, meminfo, last_times: Last(None), last_events: Last(None) };
        (host.last_times.0, host.last_events.0) = (host.times(), host.events());
        host
    }

    /// What it did since the last reading. What cannot be read is 0, and is missing once more in the next.
    pub fn read(&mut self) -> HostUsage {
        let (times, events) = (self.times(), self.events());
        let [user_ms, system_ms, irq_ms, iowait_ms, idle_ms, steal_ms] = self.last_times.advance(times);
        let [disk_read_bytes, disk_write_bytes, swap_in_bytes, swap_out_bytes, oom_kills] =
            self.last_events.advance(events);
        let meminfo: Option<Meminfo> = self.meminfo.parse();
        let kib = |bytes: u64| bytes / 1024;
        let [total, available, swap, swap_free] = meminfo.map_or([0; 4], |memory| {
            let available = memory.mem_available.unwrap_or(memory.mem_free);
            [memory.mem_total, available, memory.swap_total, memory.swap_free].map(kib)
        });
        HostUsage {
            user_ms,
            system_ms,
            irq_ms,
            iowait_ms,
            idle_ms,
            steal_ms,
            disk_read_bytes,
            disk_write_bytes,
            swap_in_bytes,
            swap_out_bytes,
            oom_kills,
            memory_total_kib: total,
            memory_used_kib: total.saturating_sub(available),
            swap_total_kib: swap,
            swap_used_kib: swap.saturating_sub(swap_free),
            ..HostUsage::default()
        }
    }

    /// All CPUs by kind, in ms.
    fn times(&mut self) -> Option<Counters<6>> {
        let text = self.stat.read().ok()?;
        let KernelStats { total, .. } = KernelStats::from_read(text, procfs::current_system_info()).ok()?;
        Some([
            total.user_ms() + total.nice_ms(),
            total.system_ms(),
            total.irq_ms().unwrap_or(0) + total.softirq_ms().unwrap_or(0),
            total.iowait_ms().unwrap_or(0),
            total.idle_ms(),
            total.steal_ms().unwrap_or(0),
        ])
    }

    /// Disk and swap in bytes, and ends to free memory.
    fn events(&mut self) -> Option<Counters<5>> {
        let VmStat(vm) = self.vmstat.parse()?;
        let of = |name: &str| vm.get(name).and_then(|value| u64::try_from(*value).ok()).unwrap_or(0);
        let page = procfs::page_size();
        // In KiB, counted where a bio is submitted (`submit_bio`): once, unless a driver of a loop submits it again.
        Some([of("pgpgin") * 1024, of("pgpgout") * 1024, of("pswpin") * page, of("pswpout") * page, of("oom_kill")])
    }
}

impl<const N: usize> Last<N> {
    /// What they grew by. `iowait` and `idle` may fall (`get_iowait_time`): what was counted is not counted again.
    fn advance(&mut self, now: Option<Counters<N>>) -> Counters<N> {
        let mut more = [0; N];
        let highest = match (self.0, now) {
            (Some(last), Some(now)) => {
                more = std::array::from_fn(|at| now[at].saturating_sub(last[at]));
                Some(std::array::from_fn(|at| now[at].max(last[at])))
            }
            (_, now) => now,
        };
        self.0 = highest;
        more
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn counters_are_differences_and_what_is_missing_is_nothing() {
        let proc = tempfile::tempdir().unwrap();
        let write = |user: u64, iowait: u64, read: u64| {
            let line = format!("cpu {user} 20 30 40 {iowait} 6 4 7 0 0");
            let rest = "intr 0\nctxt 1\nbtime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n";
            fs::write(proc.path().join("stat"), format!("{line}\n{}\n{rest}", line.replacen("cpu", "cpu0", 1)))
                .unwrap();
            fs::write(proc.path().join("vmstat"), format!("pgpgin {read}\npgpgout 3\noom_kill 1\n")).unwrap();
        };
        let ms = |ticks: u64| ticks * 1000 / procfs::ticks_per_second();
        let mut host = Host::new(proc.path());
        write(100, 50, 5);
        let read = host.read();
        assert_eq!((read.user_ms, read.disk_read_bytes), (0, 0), "what was before the first reading is not known");
        write(300, 50, 12);
        let read = host.read();
        assert_eq!(read.user_ms, ms(200));
        assert_eq!((read.disk_read_bytes, read.disk_write_bytes, read.oom_kills), (7 * 1024, 0, 0));
        assert_eq!((read.memory_total_kib, read.idle_ms), (0, 0));
        // One falls, and comes back.
        for (iowait, expected) in [(45, 0), (50, 0), (53, 3)] {
            write(300, iowait, 12);
            assert_eq!(host.read().iowait_ms, ms(expected), "{iowait}");
        }
        // A reading fails: what was meanwhile is missing, and what was since boot is not counted.
        fs::write(proc.path().join("stat"), "").unwrap();
        assert_eq!(host.read().user_ms, 0);
        write(1000, 53, 12);
        assert_eq!(host.read().user_ms, 0);
        write(1001, 53, 12);
        assert_eq!(host.read().user_ms, ms(1));
    }
}
