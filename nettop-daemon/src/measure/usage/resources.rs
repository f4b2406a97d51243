//! What processes and the host used, as documents have it.

use std::{cmp::Reverse, sync::Arc};

use nettop_history::{Disk, DiskUsage, HostUsage, Usage, Who};
use nettop_model::{
    self as model, ContainerNames, Host, ProcessResources, Resources, ResourcesReport,
    snapshot::{Parent, RowReport},
};

/// Of a row, with the host in the same time.
pub fn resources(usage: &Usage, host: &HostUsage) -> Resources {
    let told = |untold: u64, value: u64| (untold == 0).then_some(value);
    let usage_ms = host.usage_ms.max(1);
    let mean_bytes = |kib_s: u64| u64::try_from(u128::from(kib_s) * 1024 * 1000 / u128::from(usage_ms)).unwrap_or(0);
    Resources {
        user_us: usage.user_us,
        system_us: usage.system_us,
        // A percent of a millisecond is ten microseconds.
        cpu_percent: ratio(usage.cpu_us(), usage_ms.saturating_mul(10)),
        wait_us: told(host.untold_wait, usage.wait_us),
        block_io_us: told(host.untold_block_io, usage.block_io_us),
        runnable_mean: ratio(usage.runnable_ms, usage_ms),
        blocked_mean: ratio(usage.blocked_ms, usage_ms),
        rss_mean_bytes: told(host.untold_memory, mean_bytes(usage.rss_kib_s)),
        rss_peak_bytes: told(host.untold_memory, usage.rss_peak_kib.saturating_mul(1024)),
        swap_mean_bytes: told(host.untold_memory, mean_bytes(usage.swap_kib_s)),
        read_bytes: told(host.untold_disk, usage.read_bytes),
        write_bytes: told(host.untold_disk, usage.write_bytes),
        cancelled_write_bytes: told(host.untold_disk, usage.cancelled_write_bytes),
        major_faults: usage.major_faults,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
        threads: usage.threads,
        oom_kills: told(host.untold_ended, usage.oom_kills),
        exits: told(host.untold_ended, usage.exits),
        exits_failed: told(host.untold_ended, usage.exits_failed),
        exits_signaled: told(host.untold_ended, usage.exits_signaled),
        exit_code: None,
        exit_signal: None,
    }
}

/// Of one process, which may have ended.
pub fn of_process(usage: &Usage, host: &HostUsage) -> Resources {
    let status = (usage.exits == 1).then(|| u32::try_from(usage.exit_status).unwrap_or(0));
    let (code, signal) = (status.map(|status| status >> 8), status.map(|status| status & 0x7f));
    Resources {
        exit_code: code.filter(|_| signal == Some(0)),
        exit_signal: signal.filter(|signal| *signal != 0),
        ..resources(usage, host)
    }
}

/// Of a snapshot. `user` is the name of a number; names of containers come with those whose they are.
pub fn report<'a>(
    rows: impl Iterator<Item = (&'a Who, ContainerNames, &'a Usage)>,
    host_usage: &HostUsage,
    disks: &[(Disk, DiskUsage)],
    mut user: impl FnMut(u32) -> Option<String>,
) -> ResourcesReport {
    let (mut processes, mut others) = (Vec::new(), Usage::default());
    for (who, names, usage) in rows {
        if *who == Who::other() {
            others.add(usage);
        } else {
            processes.push(ProcessResources {
                pid: who.pid,
                start_time_ns: who.start_time_ns,
                comm: who.comm.clone(),
                exe: who.exe.clone(),
                script: who.script.clone(),
                uid: who.uid,
                user: who.uid.and_then(&mut user),
                cgroup: who.cgroup.clone(),
                unit: who.unit.clone(),
                container: who.container.clone(),
                names: Arc::new(names),
                parents: who.parents.iter().map(parent).collect(),
                resources: if who.pid == 0 { resources(usage, host_usage) } else { of_process(usage, host_usage) },
            });
        }
    }
    processes.sort_by_key(|process| Reverse(process.resources.cpu_us()));
    ResourcesReport {
        host: host(host_usage),
        disks: self::disks(disks, host_usage),
        processes,
        others: resources(&others, host_usage),
    }
}

/// With each row what its process used.
pub fn add_to_rows(rows: &mut [RowReport], of: impl Fn(u32, u64) -> Option<Resources>) {
    // Rows of a process are mostly next to each other.
    let mut last = (0, 0);
    let mut used: Option<Arc<Resources>> = None;
    for row in rows.iter_mut().filter(|row| row.pid != 0) {
        let process = (row.pid, row.start_time_ns.unwrap_or(0));
        if last != process {
            (last, used) = (process, of(process.0, process.1).map(Arc::new));
        }
        row.resources.clone_from(&used);
    }
}

fn parent(ancestor: &nettop_history::Ancestor) -> Parent {
    let nettop_history::Ancestor { pid, start_time_ns, comm, uid, .. } = ancestor.clone();
    Parent { pid, start_time_ns, comm, uid }
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
        memory_bytes: host.memory_total_kib.saturating_mul(1024),
        memory_used_bytes: host.memory_used_kib.saturating_mul(1024),
        swap_bytes: host.swap_total_kib.saturating_mul(1024),
        swap_used_bytes: host.swap_used_kib.saturating_mul(1024),
    }
}

/// Of block devices, with the host in the same time.
pub fn disks(disks: &[(Disk, DiskUsage)], host: &HostUsage) -> Vec<model::Disk> {
    let usage_ms = host.usage_ms.max(1);
    let disk = |(disk, usage): &(Disk, DiskUsage)| model::Disk {
        name: disk.name.clone(),
        mounted_on: Some(disk.mounted.clone()).filter(|path| !path.is_empty()),
        busy_percent: ratio(usage.busy_ms.min(usage_ms).saturating_mul(100), usage_ms),
        in_flight_mean: ratio(usage.in_flight_ms, usage_ms),
        read_bytes: usage.read_bytes,
        write_bytes: usage.write_bytes,
    };
    disks.iter().map(disk).collect()
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
        assert_eq!((shown.oom_kills, shown.exits), (None, None));
    }

    #[test]
    fn an_end_has_a_code_or_a_signal() {
        let host = HostUsage { usage_ms: 1000, ..HostUsage::default() };
        let end = |exits, exit_status| {
            let shown = of_process(&Usage { exits, exit_status, ..Usage::default() }, &host);
            (shown.exit_code, shown.exit_signal)
        };
        assert_eq!(end(1, 0), (Some(0), None));
        assert_eq!(end(1, 3 << 8), (Some(3), None));
        assert_eq!(end(1, 0x80 | 11), (None, Some(11)), "with its core dumped");
        assert_eq!((end(0, 0), end(2, 9)), ((None, None), (None, None)), "none ended, or several");
    }

    #[test]
    fn all_rows_of_a_process_have_what_it_used() {
        let row = |pid, start| RowReport { pid, start_time_ns: Some(start), ..RowReport::default() };
        let mut rows = [row(7, 1), row(7, 1), row(7, 2), row(0, 1), row(8, 1)];
        add_to_rows(&mut rows, |pid, start| {
            (pid == 7).then(|| Resources { user_us: 10 * start, ..Resources::default() })
        });
        let used = rows.map(|row| row.resources.map(|used| used.user_us));
        assert_eq!(used, [Some(10), Some(10), Some(20), None, None]);
    }
}
