//! The host's load averages and pressure (PSI): how long tasks waited since the last look.

use std::{collections::HashMap, fs, path::PathBuf};

use nettop_history::Tick;

/// Microseconds of stall since boot, by resource and `some` or `full`.
type Stalls = HashMap<(&'static str, &'static str), u64>;

const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

/// Remembers the last look.
pub struct Pressure {
    proc: PathBuf,
    last: Stalls,
    last_ms: u64,
}

impl Pressure {
    /// Reads below `proc`, which is /proc outside of tests. `now_ms` is since boot.
    pub fn new(proc: impl Into<PathBuf>, now_ms: u64) -> Self {
        let mut pressure = Self { proc: proc.into(), last: Stalls::new(), last_ms: now_ms };
        pressure.last = pressure.stalls();
        pressure
    }

    /// Notes load and pressure of the time since the last look. Unknown stays unknown.
    pub fn look(&mut self, tick: &mut Tick, now_ms: u64) {
        let text = fs::read_to_string(self.proc.join("loadavg")).unwrap_or_default();
        let numbers: Vec<f64> = text.split(' ').take(3).map_while(|number| number.parse().ok()).collect();
        tick.load = numbers.try_into().ok();
        let stalls = self.stalls();
        let elapsed_ms = now_ms.saturating_sub(self.last_ms);
        let percent = |resource, kind| -> Option<f64> {
            let (now, before) = (stalls.get(&(resource, kind))?, self.last.get(&(resource, kind))?);
            // Whole tenths of a percent are exact enough, and short in the file.
            let tenths = now.saturating_sub(*before) / elapsed_ms.max(1);
            u32::try_from(tenths.min(1000)).ok().map(|tenths| f64::from(tenths) / 10.0)
        };
        tick.cpu_some = percent("cpu", "some");
        tick.memory_some = percent("memory", "some");
        tick.memory_full = percent("memory", "full");
        tick.io_some = percent("io", "some");
        tick.io_full = percent("io", "full");
        (self.last, self.last_ms) = (stalls, now_ms);
    }

    fn stalls(&self) -> Stalls {
        let mut stalls = Stalls::new();
        for resource in RESOURCES {
            let text = fs::read_to_string(self.proc.join("pressure").join(resource)).unwrap_or_default();
            for line in text.lines() {
                let kind = if line.starts_with("some") { "some" } else { "full" };
                let total = line.split("total=").nth(1).and_then(|total| total.parse().ok());
                if let Some(total) = total {
                    stalls.insert((resource, kind), total);
                }
            }
        }
        stalls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_what_was_stalled_between_two_looks() {
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
        pressure.look(&mut tick, 10_500);
        assert_eq!(tick.load, Some([4.25, 1.0, 0.5]));
        assert_eq!((tick.io_some, tick.io_full), (Some(25.0), Some(0.0)));
        assert_eq!(tick.cpu_some, None, "a kernel without PSI does not say 0");
    }
}
