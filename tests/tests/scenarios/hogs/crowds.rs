//! Many at once: commands of a moment, and threads that wait for a disk.

use std::{fs, io::Write as _, os::fd::AsRawFd as _, path::PathBuf, process::Command, thread, time::Instant};

use nettop_model::history::{Document, Resources, Row};
use nettop_tests::{
    amount,
    history::{Mount, image},
    set_name, skip, wait_until,
};
use nix::sys::resource::{UsageWho, getrusage};

use super::{INTERVAL_MS, MIB, Recording, ask, assert_near, burn, cpu_us, run_child, used, worker};

#[test]
fn commands_of_a_moment_are_told_by_name_and_counted_to_the_last() {
    let number = amount(1000, 100);
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let builder = worker(b"builder", |_| {
        for _ in 0..number {
            run_child(|| {
                set_name(b"compile");
                burn(2000);
            });
        }
        cpu_us(&getrusage(UsageWho::RUSAGE_CHILDREN).unwrap())
    });
    builder.go();
    let truth_us = builder.wait_until_ready();
    let pid = builder.pid();
    recording.wait_for_reports(2);
    builder.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "cpu", "-c", "compile"]);
    assert!(document.quality.losses.is_empty(), "{:?}", document.quality.losses);
    // Some may have led by themselves. Those of an interval in which all of them took less than 10 ms are among others.
    let exits: u64 = document.rows.iter().map(|row| used(row).exits.unwrap()).sum();
    let us: u64 = document.rows.iter().map(|row| used(row).cpu_us()).sum();
    let others = ask(&path, &[]).rows.into_iter().find(|row| row.name == "[other]").map(|row| used(&row));
    let (others_exits, others_us) = others.map_or((0, 0), |used| (used.exits.unwrap(), used.cpu_us()));
    // Of the last ones the kernel may report the end later (lazy RCU).
    let least = number - number / 50;
    assert!(
        exits <= number && exits >= number * 9 / 10 && exits + others_exits >= least,
        "{exits} + {others_exits} of {number}"
    );
    // Each took its share.
    let missing_us = truth_us * (number - exits) / number;
    assert!(others_us >= missing_us * 9 / 10, "{others_us} of {missing_us}");
    assert_near("all of them", us + missing_us, truth_us, 2, 5000);
    let crowds: Vec<&Row> = document.rows.iter().filter(|row| row.pid == Some(0)).collect();
    let is_the_builders = |row: &&Row| row.process.parents.first().is_some_and(|parent| parent.pid == pid);
    assert!(crowds.iter().any(is_the_builders), "{crowds:?}");
    let hogs = ask(&path, &["--hogs", "-c", "compile"]).hogs.unwrap();
    let cpu = hogs.iter().find(|hog| hog.measure == "cpu").unwrap();
    assert!(cpu.sentence.starts_with("compile used "), "{cpu:?}");
}

/// Threads of all rows that were in the run queue or waited, times the time.
fn state_ms(document: &Document, of: fn(&Resources) -> f64) -> u64 {
    let usage_ms = document.quality.host.unwrap().usage_ms;
    let mean: f64 = document.rows.iter().map(|row| of(&used(row))).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "minutes")]
    let ms = (mean * usage_ms as f64) as u64;
    ms
}

#[test]
fn threads_that_wait_for_a_disk_are_in_the_load() {
    const THREADS: u64 = 50;
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return skip("mkfs.ext4");
    }
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("image"), 64 * MIB, &[]);
    let disk = Mount::new(folder.path().join("disk"), &["-o", "loop", folder.path().join("image").to_str().unwrap()]);
    let thawed = Thawed(disk.folder.clone());
    let recording = Recording::start(folder.path(), &[]);
    let on_disk = disk.folder.clone();
    let filler = worker(b"filler", |parent| {
        let root = fs::File::open(&on_disk).unwrap();
        // Whoever writes waits from now on (`sb_start_write`), as for a disk that does not answer.
        // SAFETY: the call takes no memory.
        assert_eq!(unsafe { libc::ioctl(root.as_raw_fd(), FIFREEZE, 0) }, 0);
        thread::scope(|scope| {
            for number in 0..THREADS {
                let file = on_disk.join(format!("{number}"));
                scope.spawn(move || fs::File::create(file).unwrap().write_all(&[7; 4096]).unwrap());
            }
            wait_until("all wait", || blocked_threads() == THREADS);
            let begun = Instant::now();
            parent.signal_ready();
            parent.wait_for_parent();
            let waited = begun.elapsed();
            // SAFETY: the call takes no memory.
            assert_eq!(unsafe { libc::ioctl(root.as_raw_fd(), FITHAW, 0) }, 0);
            u64::try_from(waited.as_millis()).unwrap()
        })
    });
    filler.go();
    filler.wait_until_ready();
    recording.wait_for_reports(6);
    filler.go();
    let waited_ms = filler.wait_until_ready();
    let pid = filler.pid();
    filler.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "load"]);
    let row: &Row = super::row(&document, pid);
    let only = Document { rows: vec![row.clone()], ..ask(&path, &["--top", "0"]) };
    let blocked_ms = state_ms(&only, |used| used.blocked_mean);
    let longest_ms = INTERVAL_MS + document.quality.late_ms;
    assert_near("waiting", blocked_ms, THREADS * waited_ms, 1, THREADS * 2 * longest_ms);
    let load = ask(&path, &["--hogs"]).hogs.unwrap().into_iter().find(|hog| hog.measure == "load").unwrap();
    assert_eq!(load.row.pid, Some(pid), "{load:?}");
    drop((thawed, disk));
}

/// Whatever happens, nobody waits for ever.
struct Thawed(PathBuf);

impl Drop for Thawed {
    fn drop(&mut self) {
        if let Ok(root) = fs::File::open(&self.0) {
            // SAFETY: the call takes no memory; it fails where nothing is frozen.
            unsafe { libc::ioctl(root.as_raw_fd(), FITHAW, 0) };
        }
    }
}

/// linux/fs.h: `_IOWR('X', 119, int)` and the next.
const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// Own threads in uninterruptible sleep.
fn blocked_threads() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let is_blocked = |stat: &String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'));
    tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()).filter(is_blocked).count() as u64
}
