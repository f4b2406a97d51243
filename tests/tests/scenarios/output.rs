//! Where output goes: a stuck reader, one that went away, a full disk; and what is logged beside it. Nothing of this
//! depends on the kernel.

use std::{
    fs::File,
    io::{PipeReader, Read as _, pipe},
    os::fd::AsRawFd as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nettop_model::Snapshot;
use nettop_tests::{Namespace, api::Daemon, nettopd_command};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Commands that end by themselves. They need no daemon.
const ONE_SHOT: [&[&str]; 9] = [
    &["--help"],
    &["--version"],
    &["help", "sockets"],
    &["completions", "zsh"],
    &["config", "check", "--show", "/dev/null"],
    &["check", "--format", "json"],
    &["sockets", "--format", "json"],
    &["sockets", "0.05"],
    &["--no-history", "--format", "json", "0.05", "2"],
];

/// Commands that go on until a signal ends them, and fill a small pipe at once.
const ENDLESS: [&[&str]; 2] =
    [&["--no-history", "--format", "json", "0.05"], &["drops", "--all", "--format", "json", "0.05"]];

fn run(mut command: Command, stdout: impl Into<Stdio>) -> Output {
    command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn nettopd(args: &[&str]) -> Command {
    let mut command = nettopd_command();
    command.args(args);
    command
}

/// A daemon, and questions to it and to a history.
fn with_daemon(folder: &Path) -> (Daemon, [Vec<String>; 4]) {
    let daemon = Daemon::start(folder, &["--interval", "0.05", "--no-history"]);
    let history = folder.join("history.db").display().to_string();
    assert!(run(nettopd(&["--history", &history, "0.05", "1"]), Stdio::null()).status.success());
    let socket = daemon.socket().display().to_string();
    let ask = |args: &[&str]| [&["--socket", &socket], args].concat().into_iter().map(ToOwned::to_owned).collect();
    let asked =
        [ask(&["status"]), ask(&["--once"]), ask(&["history", "--history", &history]), ask(&["--format", "json"])];
    (daemon, asked)
}

fn assert_full(args: &[&str]) {
    let output = run(nettopd(args), File::options().write(true).open("/dev/full").unwrap());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert_eq!(said, "nettopd: cannot write to standard output: No space left on device (os error 28)\n", "{args:?}");
}

fn assert_gone(args: &[&str]) {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let output = run(nettopd(args), writer);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{args:?}");
}

/// Its reader has taken only one byte. A document is larger than the one-page pipe, or the next one finds no room.
fn stuck(args: &[&str]) -> (Child, PipeReader) {
    let (mut reader, writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let child = nettopd(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    reader.read_exact(&mut [0]).unwrap_or_else(|error| panic!("{args:?}: {error}"));
    wait_until_stuck(&reader);
    (child, reader)
}

/// Waits until nothing comes any more.
fn wait_until_stuck(reader: &PipeReader) {
    let (mut waiting, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(20));
        let now = bytes_in(reader);
        if now != waiting {
            (waiting, since) = (now, Instant::now());
        }
    }
}

fn bytes_in(pipe: &PipeReader) -> libc::c_int {
    let mut bytes = 0;
    // SAFETY: FIONREAD writes one int.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) }, 0);
    bytes
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Returns the exit code, none for a signal, and stderr.
fn ended(mut child: Child, args: &[&str]) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_full_disk_and_a_reader_that_went_away_are_distinguished() {
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, asked) = with_daemon(folder.path());
    let asked: Vec<Vec<&str>> = asked.iter().map(|args| args.iter().map(String::as_str).collect()).collect();
    let events: [&[&str]; 2] = [&["connections"], &["packets", "--format", "csv"]];
    for args in ONE_SHOT.into_iter().chain(ENDLESS).chain(events).chain(asked.iter().map(Vec::as_slice)) {
        assert_full(args);
        assert_gone(args);
    }
}

#[test]
fn a_signal_ends_whoever_writes_to_a_reader_that_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, asked) = with_daemon(folder.path());
    let [.., followed] = &asked;
    let followed: Vec<&str> = followed.iter().map(String::as_str).collect();
    for (args, signal) in
        ENDLESS.into_iter().chain([followed.as_slice()]).zip([Signal::SIGINT, Signal::SIGTERM].into_iter().cycle())
    {
        let (child, reader) = stuck(args);
        send(&child, signal);
        let (code, said) = ended(child, args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert!(said.ends_with("not written: nobody reads standard output\n") && said.lines().count() == 1, "{said}");
        drop(reader);
    }
    // Those with a fixed amount to write wait for their reader until the signal.
    let counted: &[&str] = &["--no-history", "--format", "json", "0.05", "2"];
    for args in [counted, &["sockets", "0.05", "--format", "json"], &["completions", "zsh"]] {
        let (child, reader) = stuck(args);
        send(&child, Signal::SIGTERM);
        ended(child, args);
        drop(reader);
    }
}

/// As with `2>&1 | less`.
#[test]
fn a_signal_ends_whoever_also_says_something_to_a_reader_that_is_stuck() {
    for (args, signal) in ENDLESS.into_iter().zip([Signal::SIGINT, Signal::SIGTERM]) {
        let (mut reader, writer) = pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut command = nettopd(args);
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        reader.read_exact(&mut [0]).unwrap();
        wait_until_stuck(&reader);
        send(&child, signal);
        assert_eq!(ended(child, args).0, Some(0), "{args:?}");
        drop(reader);
    }
}

#[test]
fn reports_that_wait_are_written_though_the_daemon_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (daemon, asked) = with_daemon(folder.path());
    let lines = |arg| if arg == "json" { "ndjson" } else { arg };
    let args: Vec<&str> = asked[3].iter().map(|arg| lines(arg.as_str())).chain(["--whole"]).collect();
    let (child, mut reader) = stuck(&args);
    drop(daemon);
    // It notices meanwhile. That it does shows at its end alone; whatever it has read by then has to come.
    std::thread::sleep(Duration::from_millis(500));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let (code, said) = ended(child, &args);
    // At any place in a document.
    assert_eq!((code, said.as_str()), (Some(1), "nettopd: the daemon has ended the stream\n"));
    // Without the byte that was taken.
    let text = format!("{{{text}");
    assert!(text.lines().count() > 1 && text.ends_with('\n'));
    assert!(text.lines().all(|line| serde_json::from_str::<Snapshot>(line).is_ok()));
}

#[test]
fn a_reader_that_pauses_gets_all() {
    let args = ["--no-history", "--format", "ndjson", "0.05", "3"];
    let (child, mut reader) = stuck(&args);
    // Longer than nettopd waits for a reader after a signal: until all three reports are made.
    std::thread::sleep(Duration::from_millis(1500));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert_eq!(ended(child, &args), (Some(0), String::new()));
}

#[test]
fn what_has_not_changed_is_in_one_line_of_ndjson_only() {
    let idle = Namespace::new();
    let lines = |args: &[&str]| -> Vec<(bool, bool)> {
        let output =
            run(nettopd(&[&["--no-history", "--format", "ndjson", "0.05", "3"], args].concat()), Stdio::piped());
        let text = String::from_utf8(output.stdout).unwrap();
        let has_idle = |line: &str| {
            let document: Snapshot = serde_json::from_str(line).unwrap();
            document.devices.iter().any(|device| device.netns == idle.inode())
        };
        text.lines().map(|line| (line.contains("\"hooks\":"), has_idle(line))).collect()
    };
    assert_eq!(lines(&[]), [(true, true), (false, false), (false, false)]);
    assert_eq!(lines(&["--whole"]), [(true, true); 3]);
}

#[test]
fn what_is_said_beside_it_is_lines_for_people() {
    let output = run(nettopd(&["-v", "sockets", "0.05"]), Stdio::null());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() > 0 && said.lines().all(|line| line.starts_with("nettopd: info: ")), "{said}");
    assert!(!said.contains('\x1b') && !said.contains("::"), "{said}");
    // Where stderr is full, nothing else goes wrong.
    for (args, code) in [(&["no-such-command"][..], 2), (&["-vv", "--standalone", "--once", "0.05"], 0)] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = nettopd(args).stdout(Stdio::piped()).stderr(full).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(serde_json::from_slice::<Snapshot>(&output.stdout).is_ok(), code == 0, "{args:?}");
    }
}
