//! Files and disks that fail: the sampler never waits, what is lost is counted, and writing goes on by itself.

use std::{
    fs,
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nettop_history::{Limits, SLOT_S, Writer};
use nettop_tests::history::{Mount, image, origin, slot, sound_slots};
use rusqlite::{Connection, OpenFlags};

const BEGIN: i64 = 1_795_000_000;

/// Hands over slot after slot, like one that measures, and notes how long it took.
struct Sampler {
    writer: Writer,
    path: PathBuf,
    next: i64,
    slowest: Duration,
}

impl Sampler {
    fn start(path: PathBuf, limits: Limits) -> Self {
        // The writer's log is shown where a scenario fails.
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
        let writer = Writer::start(path.clone(), limits, origin());
        Self { writer, path, next: BEGIN, slowest: Duration::ZERO }
    }

    fn put(&mut self) {
        let slot = slot(self.next);
        let start = Instant::now();
        self.writer.put(slot);
        self.slowest = self.slowest.max(start.elapsed());
        self.next += SLOT_S;
        // Ten seconds, for a test.
        std::thread::sleep(Duration::from_millis(15));
    }

    fn put_many(&mut self, number: usize) {
        (0..number).for_each(|_| self.put());
    }

    /// Puts slots until `is_so`.
    fn put_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "in vain: {what}");
            self.put();
        }
    }

    /// Whether the file has a slot.
    fn has(&self, ts: i64) -> bool {
        newest(&self.path) >= ts
    }

    /// What is put from now on arrives.
    fn assert_recovers(&mut self) {
        let from = self.next;
        self.put_until("it writes again", |sampler| sampler.has(from));
    }

    /// Ends it and checks the file: sound, and each slot whole. Returns what was shed.
    fn finish(mut self) -> u64 {
        // A disk that is slow for ten seconds in fifteen milliseconds may shed the very last as well.
        while !self.has(self.next - SLOT_S) {
            self.put();
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(self.slowest < Duration::from_millis(500), "whoever measured waited for {:?}", self.slowest);
        let shed = self.writer.shed();
        self.writer.finish();
        let slots = sound_slots(&self.path);
        let asides = self.path.with_extension("db.corrupt").exists();
        let is_whole = slots.first() == Some(&BEGIN) && !asides;
        let put = ((self.next - BEGIN) / SLOT_S).cast_unsigned();
        assert!(!is_whole || slots.len() as u64 + shed == put, "{} of {put} are there, {shed} were shed", slots.len());
        shed
    }
}

/// The newest slot, or 0.
fn newest(path: &Path) -> i64 {
    let read = |path: &Path| -> rusqlite::Result<i64> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.query_row("SELECT coalesce(max(ts), 0) FROM tick_10s", [], |row| row.get(0))
    };
    read(path).unwrap_or(0)
}

/// Losses that the file records.
fn recorded_shed(path: &Path) -> u64 {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = "SELECT coalesce(sum(count), 0) FROM loss WHERE cause = 'history_shed'";
    connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// A disk of some megabytes, in memory.
fn small_disk(folder: &tempfile::TempDir, options: &str) -> Mount {
    Mount::new(folder.path().join("disk"), &["-t", "tmpfs", "-o", options, "tmpfs"])
}

/// Fills a disk to its last byte.
fn fill(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let mut end = 0;
    while file.write_at(&[1; 4096], end).is_ok_and(|written| written == 4096) {
        end += 4096;
    }
}

#[test]
fn a_disk_that_others_fill_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let disk = small_disk(&folder, "size=4m");
    let filler = disk.folder.join("filler");
    let mut sampler = Sampler::start(disk.folder.join("history.db"), Limits::default());
    sampler.put_many(5);
    fill(&filler);
    sampler.put_until("it sheds", |sampler| sampler.writer.shed() > 10);
    fs::remove_file(&filler).unwrap();
    sampler.assert_recovers();
    let path = sampler.path.clone();
    let shed = sampler.finish();
    assert!(shed > 0);
    assert_eq!(recorded_shed(&path), shed, "and the file says so");
    drop(disk);
}

#[test]
fn a_disk_that_the_history_itself_fills_has_always_room_for_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let disk = small_disk(&folder, "size=4m");
    let mut sampler = Sampler::start(disk.folder.join("history.db"), Limits::default());
    let deadline = Instant::now() + Duration::from_secs(60);
    // A slot takes about 1 KB; the quota is far above the disk.
    for _ in 0..5000 {
        sampler.writer.put(slot(sampler.next));
        sampler.next += SLOT_S;
        std::thread::sleep(Duration::from_micros(700));
        assert!(Instant::now() < deadline);
    }
    sampler.assert_recovers();
    let (path, put) = (sampler.path.clone(), (sampler.next - BEGIN) / SLOT_S);
    sampler.finish();
    let slots = sound_slots(&path);
    assert!(slots[0] > BEGIN && slots.len() > 1000, "{} of {put} are kept", slots.len());
    drop(disk);
}

#[test]
fn a_reader_that_pins_the_log_costs_slots_and_no_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let limits = Limits { wal_bytes: 512 << 10, ..Limits::default() };
    let mut sampler = Sampler::start(path.clone(), limits);
    sampler.put_until("it writes", |sampler| sampler.has(BEGIN));
    let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let seen: i64 = reader.query_row("SELECT count(*) FROM tick_10s", [], |row| row.get(0)).unwrap();
    let wal = folder.path().join("history.db-wal");
    let deadline = Instant::now() + Duration::from_secs(40);
    while sampler.writer.shed() == 0 {
        assert!(Instant::now() < deadline, "it never sheds");
        sampler.put();
        assert!(fs::metadata(&wal).unwrap().len() < 1 << 20);
    }
    assert_eq!(reader.query_row("SELECT count(*) FROM tick_10s", [], |row| row.get::<_, i64>(0)).unwrap(), seen);
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    sampler.assert_recovers();
    sampler.put_many(3);
    assert!(fs::metadata(&wal).unwrap().len() < 512 << 10, "the log is emptied");
    sampler.finish();
}

#[test]
fn a_disk_with_io_errors_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    // A disk that promises more than there is below it: writes to it fail with EIO once that is used up.
    let below = Mount::new(folder.path().join("below"), &["-t", "tmpfs", "-o", "size=6m", "tmpfs"]);
    let disk = below.folder.join("disk");
    image(&disk, 64 << 20, &["-O", "^has_journal", "-E", "lazy_itable_init=0,nodiscard"]);
    let options = ["-o", "loop,errors=continue", disk.to_str().unwrap()];
    let mount = Mount::new(folder.path().join("mount"), &options);
    let mut sampler = Sampler::start(mount.folder.join("history.db"), Limits::default());
    sampler.put_until("it writes", |sampler| sampler.has(BEGIN));
    let filler = below.folder.join("filler");
    fill(&filler);
    sampler.put_until("it sheds", |sampler| sampler.writer.shed() > 0);
    fs::remove_file(&filler).unwrap();
    sampler.assert_recovers();
    sampler.finish();
    drop((mount, below));
}

#[test]
fn a_disk_that_turns_read_only_is_written_again_when_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    image(&disk, 16 << 20, &[]);
    let options = ["-o", "loop,errors=remount-ro", disk.to_str().unwrap()];
    let mount = Mount::new(folder.path().join("mount"), &options);
    let link = folder.path().join("link");
    symlink(&mount.folder, &link).unwrap();
    let mut sampler = Sampler::start(link.join("history.db"), Limits::default());
    sampler.put_until("it writes", |sampler| sampler.has(BEGIN));
    // As the kernel does when it finds the file system damaged.
    let device = Command::new("findmnt").args(["-no", "SOURCE"]).arg(&mount.folder).output().unwrap();
    let device = String::from_utf8(device.stdout).unwrap();
    let device = device.trim().trim_start_matches("/dev/");
    fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "nettopd").unwrap();
    // A writer whose disk is slow sheds as well, and has the file.
    sampler.put_until("it sheds", |sampler| sampler.writer.is_in_trouble() && sampler.writer.shed() > 0);
    // The writer has let go of the file: the file system can be taken down and repaired. Meanwhile no other file is made.
    fs::remove_file(&link).unwrap();
    drop(mount);
    let _ = Command::new("fsck.ext4").arg("-fy").arg(&disk).output().unwrap();
    let mount = Mount::new(folder.path().join("mount"), &options);
    symlink(&mount.folder, &link).unwrap();
    sampler.assert_recovers();
    let shed = sampler.finish();
    assert!(shed > 0);
    drop(mount);
}

#[test]
fn a_corrupt_file_is_set_aside_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let aside = folder.path().join("history.db.corrupt");
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("a smashed header", |path| {
            fs::File::options().write(true).open(path).unwrap().write_all_at(&[0xa5; 100], 0).unwrap();
        }),
        ("half a file", |path| {
            let file = fs::File::options().read(true).write(true).open(path).unwrap();
            // Of its pages: behind them is room for more. Their number is in the header.
            let mut pages = [0; 4];
            file.read_exact_at(&mut pages, 28).unwrap();
            file.set_len(u64::from(u32::from_be_bytes(pages) / 2) * 4096).unwrap();
        }),
        ("smashed pages", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            let pages = file.metadata().unwrap().len() / 4096;
            (1..pages).for_each(|page| file.write_all_at(&[0xa5; 4096], page * 4096).unwrap());
        }),
    ];
    for (what, damage) in damages {
        let mut sampler = Sampler::start(path.clone(), Limits::default());
        sampler.put_many(30);
        sampler.assert_recovers();
        sampler.finish();
        damage(&path);
        let damaged = fs::read(&path).unwrap();
        let mut sampler = Sampler::start(path.clone(), Limits::default());
        sampler.assert_recovers();
        assert_eq!(fs::read(&aside).unwrap(), damaged, "{what} is kept");
        sampler.finish();
        for name in fs::read_dir(folder.path()).unwrap() {
            fs::remove_file(name.unwrap().path()).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_removed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::start(folder.path().join("history.db"), Limits::default());
    sampler.put_until("it writes", |sampler| sampler.has(BEGIN));
    for name in ["history.db", "history.db-wal", "history.db-shm"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    sampler.assert_recovers();
    sampler.finish();
}

#[test]
fn somebody_elses_file_is_refused_until_it_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    fs::write(&path, "").unwrap();
    std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    let mut sampler = Sampler::start(path.clone(), Limits::default());
    sampler.put_until("it sheds", |sampler| sampler.writer.shed() > 0);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "it is not touched");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    sampler.assert_recovers();
    sampler.finish();
}

#[test]
fn its_group_reads_it_with_an_ordinary_client_during_and_after() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), None, Some(4711)).unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
    let path = folder.path().join("history.db");
    let ask = |group: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", &format!("--regid={group}"), "--clear-groups", "sqlite3"]);
        command.arg(&path).arg("SELECT count(*) FROM talkers WHERE comm = 'talker7'").output().unwrap()
    };
    let mut sampler = Sampler::start(path.clone(), Limits::default());
    sampler.put_many(10);
    sampler.put_until("it writes", |sampler| sampler.has(BEGIN));
    let during = ask("4711");
    let said = String::from_utf8_lossy(&during.stderr).into_owned();
    assert!(String::from_utf8_lossy(&during.stdout).trim().parse::<u32>().unwrap() > 0, "{said}");
    sampler.finish();
    let after = ask("4711");
    let slots = sound_slots(&path).len().to_string();
    assert_eq!(String::from_utf8_lossy(&after.stdout).trim(), slots, "{:?}", after.stderr);
    assert!(!ask("4712").status.success(), "nobody else reads it");
}
