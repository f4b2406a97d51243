//! What the history says that processes used, against what they know of themselves.

mod bomb;
mod crowds;
mod disks;
mod endings;
mod live;
mod memory;
mod off;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use nettop_model::history::{Document, Resources, Row};
use nettop_tests::{
    Moved, Parent, Process, amount,
    history::{Mount, image},
    is_emulated, nettopd_command, run_nettopd, set_name, skip,
};
use nix::{
    sys::{
        resource::{Usage, UsageWho, getrusage},
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::schemas::assert_fits;

const MIB: u64 = 1 << 20;
const INTERVAL_MS: u64 = 500;

/// A nettopd that records every half second.
struct Recording {
    child: Child,
    reports: Receiver<()>,
    path: PathBuf,
}

impl Recording {
    /// Starts it; whoever begins from now on is counted whole.
    fn start(folder: &Path, args: &[&str]) -> Self {
        let path = folder.join("history.db");
        let mut command = nettopd_command();
        command.arg("--history").arg(&path).args(args).args(["--format", "ndjson", "0.5"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, reports) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|_| send.send(())));
        let recording = Self { child, reports, path };
        recording.wait_for_reports(2);
        recording
    }

    /// That many from now on.
    fn wait_for_reports(&self, number: usize) {
        while self.reports.try_recv().is_ok() {}
        for _ in 0..number {
            self.reports.recv().expect("nettopd has ended");
        }
    }

    /// Ends it. The file has everything then.
    fn finish(mut self) -> PathBuf {
        // One may wait to be read, and what is read in the next is recorded with the one after it.
        self.wait_for_reports(4);
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        self.path
    }
}

fn ask(path: &Path, args: &[&str]) -> Document {
    let common = ["history", "--history", path.to_str().unwrap(), "--format", "json"];
    let all: &[&str] = if args.contains(&"--top") { &[] } else { &["--top", "10000"] };
    let output = run_nettopd(&[&common, all, args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).unwrap();
    assert_fits(include_str!("../../../docs/history.schema.json"), document, "/quality/host");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn row(document: &Document, pid: u32) -> &Row {
    let found = document.rows.iter().find(|row| row.pid == Some(pid));
    found.unwrap_or_else(|| panic!("no row of {pid} in {:#?}", document.rows))
}

fn used(row: &Row) -> Resources {
    row.resources.expect("it was recorded what processes use")
}

fn cpu_us(usage: &Usage) -> u64 {
    time_us(usage.user_time()) + time_us(usage.system_time())
}

fn time_us(time: nix::sys::time::TimeVal) -> u64 {
    (time.tv_sec() * 1_000_000 + time.tv_usec()).cast_unsigned()
}

/// Computes until the calling thread has used so much.
fn burn(us: u64) {
    let so_far = || cpu_us(&getrusage(UsageWho::RUSAGE_THREAD).unwrap());
    let begun = so_far();
    while so_far() - begun < us {
        for number in 0..100_000_u64 {
            std::hint::black_box(number);
        }
    }
}

/// Forks a process that does this, and waits for its end.
fn run_child(work: impl FnOnce()) {
    // SAFETY: this process has one thread; the child ends without returning.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => drop(waitpid(child, None).unwrap()),
        ForkResult::Child => {
            work();
            // SAFETY: ends the child without exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A process that begins when it is told to, and reports a number at its end.
fn worker(name: &'static [u8], work: impl FnOnce(&Parent) -> u64) -> Process {
    let process = Process::start(None, |parent| {
        set_name(name);
        parent.signal_ready();
        parent.wait_for_parent();
        let number = work(parent);
        parent.send_number(number);
        Moved::default()
    });
    process.wait_until_ready();
    process
}

/// Within so many percent, or an absolute amount.
fn assert_near(what: &str, seen: u64, truth: u64, percent: u64, least: u64) {
    let allowed = (truth * percent / 100).max(least);
    assert!(seen.abs_diff(truth) <= allowed, "{what}: {seen} is not {truth}, within {allowed}");
}

#[test]
fn cpu_time_is_what_processes_know_of_themselves_however_short_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    // One with two threads, of which one ends early.
    let burner = worker(b"burner", |parent| {
        thread::scope(|scope| {
            scope.spawn(|| {
                burn(900_000);
                parent.signal_ready();
                parent.wait_for_parent();
            });
        });
        burn(1_200_000);
        0
    });
    // Each lives for a moment between two readings.
    const SHORT: u64 = 12;
    let parent = worker(b"forker", |parent| {
        for _ in 0..SHORT {
            run_child(|| {
                set_name(b"short");
                burn(60_000);
            });
        }
        parent.send_number(cpu_us(&getrusage(UsageWho::RUSAGE_CHILDREN).unwrap()));
        // It is there when its children are named.
        parent.wait_for_parent();
        0
    });
    burner.go();
    burner.wait_until_ready();
    recording.wait_for_reports(3);
    burner.go();
    burner.wait_until_ready();
    recording.wait_for_reports(1);
    parent.go();
    let short_us = parent.wait_until_ready();
    let (burner_pid, parent_pid) = (burner.pid(), parent.pid());
    // With its end, of which it knows nothing: an emulated CPU may stand still in it for a tenth of a second.
    let children = || getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let before = children();
    burner.finish();
    let after = children();
    let burnt_us = cpu_us(&after) - cpu_us(&before);
    let user_us = time_us(after.user_time()) - time_us(before.user_time());
    recording.wait_for_reports(3);
    parent.go();
    parent.wait_until_ready();
    parent.finish();
    // The kernel reports an end after its RCU has let go of the process, which takes long in an emulated machine.
    recording.wait_for_reports(usize::try_from(amount(1, 6)).unwrap());
    let path = recording.finish();
    let document = ask(&path, &["--sort", "cpu"]);
    let burner = row(&document, burner_pid);
    assert_eq!(burner.comm.as_deref(), Some("burner"));
    let burner = used(burner);
    assert_near("burner", burner.user_us + burner.system_us, burnt_us, 2, 5000);
    assert_near("burner's user time", burner.user_us, user_us, 5, 50_000);
    assert_eq!(burner.threads, 2, "{burner:?}");
    let short: Vec<&Row> = document.rows.iter().filter(|row| row.comm.as_deref() == Some("short")).collect();
    assert_eq!(short.len() as u64, SHORT, "each has a row: {document:#?}");
    let all_us: u64 = short.iter().map(|row| used(row).user_us + used(row).system_us).sum();
    assert_near("short ones", all_us, short_us, 2, 5000);
    for row in short {
        assert_eq!(row.process.parents.first().map(|parent| parent.pid), Some(parent_pid), "{row:?}");
    }
    // The order is by what was asked for.
    let order = |row: &Row| used(row).user_us + used(row).system_us;
    assert!(document.rows.is_sorted_by_key(|row| std::cmp::Reverse(order(row))));
    adds_up(&path, &document);
    is_readable(&path);
}

/// Rows and what the host says of itself; groups; conditions.
fn adds_up(path: &Path, document: &Document) {
    let sum = |document: &Document| {
        let rows = document.rows.iter().filter_map(|row| row.resources);
        rows.map(|used| used.user_us + used.system_us).sum::<u64>()
    };
    let all_us = sum(document);
    let host = document.quality.host.expect("the host is recorded");
    // Interrupts are in the time of whom they interrupt, unless the kernel accounts them apart.
    let host_us = (host.user_ms + host.system_ms + host.irq_ms) * 1000;
    // An emulated machine loses ticks, in which the host counts.
    if !is_emulated() {
        assert_near("the host", all_us, host_us, 15, 300_000);
    }
    for by in ["program", "user", "unit", "parent", "container"] {
        assert_eq!(sum(&ask(path, &["--by", by])), all_us, "{by}");
    }
    let fewer = ask(path, &["--top", "1", "--sort", "cpu"]);
    let others = fewer.others.resources.expect("others as well");
    assert_eq!(sum(&fewer) + others.user_us + others.system_us, all_us);
    assert!(ask(path, &["--when", "cpu_busy > 101%"]).rows.is_empty());
    assert_eq!(sum(&ask(path, &["--when", "cpu_busy >= 0 and mem_free > 0%"])), all_us);
}

/// For people and for programs.
fn is_readable(path: &Path) {
    let hogs = ask(path, &["--hogs", "-c", "burner"]).hogs.expect("it was asked for");
    let cpu = hogs.iter().find(|hog| hog.measure == "cpu").expect("it computed");
    assert!(cpu.sentence.starts_with("burner used ") && cpu.since.is_some(), "{cpu:?}");
    let show = |args: &[&str]| {
        let output = run_nettopd(&[&["history", "--history", path.to_str().unwrap()], args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = show(&["--sort", "cpu", "-c", "burner"]);
    let lines: Vec<&str> = table.lines().collect();
    let columns: Vec<&str> = lines[1].split_whitespace().collect();
    let expected = ["PID", "USER", "CPU%", "MEM_MB", "DISK_KB", "LOAD", "XMIT_KB", "RECV_KB", "TREND", "COMMAND"];
    assert_eq!(columns, expected, "{table}");
    assert!(lines[2].ends_with("burner") && lines[2].chars().count() <= 100, "{table}");
    assert!(show(&["--sort", "drops"]).lines().nth(1).unwrap().contains("RETRANS"));
    assert!(show(&["--hogs", "-c", "burner"]).contains("burner used "));
    let csv = show(&["--format", "csv", "-c", "burner"]);
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let values: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
    let at = head.iter().position(|column| *column == "user_us").unwrap();
    assert!(values[at].parse::<u64>().unwrap() > 1_000_000, "{csv}");
}

#[test]
fn bytes_of_disks_are_what_a_process_knows_of_itself() {
    const WRITTEN: u64 = 8 * MIB;
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return skip("mkfs.ext4");
    }
    let folder = tempfile::tempdir().unwrap();
    image(&folder.path().join("image"), 64 * MIB, &[]);
    let disk = Mount::new(folder.path().join("disk"), &["-o", "loop", folder.path().join("image").to_str().unwrap()]);
    let recording = Recording::start(folder.path(), &[]);
    let file = disk.folder.join("file");
    let writer = worker(b"writer", |_| {
        let mut to = fs::File::create(&file).unwrap();
        to.write_all(&vec![7; WRITTEN as usize]).unwrap();
        to.sync_all().unwrap();
        drop(to);
        read_directly(&file);
        // Both in one: neither reaches 4 GiB.
        number_in("/proc/self/io", "read_bytes:") << 32 | number_in("/proc/self/io", "write_bytes:")
    });
    writer.go();
    let moved = writer.wait_until_ready();
    let pid = writer.pid();
    writer.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "disk"]);
    let writer = used(row(&document, pid));
    assert_eq!((writer.read_bytes, writer.write_bytes), (Some(moved >> 32), Some(moved & 0xffff_ffff)));
    assert!(writer.read_bytes >= Some(WRITTEN) && writer.write_bytes >= Some(WRITTEN), "{writer:?}");
    let host = document.quality.host.unwrap();
    assert!(host.disk_read_bytes >= WRITTEN && host.disk_write_bytes >= WRITTEN, "{host:?}");
    let mounted = disk.folder.to_str();
    let seen = document.quality.disks.iter().find(|seen| seen.mounted_on.as_deref() == mounted).expect("its disk");
    assert!(seen.name.starts_with("loop") && seen.read_bytes >= WRITTEN && seen.write_bytes >= WRITTEN, "{seen:?}");
    drop(disk);
}

/// The number behind a name.
fn number_in(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Past the page cache, in pieces that any device takes.
fn read_directly(file: &Path) {
    #[repr(align(4096))]
    struct Aligned([u8; 65_536]);
    let mut from = fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(file).unwrap();
    let mut piece = Aligned([0; 65_536]);
    while from.read(&mut piece.0).unwrap() > 0 {}
}

#[test]
fn who_waits_uninterruptibly_is_in_the_load() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    // `vfork` waits so until the child ends (`wait_for_vfork_done`).
    let waiter = worker(b"waiter", |parent| {
        // SAFETY: without CLONE_VM the child has memory of its own, and it ends without returning.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            parent.signal_ready();
            parent.wait_for_parent();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        0
    });
    waiter.go();
    waiter.wait_until_ready();
    let begun = Instant::now();
    recording.wait_for_reports(8);
    waiter.go();
    let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    waiter.wait_until_ready();
    let pid = waiter.pid();
    waiter.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "load"]);
    let usage_ms = document.quality.host.unwrap().usage_ms;
    let waiter = used(row(&document, pid));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds")]
    let blocked_ms = (waiter.blocked_mean * usage_ms as f64) as u64;
    // It is seen once each interval, of which the first and the last may have it or not.
    let longest_ms = INTERVAL_MS + document.quality.late_ms;
    assert_near("waiting", blocked_ms, waited_ms, 0, 2 * longest_ms + usage_ms / 100);
    assert!(waiter.runnable_mean < 0.2, "{waiter:?}");
}
