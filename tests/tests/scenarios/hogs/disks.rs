//! Which disk those wait for who wait.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Instant,
};

use nettop_model::history::Document;
use nettop_tests::skip;
use nix::mount::{MsFlags, mount};

use super::{INTERVAL_MS, Recording, ask, assert_near, row, used, worker};

#[test]
fn threads_that_wait_for_a_slow_disk_are_its_requests_in_flight() {
    const THREADS: u64 = 50;
    let Some(disk) = SlowDisk::new() else {
        return skip("null_blk, whose requests take as long as one likes");
    };
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let path = disk.path.clone();
    let readers = worker(b"readers", move |parent| {
        let (ends, pieces) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (path, ends, pieces) = (&path, &ends, &pieces);
                scope.spawn(move || {
                    let disk = fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
                    let mut piece = Piece([0; PIECE]);
                    while !ends.load(Relaxed) {
                        disk.read_exact_at(&mut piece.0, number * PIECE as u64).unwrap();
                        pieces.fetch_add(1, Relaxed);
                    }
                });
            }
            parent.signal_ready();
            parent.wait_for_parent();
            ends.store(true, Relaxed);
        });
        pieces.into_inner() * PIECE as u64
    });
    readers.go();
    readers.wait_until_ready();
    let begun = Instant::now();
    recording.wait_for_reports(8);
    let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    readers.go();
    let read = readers.wait_until_ready();
    let pid = readers.pid();
    readers.finish();
    let history = recording.finish();
    let document = ask(&history, &["--sort", "load"]);
    let usage_ms = document.quality.host.unwrap().usage_ms;
    let readers = used(row(&document, pid));
    let seen = document.quality.disks.iter().find(|seen| seen.name == disk.name).expect("the disk is recorded");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some minutes")]
    let over_time = |mean: f64| (mean * usage_ms as f64) as u64;
    // Both are looked at once each interval, of which the first and the last may have it or not.
    let allowed = THREADS * 2 * (INTERVAL_MS + document.quality.late_ms);
    assert_near("blocked", over_time(readers.blocked_mean), THREADS * waited_ms, 5, allowed);
    assert_near("in flight", over_time(seen.in_flight_mean), THREADS * waited_ms, 5, allowed);
    assert!(over_time(seen.busy_percent / 100.0) > waited_ms / 2, "{seen:?} in {usage_ms} ms, of {waited_ms}");
    assert_eq!((readers.read_bytes, seen.mounted_on.as_deref()), (Some(read), None));
    // Whoever looks at new disks may have read it, too.
    assert!(seen.read_bytes >= read, "{seen:?}, read {read}");
    let load = sentence(&ask(&history, &["--hogs"]), "load");
    assert!(
        load.contains(&format!("; in the whole period {} was busy", disk.name)) && load.ends_with("requests in flight"),
        "{load}"
    );
}

/// What is said of the worst of a measure.
pub fn sentence(document: &Document, measure: &str) -> String {
    let hogs = document.hogs.as_ref().expect("hogs were asked for");
    hogs.iter().find(|hog| hog.measure == measure).map(|hog| hog.sentence.clone()).unwrap_or_default()
}

const PIECE: usize = 4096;

/// Aligned as direct reads ask for it.
#[repr(align(4096))]
struct Piece([u8; PIECE]);

/// A disk that answers late.
struct SlowDisk {
    settings: PathBuf,
    name: String,
    path: PathBuf,
}

impl SlowDisk {
    /// None where the kernel has no such disks.
    fn new() -> Option<Self> {
        const CONFIG: &str = "/sys/kernel/config";
        if !Path::new("/sys/module/null_blk").exists() {
            return None;
        }
        if !Path::new(CONFIG).join("nullb").exists() {
            mount(Some("configfs"), CONFIG, Some("configfs"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let disks = || -> BTreeSet<String> {
            let entries = fs::read_dir("/sys/block").unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            // By its module's name, or its own.
            names.filter(|name| name.starts_with("nullb") || name == "slow").collect()
        };
        let settings = Path::new(CONFIG).join("nullb/slow");
        // One that was killed leaves it.
        let _ = fs::remove_dir(&settings);
        let before = disks();
        fs::create_dir(&settings).unwrap();
        // Completed by a timer; of 64 MiB.
        let all = [
            ("irqmode", "2"),
            ("completion_nsec", "200000000"),
            ("hw_queue_depth", "64"),
            ("size", "64"),
            ("power", "1"),
        ];
        for (setting, value) in all {
            fs::write(settings.join(setting), value).unwrap();
        }
        let name = disks().difference(&before).next().expect("a disk comes").clone();
        Some(Self { settings, path: Path::new("/dev").join(&name), name })
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = fs::write(self.settings.join("power"), "0");
        let _ = fs::remove_dir(&self.settings);
    }
}
