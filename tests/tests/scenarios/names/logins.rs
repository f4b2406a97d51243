//! Who logged in, in which session, with which arguments, and from which directory.

use std::{
    fs,
    io::Write as _,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use nettop_model::{ProcessNames, history, snapshot::RowReport};
use nettop_tests::{Moved, Namespace, Nettopd, Process, Stream, run_nettopd, set_name, wait_until};
use nix::{
    sys::signal::Signal,
    unistd::{pipe, setsid},
};

use super::{BASH, CONNECT, SEND, row};

const LOGIN_UID: u32 = 54_321;
/// As the leader calls itself, and as it is shown.
const LEADER: (&[u8], &str) = (b"lea\xffder", "lea\\xffder");

/// A session of a user who logged in, if this kernel keeps that, in which a shell does one thing. Returns the pids of both.
fn session(alone: &Namespace, command: &str) -> (u32, u32) {
    let leader = Process::start(Some(alone), |parent| {
        setsid().unwrap();
        set_name(LEADER.0);
        if keeps_logins() {
            fs::write("/proc/self/loginuid", LOGIN_UID.to_string()).unwrap();
        }
        let mut shell = Command::new(BASH).args(["-c", command, "zero", "one two"]).spawn().unwrap();
        parent.send_number(shell.id().into());
        assert!(shell.wait().unwrap().success());
        Moved::default()
    });
    let (pid, shell) = (leader.pid(), leader.wait_until_ready());
    leader.finish();
    (pid, u32::try_from(shell).unwrap())
}

fn keeps_logins() -> bool {
    Path::new("/proc/self/loginuid").exists()
}

fn assert_session(process: &ProcessNames, leader: u32) {
    let session = process.login.session.as_ref().unwrap();
    assert_eq!((session.pid, session.comm.as_deref()), (leader, Some(LEADER.1)), "{process:#?}");
    assert!(session.start_time_ns.is_some(), "{process:#?}");
    assert_eq!(process.login.login_uid, keeps_logins().then_some(LOGIN_UID), "{process:#?}");
}

fn assert_arguments(process: &ProcessNames, command: Option<&str>) {
    let expected = command.map(|command| [BASH, "-c", command, "zero", "one two"].map(str::to_owned).to_vec());
    assert_eq!(process.arguments.as_ref().map(|arguments| arguments.to_vec()), expected);
}

#[test]
fn a_process_of_milliseconds_has_login_and_session_and_on_request_its_arguments() {
    let [plain, asked] = [&[][..], &["-e"]].map(Nettopd::start);
    let connections =
        [&["-e"][..], &[]].map(|args| Stream::connections(&[args, &["--failed", "--port", "9"]].concat()));
    let alone = Namespace::new();
    let command = format!("{SEND}; {CONNECT}");
    let (leader, shell) = session(&alone, &command);
    for (document, command) in [(plain.settled(), None), (asked.settled(), Some(command.as_str()))] {
        let rows: Vec<&RowReport> = document.rows.iter().filter(|row| row.pid == shell).collect();
        assert_session(&rows[0].process, leader);
        assert_arguments(&rows[0].process, command);
    }
    let [asked, plain] = connections.map(Stream::stop);
    for (result, command) in [(plain, None), (asked, Some(command.as_str()))] {
        let event = result.of("failed", shell).next().unwrap();
        assert_session(&event.process, leader);
        assert_arguments(&event.process, command);
    }
}

#[test]
fn of_many_arguments_the_first_are_known() {
    let nettopd = Nettopd::start(&["-e"]);
    let alone = Namespace::new();
    let long = "x".repeat(300);
    let mut shell = Command::new(BASH);
    shell.args(["-c", SEND, "first", &long, "last"]);
    let mut shell = alone.inside(shell).spawn().unwrap();
    assert!(shell.wait().unwrap().success());
    let document = nettopd.settled();
    let arguments = row(&document, shell.id()).process.arguments.clone().unwrap();
    assert_eq!(arguments.to_vec(), [BASH, "-c", SEND, "first", "..."]);
    let mut shell = Command::new(BASH);
    shell.args(["-c", SEND]).args(["x"; 100]);
    let mut shell = alone.inside(shell).spawn().unwrap();
    assert!(shell.wait().unwrap().success());
    let document = nettopd.settled();
    let arguments = row(&document, shell.id()).process.arguments.clone().unwrap();
    assert_eq!((arguments.len(), arguments[15].as_str(), arguments[16].as_str()), (17, "x", "..."));
}

#[test]
fn a_session_whose_leader_has_ended_is_a_number() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let (input, output): (OwnedFd, OwnedFd) = pipe().unwrap();
    let mut leader = Command::new(BASH);
    // What it starts has no use for its output.
    leader.args(["-c", &format!("{BASH} -c 'read; {SEND}' <&0 > /dev/null & echo $!")]);
    leader.stdin(Stdio::from(input)).stdout(Stdio::piped());
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { leader.pre_exec(|| setsid().map(|_| ()).map_err(Into::into)) };
    let leader = alone.inside(leader).spawn().unwrap();
    let session = leader.id();
    let shell = String::from_utf8(leader.wait_with_output().unwrap().stdout).unwrap();
    let shell: u32 = shell.trim().parse().unwrap();
    fs::File::from(output).write_all(b"\n").unwrap();
    let login = || nettopd.settled().rows.iter().find(|row| row.pid == shell).map(|row| row.process.login.clone());
    wait_until("it has sent", || login().is_some());
    let found = login().unwrap().session.clone().unwrap();
    assert_eq!((found.pid, found.start_time_ns, found.comm), (session, None, None));
}

#[test]
fn the_history_has_them_and_arguments_only_if_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Namespace::new();
    for (name, flag) in [("plain", None), ("told", Some("--history-arguments"))] {
        let file = folder.path().join(name).display().to_string();
        // Reports that have arguments are no reason to record them.
        let nettopd = Nettopd::start(&[&["--history", &file, "-e"][..], flag.as_slice()].concat());
        let (leader, shell) = session(&alone, SEND);
        nettopd.settled();
        nettopd.stop(Signal::SIGTERM);
        let asked = ["history", "--history", &file, "--from", "-1h", "--top", "1000", "--format", "json"];
        let answer: history::Document = serde_json::from_slice(&run_nettopd(&asked).stdout).unwrap();
        let row = answer.rows.iter().find(|row| row.pid == Some(shell)).unwrap();
        assert_session(&row.process, leader);
        assert_arguments(&row.process, flag.map(|_| SEND));
        let stored = fs::read(&file).unwrap().windows(7).any(|bytes| bytes == b"one two");
        assert_eq!(stored, flag.is_some());
        let table = run_nettopd(&["history", "--history", &file, "--from", "-1h", "--top", "1000", "-e"]).stdout;
        let table = String::from_utf8(table).unwrap();
        let started = table.contains(&format!("{} > bash", LEADER.1));
        assert!(started && table.contains("one two") == flag.is_some(), "{table}");
    }
}

/// As in `cd /srv/etl && python3 export.py`.
#[test]
fn a_relative_script_has_the_directory_in_which_it_was_started() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("etl");
    fs::create_dir(&inner).unwrap();
    let script = folder.path().join("export");
    fs::write(&script, format!("echo $$\n{SEND}\n")).unwrap();
    // From above, from below, and after another directory was entered.
    fs::write(folder.path().join("moves"), format!("echo $$\ncd /\n{SEND}\n")).unwrap();
    let mut shell = Command::new(BASH);
    let calls =
        format!("{BASH} export; cd etl; {BASH} ../export; {BASH} ./../moves; cd /; {BASH} .{}; true", script.display());
    shell.args(["-c", &calls]).current_dir(folder.path());
    let output = alone.inside(shell).output().unwrap();
    let pids = String::from_utf8(output.stdout).unwrap();
    let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    let document = nettopd.settled();
    let scripts: Vec<_> = pids.iter().map(|pid| row(&document, *pid).process.script.as_deref()).collect();
    let whole = script.to_str();
    // What was entered since says nothing about where it began.
    assert_eq!(scripts, [whole, whole, Some("./../moves"), whole]);
}
