//! What nettopd takes, for any request and with few resources: memory, open files, and the time of those who measure.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use nettop_history::{Limits, Store};
use nettop_model::{Snapshot, history, sockets};
use nettop_tests::{
    MemoryCgroup, Moved, Process, amount,
    api::Daemon,
    history::{origin, slot},
    nettopd_command, skip,
};
use rusqlite::{Connection, params};

/// Of the packaged unit.
const MEMORY_MAX_BYTES: u64 = 512 << 20;
/// 2026-11-20, a whole hour.
const BEGIN: i64 = 1_795_136_400;

/// Lets the daemon take as long for an answer as a slow machine needs.
const LONG_ANSWERS: &str = "export NETTOPD_API_ANSWER_S=900";

/// The most memory that a process ever had.
fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// A history in which each of many processes moved something once.
fn history_of(path: &Path, processes: u64) {
    let mut store = Store::open(path, Limits::default(), &origin(), BEGIN).unwrap();
    store.write(&[slot(BEGIN - 3600)]).unwrap();
    drop(store);
    let connection = Connection::open(path).unwrap();
    connection
        .execute(
            "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?1)
             INSERT INTO process(id, boot, pid, start_time_ns, uid, program, device, last)
             SELECT 1000000 + n, 1, 10 + n % 4000000, n, n % 7, 1 + n % 20, 1, 0 FROM number",
            params![processes.cast_signed()],
        )
        .unwrap();
    connection
        .execute(
            "INSERT INTO sample_10s SELECT ?1 + (id - 1000000) % 360 * 10, id, 1000 + (id - 1000000), 1, 1, 1, 0, 0 FROM process
             WHERE id >= 1000000",
            [BEGIN],
        )
        .unwrap();
}

/// 600,000 needed 742 MiB, for which the kernel kills the daemon.
#[test]
fn an_answer_about_many_processes_stays_within_the_units_memory() {
    let processes = amount(600_000, 20_000);
    let Some(memory) = MemoryCgroup::new(MEMORY_MAX_BYTES) else {
        return skip("no memory controller");
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    history_of(&file, processes);
    let args = ["--interval", "3600", "--history", file.to_str().unwrap()];
    let daemon = memory.enter(|| Daemon::start_after(folder.path(), LONG_ANSWERS, &args));
    let before = peak_mib(daemon.pid());
    let period = "from=2026-11-20T01:00:00Z&to=2026-11-20T02:00:00Z";
    for (by, groups) in [("process", processes), ("user", 7), ("program", 1)] {
        // Two at a time are answered.
        let answers = thread::scope(|scope| {
            let ask = || daemon.get_slowly(&format!("/v1/history?{period}&by={by}&top=10")).unwrap();
            let other = scope.spawn(ask);
            [ask(), other.join().unwrap()]
        });
        for answer in answers {
            let history::Document { rows, others, .. } = answer.document();
            assert_eq!((others.number + rows.len()) as u64, groups);
            let sent = others.sum.tx.bytes + rows.iter().map(|row| row.sum.tx.bytes).sum::<u64>();
            assert_eq!(sent, processes * 1000 + processes * (processes - 1) / 2);
        }
    }
    let refused = daemon.get(&format!("/v1/history?{period}&top=1000000")).unwrap();
    assert!(refused.status == 400 && refused.error().contains("top is"), "{refused:?}");
    let after = peak_mib(daemon.pid());
    println!("{before} MiB before, {after} MiB at most");
    assert!(after < before + 160, "{before} MiB before, {after} MiB at most");
}

/// Holds sockets in processes of 10,000 each, fewer than one may have files.
fn holders(sockets: u64) -> Vec<Process> {
    const EACH: u64 = 10_000;
    let hold = |number: u64| {
        let holder = Process::start(None, move |parent| {
            let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            // SAFETY: makes sockets, which end with the process.
            (0..number).for_each(|_| assert!(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) } >= 0));
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        });
        holder.wait_until_ready();
        holder
    };
    (0..sockets.div_ceil(EACH)).map(|at| hold(EACH.min(sockets - at * EACH))).collect()
}

#[test]
fn an_answer_has_so_many_sockets_and_says_so() {
    let sockets = amount(80_000, 2_000);
    let Some(memory) = MemoryCgroup::new(MEMORY_MAX_BYTES) else {
        return skip("no memory controller");
    };
    let holders = holders(sockets);
    let folder = tempfile::tempdir().unwrap();
    let args = ["--interval", "3600", "--no-history"];
    let daemon = memory.enter(|| Daemon::start_after(folder.path(), LONG_ANSWERS, &args));
    let before = peak_mib(daemon.pid());
    for _ in 0..2 {
        let document: sockets::Document = daemon.get_slowly("/v1/sockets?numeric=1").unwrap().document();
        assert_eq!(document.truncated, sockets > 65_536);
        let number = document.sockets.len() as u64;
        assert!(if sockets > 65_536 { number <= 65_536 } else { number >= sockets }, "{number}");
    }
    let last = holders.last().unwrap().pid();
    let answer = daemon.get_slowly(&format!("/v1/sockets?numeric=1&pid={last}")).unwrap();
    let document: sockets::Document = answer.document();
    assert!(!document.truncated, "{answer:?}");
    assert_eq!(document.sockets.len() as u64, sockets.min(10_000));
    let after = peak_mib(daemon.pid());
    println!("{before} MiB before, {after} MiB at most");
    assert!(after < before + 250, "{before} MiB before, {after} MiB at most");
}

fn with_files(limits: &str, args: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limits}")).arg(nettopd_command().get_program()).args(args);
    command.env("NETTOPD_SOCKET", "").output().unwrap()
}

#[test]
fn few_open_files_are_made_more_or_named() {
    let output = with_files("100:4096", &["--once", "0.2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = with_files("32:32", &["--once", "0.2"]);
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.trim_end().lines().count() == 1 && line.contains("32 files"), "{line}");
    assert!(line.contains("ulimit -Hn") && line.contains("LimitNOFILE="), "{line}");
    // A command gets nettopd's original limit.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limit");
    let script = format!("ulimit -Sn > {}", file.display());
    let output = with_files("100:4096", &["trace", "--", "sh", "-c", &script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(file).unwrap().trim(), "100");
}

/// /etc/passwd is a pipe into which nobody writes: each look-up of a user waits for ever.
#[test]
fn a_name_service_that_hangs_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("passwd");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    let hang = format!("mount --bind {} /etc/passwd", pipe.display());
    let daemon = Daemon::start_after(folder.path(), &hang, &["--interval", "0.2", "--no-history"]);
    // More than it has threads.
    thread::scope(|scope| {
        let asked: Vec<_> = (0..24)
            .map(|number| {
                let (daemon, path) = (&daemon, ["snapshot", "drops", "sockets"][number % 3]);
                scope.spawn(move || daemon.get(&format!("/v1/{path}?user=somebody{number}")).unwrap())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(120);
        let (first, mut last, mut passed) = (Instant::now(), daemon.intervals(), 0);
        while passed < 5 {
            let now = daemon.intervals();
            passed += u32::from(now != last);
            last = now;
            assert!(Instant::now() < deadline, "it measures no more");
            thread::sleep(Duration::from_millis(20));
        }
        let Snapshot { rows, .. } = daemon.get("/v1/snapshot").unwrap().document();
        assert!(rows.iter().all(|row| row.user.is_none()), "{rows:#?}");
        println!("five intervals in {:?}", first.elapsed());
        for answer in asked {
            let answer = answer.join().unwrap();
            assert!(answer.status == 503 && answer.error().contains("give the number"), "{answer:?}");
        }
    });
    assert_eq!(daemon.get("/v1/snapshot?user=0").unwrap().status, 200, "a number needs no name service");
    // A standalone run gets a report with numbers.
    let binary = folder.path().join("nettopd");
    let script = format!("{hang} && exec {} --standalone --once 0.2", binary.display());
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
