//! How processes ended, and what they ran: known of those that nobody could read any more as well.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use nettop_model::history::{Document, Row};
use nettop_tests::set_name;
use nix::{
    sys::{
        signal::{Signal, raise},
        wait::waitpid,
    },
    unistd::{ForkResult, fork},
};

use super::{Recording, ask, burn, used, worker};

/// Children that use so much that they have rows, and then end as they like. On a busy machine a reading may fall just before
/// an end, which leads in nothing then: of some, one ends otherwise.
fn run_ending(name: &[u8], end: impl Fn()) {
    for _ in 0..5 {
        // SAFETY: this process has one thread; the child ends without returning.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => drop(waitpid(child, None).unwrap()),
            ForkResult::Child => {
                set_name(name);
                burn(30_000);
                end();
                // SAFETY: ends the child without exit handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

fn named<'a>(document: &'a Document, name: &str) -> &'a Row {
    let found = document.rows.iter().find(|row| row.comm.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no row of {name}"))
}

#[test]
fn how_a_process_ended_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let parent = worker(b"starter", |parent| {
        // They use enough to lead in the interval of their ends: they begin after a reading.
        let wait = || {
            parent.signal_ready();
            parent.wait_for_parent();
        };
        run_ending(b"in-order", || {});
        wait();
        // SAFETY: ends the child without exit handlers.
        run_ending(b"failing", || unsafe { libc::_exit(3) });
        wait();
        run_ending(b"crashing", || {
            // No core is left.
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
            raise(Signal::SIGABRT).unwrap();
        });
        wait();
        // Its first thread ends before the others, which end with a code of their own.
        run_ending(b"late-thread", || {
            std::thread::spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                burn(30_000);
                // SAFETY: ends the process.
                unsafe { libc::syscall(libc::SYS_exit_group, 7) };
            });
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        0
    });
    recording.wait_for_reports(1);
    parent.go();
    for _ in 0..3 {
        parent.wait_until_ready();
        recording.wait_for_reports(1);
        parent.go();
    }
    parent.wait_until_ready();
    recording.wait_for_reports(2);
    let pid = parent.pid();
    parent.finish();
    let path = recording.finish();
    let document = ask(&path, &["--sort", "cpu"]);
    let ending = |name: &str| {
        let rows = document.rows.iter().filter(|row| row.comm.as_deref() == Some(name) && row.pid != Some(0));
        let ended = rows.map(used).filter(|used| used.exits == Some(1));
        let mut how: Vec<_> = ended.map(|used| (used.exit_code, used.exit_signal)).collect();
        how.dedup();
        assert_eq!(how.len(), 1, "{name}: {how:?}");
        how[0]
    };
    assert_eq!(ending("in-order"), (Some(0), None));
    assert_eq!(ending("failing"), (Some(3), None));
    assert_eq!(ending("crashing"), (None, Some(6)));
    assert_eq!(ending("late-thread"), (Some(7), None));
    assert_eq!(named(&document, "crashing").process.parents[0].pid, pid);
    let by_unit = ask(&path, &["--by", "unit"]);
    let sum = |of: fn(&nettop_model::history::Resources) -> Option<u64>| -> u64 {
        by_unit.rows.iter().map(|row| of(&used(row)).unwrap()).sum()
    };
    assert!(sum(|used| used.exits_failed) >= 2 && sum(|used| used.exits_signaled) >= 1);
    let hogs = ask(&path, &["--hogs", "-c", "crashing"]).hogs.unwrap();
    let exits = hogs.iter().find(|hog| hog.measure == "exits").expect("it ended badly");
    assert!(exits.sentence.contains("ended by SIGABRT"), "{exits:?}");
    let shown = nettop_tests::run_nettopd(&[
        "history",
        "--history",
        path.to_str().unwrap(),
        "--sort",
        "exits",
        "-c",
        "failing",
    ]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("failing") && shown.contains("ended with code 3"), "{shown}");
}

#[test]
fn a_short_process_that_never_talks_has_its_program_and_its_script() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("busy.sh");
    // The shell alone computes, and is gone before anybody reads /proc.
    fs::write(&script, "#!/bin/sh\ni=0\nwhile [ $i -lt 60000 ]; do i=$((i+1)); done\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let recording = Recording::start(folder.path(), &[]);
    recording.wait_for_reports(1);
    let mut started = Command::new(&script).spawn().unwrap();
    let pid = started.id();
    assert!(started.wait().unwrap().success());
    let path = recording.finish();
    let document = ask(&path, &["--sort", "cpu"]);
    let row = super::row(&document, pid);
    assert_eq!(row.comm.as_deref(), Some("busy.sh"));
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(row.process.exe.as_deref(), shell.to_str());
    assert_eq!(row.process.script.as_deref(), script.to_str());
    assert_eq!(row.process.parents.first().map(|parent| parent.pid), Some(std::process::id()));
    let by_script = ask(&path, &["--by", "script", "--sort", "cpu"]);
    let found = by_script.rows.iter().find(|row| Some(row.name.as_str()) == script.to_str());
    assert!(used(found.expect("scripts have rows")).user_us > 0);
}
