//! What block devices did, by the kernel's counters, as differences.

use std::{collections::HashMap, path::Path};

use nettop_history::{Disk, DiskUsage, keep_busiest};
use procfs::{DiskStat, DiskStats};

use crate::{
    identity::mounts::MountPoints,
    sys::{escape::escape, proc_file::ProcFile},
};

/// The kernel's unit, whatever the device's sectors are.
const SECTOR_BYTES: u64 = 512;

/// Remembers the last reading.
pub struct Disks {
    stats: ProcFile,
    mounts: MountPoints,
    last: HashMap<String, Counters>,
}

/// Since the device is there.
#[derive(Clone, Copy)]
struct Counters {
    busy_ms: u64,
    read_bytes: u64,
    write_bytes: u64,
}

impl Disks {
    /// Reads below `proc`, which is /proc outside of tests.
    pub fn new(proc: &Path) -> Self {
        let (stats, mounts) = (ProcFile::new(proc.join("diskstats")), MountPoints::new(proc));
        let mut disks = Self { stats, mounts, last: HashMap::new() };
        disks.read(0);
        disks
    }

    /// What the busiest did since the last reading, which was `usage_ms` ago. One that comes begins with its counters as they
    /// are.
    pub fn read(&mut self, usage_ms: u64) -> Vec<(Disk, DiskUsage)> {
        let Some(DiskStats(stats)) = self.stats.parse() else { return Vec::new() };
        self.mounts.refresh();
        let mut now = HashMap::with_capacity(stats.len());
        let mut disks = Vec::new();
        for disk in stats {
            let counters = Counters::of(&disk);
            let usage = match self.last.get(&disk.name) {
                Some(last) => counters.since(last),
                None => DiskUsage::default(),
            };
            let usage = DiskUsage { in_flight_ms: disk.in_progress.saturating_mul(usage_ms), ..usage };
            if usage != DiskUsage::default() {
                let mounted = self.mounts.of(disk.major, disk.minor, &disk.name).unwrap_or_default().to_owned();
                disks.push((Disk { name: escape(disk.name.as_bytes()), mounted }, usage));
            }
            now.insert(disk.name, counters);
        }
        self.last = now;
        keep_busiest(&mut disks);
        disks
    }
}

impl Counters {
    const fn of(disk: &DiskStat) -> Self {
        Self {
            busy_ms: disk.time_in_progress,
            read_bytes: disk.sectors_read.saturating_mul(SECTOR_BYTES),
            write_bytes: disk.sectors_written.saturating_mul(SECTOR_BYTES),
        }
    }

    /// `busy_ms` is printed with 32 bits (`diskstats_show`), and begins anew after 50 days of work.
    const fn since(&self, last: &Self) -> DiskUsage {
        DiskUsage {
            busy_ms: self.busy_ms.saturating_sub(last.busy_ms),
            in_flight_ms: 0,
            read_bytes: self.read_bytes.saturating_sub(last.read_bytes),
            write_bytes: self.write_bytes.saturating_sub(last.write_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nettop_history::MAX_DISKS;

    use super::*;

    #[test]
    fn those_that_did_something_are_there_and_what_was_before_is_not() {
        let proc = tempfile::tempdir().unwrap();
        let line = |name: &str, read: u64, written: u64, in_flight: u64, busy: u64| {
            format!(" 7 99 {name} 5 0 {read} 0 5 0 {written} 0 {in_flight} {busy} 0 0 0 0 0 0 0\n")
        };
        let write = |lines: &[String]| fs::write(proc.path().join("diskstats"), lines.concat()).unwrap();
        write(&[line("sda", 100, 200, 0, 1000), line("sdb", 9, 9, 0, 9)]);
        let mut disks = Disks::new(proc.path());
        write(&[line("sda", 108, 216, 3, 1400), line("sdb", 9, 9, 0, 9), line("sdc", 7, 7, 0, 7)]);
        let read = disks.read(5000);
        let usage = DiskUsage { busy_ms: 400, in_flight_ms: 15_000, read_bytes: 4096, write_bytes: 8192 };
        assert_eq!(read, [(Disk { name: "sda".into(), mounted: String::new() }, usage)]);
        // It hangs: before 5.18 no time is counted then (86d7331299fd).
        write(&[line("sda", 108, 216, 3, 1400)]);
        assert_eq!(disks.read(5000)[0].1, DiskUsage { in_flight_ms: 15_000, ..DiskUsage::default() });
        // Another has its name, or 32 bits were not enough.
        write(&[line("sda", 1, 1, 0, 1)]);
        assert_eq!(disks.read(5000), []);
        let many: Vec<String> = (0..50).map(|number| line(&format!("sd{number}"), 0, 0, number, 0)).collect();
        write(&many);
        let names: Vec<String> = disks.read(1000).into_iter().map(|(disk, _)| disk.name).collect();
        assert_eq!((names.len(), names[0].as_str()), (MAX_DISKS, "sd49"));
    }
}
