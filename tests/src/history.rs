//! What scenarios of the history are made of: slots whose content follows from their time, and file systems of their own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nettop_history::{Counters, Device, Origin, SLOT_S, Slot, Tick, Who};
use rusqlite::{Connection, OpenFlags};

/// Processes in each slot.
pub const TALKERS: u32 = 20;

/// What a restarted writer misses of a slot.
pub const RESTART_MS: i64 = 3000;

/// What a process moved in a slot: a later check can see whether it is all there.
pub const fn moved(ts: i64, talker: u32) -> Counters {
    let bytes = ts.cast_unsigned() % 100_003 + talker as u64 * 1000 + 1;
    Counters { tx_bytes: bytes, rx_bytes: bytes * 2, tx_packets: 1, rx_packets: 2, tx_app_bytes: 3, rx_app_bytes: 4 }
}

/// A slot with all of them.
pub fn slot(ts: i64) -> Slot {
    let tick = Tick { measured_ms: 10_000, readings: 1, ..Tick::default() };
    let mut slot = Slot { ts, begin_ms: ts * 1000, end_ms: (ts + SLOT_S) * 1000, tick, ..Slot::default() };
    for talker in 0..TALKERS {
        let who = Who {
            pid: 1000 + talker,
            start_time_ns: Some(u64::from(talker)),
            uid: Some(0),
            comm: format!("talker{talker}"),
            exe: Some("/usr/bin/talker".into()),
            device: Device { netns: 1, netns_cookie: 1, ifindex: 1, name: Some("eth0".into()) },
            ..Who::default()
        };
        slot.samples.insert(who, moved(ts, talker));
    }
    slot
}

/// What [`slot`] moved in all, sent and received.
pub fn moved_by_all(ts: i64) -> (u64, u64) {
    let all = (0..TALKERS).map(|talker| moved(ts, talker));
    all.fold((0, 0), |(sent, received), one| (sent + one.tx_bytes, received + one.rx_bytes))
}

pub fn origin() -> Origin {
    Origin {
        boot_id: "boot".into(),
        host: "host".into(),
        kernel: "kernel".into(),
        version: "0".into(),
        hooks_missing: 0,
    }
}

/// Checks that the file is sound and that each slot in it is whole, and returns their times.
pub fn sound_slots(path: &Path) -> Vec<i64> {
    // A writing one would remove the log when it is closed.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    let mut statement = connection
        .prepare("SELECT t.ts, count(s.ts), sum(s.tx_bytes), sum(s.rx_bytes) FROM tick_10s t LEFT JOIN sample_10s s ON s.ts = t.ts GROUP BY t.ts ORDER BY t.ts")
        .unwrap();
    let slots = statement.query_map([], |row| {
        let ts: i64 = row.get(0)?;
        assert_eq!(ts % SLOT_S, 0);
        assert_eq!(row.get::<_, u32>(1)?, TALKERS, "slot {ts} is not whole");
        let sums = (row.get::<_, i64>(2)?.cast_unsigned(), row.get::<_, i64>(3)?.cast_unsigned());
        assert_eq!(sums, moved_by_all(ts), "slot {ts}");
        Ok(ts)
    });
    slots.unwrap().collect::<Result<_, _>>().unwrap()
}

/// A file system on an image of its own, unmounted when dropped.
pub struct Mount {
    pub folder: PathBuf,
}

impl Mount {
    /// Mounts with `mount`'s options.
    pub fn new(folder: PathBuf, options: &[&str]) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        run("mount", options, &folder);
        Self { folder }
    }

    /// Remounts with other options. Returns whether the kernel allowed it.
    pub fn remount(&self, options: &str) -> bool {
        Command::new("mount").args(["-o", options]).arg(&self.folder).status().unwrap().success()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process about to release it has time to do so.
        let unmount =
            || Command::new("umount").arg("-q").arg(&self.folder).status().is_ok_and(|status| status.success());
        let is_unmounted = (0..20).any(|_| {
            unmount() || {
                std::thread::sleep(std::time::Duration::from_millis(100));
                false
            }
        });
        if !is_unmounted {
            // A daemon that is about to end may still be in it.
            let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
        }
    }
}

/// Makes an empty file system of ext4 in a file.
pub fn image(path: &Path, size_bytes: u64, options: &[&str]) {
    std::fs::File::create(path).unwrap().set_len(size_bytes).unwrap();
    run("mkfs.ext4", &[&["-q", "-F", "-m", "0"], options].concat(), path);
}

fn run(program: &str, options: &[&str], last: &Path) {
    let output = Command::new(program).args(options).arg(last).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {options:?} {}: {said}", last.display());
}

/// A file system that answers no write, until dropped.
pub struct Frozen(PathBuf);

impl Frozen {
    /// Freezes the file system that is mounted there.
    pub fn new(folder: &Path) -> Self {
        assert!(Command::new("fsfreeze").arg("--freeze").arg(folder).status().unwrap().success());
        Self(folder.into())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}
