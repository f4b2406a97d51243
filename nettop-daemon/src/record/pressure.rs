//! The host's load averages and pressure (PSI): how long tasks waited since the last reading.

use std::path::Path;

use nettop_history::Tick;
use procfs::{CpuPressure, IoPressure, LoadAverage, MemoryPressure};

use crate::sys::proc_file::ProcFile;

/// Microseconds of stall since boot. What the kernel does not have is unknown.
#[derive(Clone, Copy, Default)]
struct Stalls {
    cpu_some: Option<u64>,
    memory_some: Option<u64>,
    memory_full: Option<u64>,
    io_some: Option<u64>,
    io_full: Option<u64>,
}

/// Remembers the last reading.
pub struct Pressure {
    load: ProcFile,
    cpu: ProcFile,
    memory: ProcFile,
    io: ProcFile,
    last: Stalls,
    last_ms: u64,
}

impl Pressure {
    /// Reads below `proc`, which is /proc outside of tests. `now_ms` is since boot.
    pub fn new(proc: &Path, now_ms: u64) -> Self {
        let file = |name: &str| ProcFile::new(proc.join(name));
        let (load, cpu, memory, io) =
            (file("loadavg"), file("pressure/cpu"), file("pressure/memory"), file("pressure/io"));
        let mut pressure = Self { load, cpu, memory, io, last: Stalls::default(), last_ms: now_ms };
        pressure.last = pressure.stalls();
        pressure
    }

    /// Notes load and pressure of the time since the last reading. Unknown stays unknown.
    pub fn update(&mut self, tick: &mut Tick, now_ms: u64) {
        let load: Option<LoadAverage> = self.load.parse();
        tick.load = load.map(|load| [load.one, load.five, load.fifteen].map(hundredths));
        let (stalls, last) = (self.stalls(), self.last);
        let elapsed_ms = now_ms.saturating_sub(self.last_ms);
        let percent = |now: Option<u64>, before: Option<u64>| -> Option<f64> {
            // Whole tenths of a percent are exact enough, and short in the file.
            let tenths = now?.saturating_sub(before?) / elapsed_ms.max(1);
            u32::try_from(tenths.min(1000)).ok().map(|tenths| f64::from(tenths) / 10.0)
        };
        tick.cpu_some = percent(stalls.cpu_some, last.cpu_some);
        tick.memory_some = percent(stalls.memory_some, last.memory_some);
        tick.memory_full = percent(stalls.memory_full, last.memory_full);
        tick.io_some = percent(stalls.io_some, last.io_some);
        tick.io_full = percent(stalls.io_full, last.io_full);
        (self.last, self.last_ms) = (stalls, now_ms);
    }

    fn stalls(&mut self) -> Stalls {
        let cpu: Option<CpuPressure> = self.cpu.parse();
        let memory: Option<MemoryPressure> = self.memory.parse();
        let io: Option<IoPressure> = self.io.parse();
        Stalls {
            cpu_some: cpu.map(|cpu| cpu.some.total),
            memory_some: memory.as_ref().map(|memory| memory.some.total),
            memory_full: memory.map(|memory| memory.full.total),
            io_some: io.as_ref().map(|io| io.some.total),
            io_full: io.map(|io| io.full.total),
        }
    }
}

/// The two digits that the kernel shows, without what is left of a shorter float.
fn hundredths(load: f32) -> f64 {
    (f64::from(load) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pressure_is_what_was_stalled_between_two_readings() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("pressure")).unwrap();
        let write = |total: u64| {
            let lines = format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            );
            fs::write(proc.path().join("pressure/io"), lines).unwrap();
        };
        write(1_000_000);
        fs::write(proc.path().join("loadavg"), "4.25 1.00 0.50 2/300 4711\n").unwrap();
        let mut pressure = Pressure::new(proc.path(), 500);
        write(3_500_000);
        let mut tick = Tick::default();
        pressure.update(&mut tick, 10_500);
        assert_eq!(tick.load, Some([4.25, 1.0, 0.5]));
        assert_eq!((tick.io_some, tick.io_full), (Some(25.0), Some(0.0)));
        assert_eq!(tick.cpu_some, None, "a kernel without PSI does not say 0");
    }
}
