//! The history after the worst: processes that are killed, machines that lose their power.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nettop_history::{By, Order, Question, Reader};
use nettop_tests::history::{Mount, RESTART_MS, image, sound_slots};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

const BEGIN: i64 = 1_795_000_000;
const SLOT_S: i64 = nettop_history::SLOT_S;

/// A writer, with the last slot that it reported written.
struct Load {
    child: Child,
    lines: BufReader<ChildStdout>,
    written: i64,
}

impl Load {
    fn start(path: &Path, from: i64) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_history-load"))
            .arg(path)
            .arg(from.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, written: from - SLOT_S }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until it has written a slot more.
    fn next(&mut self) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        self.written = line.trim_end().parse().unwrap();
    }

    /// Stops it where it is, and reads its output: lines are written whole.
    fn stop(&mut self) -> i64 {
        self.signal(Signal::SIGSTOP);
        waitpid(Pid::from_raw(self.child.id().cast_signed()), Some(WaitPidFlag::WUNTRACED)).unwrap();
        let pipe = self.lines.get_ref().as_fd().try_clone_to_owned().unwrap();
        let set = |flags| fcntl(&pipe, FcntlArg::F_SETFL(flags)).unwrap();
        set(OFlag::O_NONBLOCK);
        // What was read before there is nothing more stays in the buffer.
        let mut text = Vec::new();
        let end = self.lines.read_to_end(&mut text).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::WouldBlock);
        set(OFlag::empty());
        if let Some(line) = String::from_utf8(text).unwrap().lines().last() {
            self.written = line.parse().unwrap();
        }
        self.written
    }

    /// Kills it and reads its output to the end.
    fn kill(mut self) -> i64 {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        for line in self.lines.by_ref().lines().map_while(Result::ok) {
            self.written = line.parse().unwrap_or(self.written);
        }
        self.written
    }
}

/// Numbers that look like chance, and are the same each time.
struct Chance(u64);

impl Chance {
    const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Checks that all slots reported written are there, and at most one more: the one under way.
fn assert_all_there(path: &Path, written: i64) -> i64 {
    let slots = sound_slots(path);
    let expected: Vec<i64> = (BEGIN..=written).step_by(10).collect();
    let last = slots.last().copied().unwrap_or(BEGIN - SLOT_S);
    assert!(slots.starts_with(&expected), "written up to {written}, found up to {last}");
    assert!(slots.len() <= expected.len() + 1, "written up to {written}, found up to {last}");
    last
}

#[test]
fn three_hundred_kills_lose_nothing_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let mut chance = Chance(1);
    let mut last = BEGIN - SLOT_S;
    let mut gaps = Vec::new();
    let mut kills_before_the_first = 0;
    for _ in 0..300 {
        let load = Load::start(&path, last + SLOT_S);
        std::thread::sleep(Duration::from_micros(chance.below(40_000)));
        let from = last;
        let written = load.kill();
        if path.exists() && fs::metadata(&path).unwrap().len() > 0 && has_tables(&path) {
            last = assert_all_there(&path, written);
        }
        // A load that wrote began late.
        if last > from {
            gaps.push((from + SLOT_S, from + SLOT_S + RESTART_MS / 1000));
        }
        kills_before_the_first += u32::from(written == from);
    }
    assert_eq!(gaps_of(&path, BEGIN, last + SLOT_S), gaps, "each kill shows, and nothing else");
    assert!(gaps.len() > 30, "only {} wrote anything before they were killed", gaps.len());
    assert!(last > BEGIN + 100 * SLOT_S, "only up to {last}: it was always killed too soon");
    assert!(kills_before_the_first > 10, "it was never killed while it opened the file");
}

/// Gaps that `nettopd history` reports.
fn gaps_of(path: &Path, from: i64, to: i64) -> Vec<(i64, i64)> {
    let question = Question {
        from,
        to,
        by: By::Process,
        order: Order::Bytes,
        top: 1,
        when: None,
        names: nettop_history::Names::default(),
        boot: None,
        columns: 1,
    };
    Reader::open(path).unwrap().answer(&question).unwrap().gaps
}

/// None if it was killed while it made the file.
fn has_tables(path: &Path) -> bool {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap() > 0
}

#[test]
fn fifty_power_cuts_lose_nothing_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    image(&disk, 64 << 20, &[]);
    let mount = Mount::new(folder.path().join("mount"), &["-o", "loop", disk.to_str().unwrap()]);
    let mut load = Load::start(&mount.folder.join("history.db"), BEGIN);
    let mut chance = Chance(2);
    let began = Instant::now();
    for cut in 0..50 {
        load.next();
        std::thread::sleep(Duration::from_micros(chance.below(30_000)));
        // Its reports so far are promises; the disk is as it is now.
        let promised = load.stop();
        let copy = folder.path().join("copy");
        fs::copy(&disk, &copy).unwrap();
        load.signal(Signal::SIGCONT);
        let after = Mount::new(folder.path().join("after"), &["-o", "loop", copy.to_str().unwrap()]);
        let path = after.folder.join("history.db");
        assert_all_there(&path, promised);
        // And it goes on from there.
        let last = *sound_slots(&path).last().unwrap();
        if cut % 10 == 0 {
            let mut next = Load::start(&path, last + SLOT_S);
            next.next();
            let written = next.kill();
            assert_all_there(&path, written);
        }
        drop(after);
    }
    let written = load.kill();
    assert!(written > BEGIN + 50 * SLOT_S, "{} slots in {:?}", (written - BEGIN) / SLOT_S, began.elapsed());
}
