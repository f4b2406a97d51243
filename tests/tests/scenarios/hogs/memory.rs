//! Memory that processes have, and whom the kernel ends for it.

use std::fs;

use nettop_model::history::Row;
use nettop_tests::{MemoryCgroup, set_name, skip};

use super::{INTERVAL_MS, MIB, Recording, ask, assert_near, number_in, row, run_child, used, worker};

#[test]
fn memory_is_what_a_process_knows_of_itself() {
    const KEPT: u64 = 64 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let keeper = worker(b"keeper", |parent| {
        let kept = vec![1_u8; KEPT as usize];
        std::hint::black_box(&kept);
        parent.signal_ready();
        parent.wait_for_parent();
        number_in("/proc/self/status", "VmHWM:") * 1024
    });
    keeper.go();
    keeper.wait_until_ready();
    recording.wait_for_reports(4);
    keeper.go();
    let most = keeper.wait_until_ready();
    let pid = keeper.pid();
    keeper.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "mem"]);
    let keeper = used(row(&document, pid));
    assert!(most > KEPT);
    // Of each of three sums the kernel may keep 32 pages back, or more of many CPUs, for each CPU.
    assert_near("most memory", keeper.rss_peak_bytes.unwrap(), most, 2, 3 * MIB);
    // Each reading in which it had that much counts for an interval.
    let usage_ms = document.quality.host.unwrap().usage_ms;
    let mean_ms = keeper.rss_mean_bytes.unwrap() * usage_ms / KEPT;
    assert!(mean_ms >= 3 * INTERVAL_MS, "{keeper:?} in {usage_ms} ms");
}

#[test]
fn whom_the_kernel_ends_for_memory_is_named() {
    let Some(cgroup) = MemoryCgroup::new(48 * MIB) else {
        return skip("a hierarchy with a memory controller");
    };
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let before = oom_kills();
    let leak = worker(b"leaking", |_| {
        run_child(|| {
            set_name(b"leaker");
            let _ = fs::write("/proc/self/oom_score_adj", "1000");
            cgroup.enter(|| {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            });
        });
        0
    });
    leak.go();
    leak.wait_until_ready();
    leak.finish();
    assert!(oom_kills() > before, "nobody was ended");
    let path = recording.finish();
    let document = ask(&path, &[]);
    let ended: Vec<&Row> = document.rows.iter().filter(|row| used(row).oom_kills > Some(0)).collect();
    assert!(ended.iter().any(|row| row.comm.as_deref() == Some("leaker")), "{ended:?}");
    assert!(document.quality.host.unwrap().oom_kills > 0);
}

fn oom_kills() -> u64 {
    number_in("/proc/vmstat", "oom_kill ")
}
