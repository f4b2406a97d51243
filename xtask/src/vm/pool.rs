//! All guests of all machines: more at once than there are CPUs, since each waits some of the time, and the longest first.

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    guest::{self, Report},
    machine::Machine,
    qemu::Accelerator,
};

/// For every two CPUs. With four, each gets so little of them that timeouts expire too soon.
const GUESTS_PER_TWO_CPUS: usize = 3;
/// Memory of QEMU for one, and of scenarios here beside it.
const GUEST_KIB: usize = 2 << 20;

/// Runs all guests and returns a report for each machine.
pub fn run_all(machines: &[Machine], accelerator: Accelerator) -> Vec<anyhow::Result<Report>> {
    let mut guests: Vec<(usize, usize)> = machines
        .iter()
        .enumerate()
        .flat_map(|(number, machine)| (0..machine.guests).map(move |n| (number, n)))
        .collect();
    guests.sort_by_key(|(machine, _)| std::cmp::Reverse(machines[*machine].length()));
    let next = AtomicUsize::new(0);
    let reports: Vec<_> = guests.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some((machine, n)), Some(slot)) = (guests.get(number), reports.get(number)) else { break };
                    let name = machines[*machine].guest_name(*n);
                    eprintln!("xtask: booting {name}");
                    let report = guest::run(&machines[*machine], *n, accelerator);
                    eprintln!("xtask: {name} is off");
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(report);
                    }
                }
            });
        }
    });
    let mut joined: Vec<Option<anyhow::Result<Report>>> = machines.iter().map(|_| None).collect();
    for ((machine, _), report) in guests.iter().zip(reports) {
        let missing = || Err(anyhow::anyhow!("a virtual machine was not run"));
        let report = report.into_inner().ok().flatten().unwrap_or_else(missing);
        joined[*machine] = Some(match joined[*machine].take() {
            None => report,
            Some(first) => first.and_then(|first| report.map(|second| first.join(second))),
        });
    }
    joined.into_iter().flatten().collect()
}

/// How many may run at once: free memory limits it as well.
fn workers() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let free = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available_kib).unwrap_or(usize::MAX);
    (cpus * GUESTS_PER_TWO_CPUS).div_ceil(2).min(free / GUEST_KIB).max(1)
}

fn available_kib(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::available_kib;

    #[test]
    fn free_memory_is_read() {
        assert_eq!(available_kib("MemTotal: 9 kB\nMemAvailable:   24117248 kB\n"), Some(24_117_248));
        assert_eq!(available_kib(""), None);
    }
}
