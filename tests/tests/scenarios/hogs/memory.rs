//! Memory that processes have, what of it is swapped out, and whom the kernel ends for it.

use std::{ffi::CString, fs, io::Write as _, time::Instant};

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

#[test]
fn what_is_swapped_out_is_its_processs() {
    const TOUCHED: u64 = 64 * MIB;
    let Some(swap) = Swap::new() else {
        return skip("an unused zram device");
    };
    let Some(cgroup) = MemoryCgroup::new(TOUCHED / 2) else {
        return skip("a hierarchy with a memory controller");
    };
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let swapper = worker(b"swapper", |parent| {
        let kept = cgroup.enter(|| vec![1_u8; TOUCHED as usize]);
        parent.signal_ready();
        parent.wait_for_parent();
        let all: u64 = kept.iter().step_by(4096).map(|byte| u64::from(*byte)).sum();
        assert_eq!(all, TOUCHED / 4096);
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
        usage.major_page_faults().cast_unsigned()
    });
    swapper.go();
    swapper.wait_until_ready();
    let pid = swapper.pid();
    let swapped = number_in(&format!("/proc/{pid}/status"), "VmSwap:") * 1024;
    assert!(swapped > TOUCHED / 4, "{swapped}");
    let begun = Instant::now();
    recording.wait_for_reports(6);
    swapper.go();
    let major_faults = swapper.wait_until_ready();
    swapper.finish();
    // What it reads again comes in the place of the rest.
    let kept_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "mem"]);
    let swapper = used(row(&document, pid));
    let host = document.quality.host.unwrap();
    let mean_ms = swapper.swap_mean_bytes.unwrap() * host.usage_ms / swapped;
    // The first reading and the last may have it or not.
    assert_near("swapped", mean_ms, kept_ms, 5, 2 * (INTERVAL_MS + document.quality.late_ms));
    assert_near("major faults", swapper.major_faults, major_faults, 2, 8);
    assert!(host.swap_out_bytes >= swapped && host.swap_in_bytes > 0, "{host:?}");
    drop(swap);
}

/// Memory that holds other memory, compressed.
struct Swap(CString);

impl Swap {
    const DISK_SIZE: &str = "/sys/block/zram0/disksize";

    /// None where there is no such device, or one that is in use.
    fn new() -> Option<Self> {
        const PAGE: usize = 4096;
        const PAGES: u32 = 32_768;
        if fs::read_to_string(Self::DISK_SIZE).ok()?.trim() != "0" {
            return None;
        }
        fs::write(Self::DISK_SIZE, (PAGE * PAGES as usize).to_string()).unwrap();
        // `union swap_header`: version 1, the last page, and the magic word at the end.
        let mut header = vec![0; PAGE];
        header[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
        header[1028..1032].copy_from_slice(&(PAGES - 1).to_ne_bytes());
        header[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
        fs::File::options().write(true).open("/dev/zram0").unwrap().write_all(&header).unwrap();
        let path = CString::new("/dev/zram0").unwrap();
        // SAFETY: the path ends with a zero and outlives the call.
        assert_eq!(unsafe { libc::swapon(path.as_ptr(), 0) }, 0, "{}", std::io::Error::last_os_error());
        Some(Self(path))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the path ends with a zero and outlives the call.
        unsafe { libc::swapoff(self.0.as_ptr()) };
        let _ = fs::write("/sys/block/zram0/reset", "1");
    }
}

fn oom_kills() -> u64 {
    number_in("/proc/vmstat", "oom_kill ")
}
