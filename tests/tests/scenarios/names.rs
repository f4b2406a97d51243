//! Who processes were that ended long before the next report.

mod logins;
mod older_cgroups;
mod paths;
mod storms;
mod streams;

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::UdpSocket,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nettop_model::{Snapshot, history, snapshot::RowReport};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Stream, amount, cgroup::Cgroup, rows_of, run_nettopd, wait_until,
};
use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

/// A program of that name, and a script, each of which does one thing with a closed port.
struct Programs {
    _folder: tempfile::TempDir,
    program: PathBuf,
    script: PathBuf,
    does: &'static str,
}

impl Programs {
    fn new(does: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (program, script) = (folder.path().join("alpha"), folder.path().join("send it"));
        fs::copy(BASH, &program).unwrap();
        fs::write(&script, format!("#!{BASH}\necho $$\n{does}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { _folder: folder, program, script, does }
    }

    /// Runs both `times` times from a shell in a group. Returns its pid, and theirs in turn.
    fn run(&self, times: u64, group: &Cgroup, alone: &Namespace) -> (u32, Vec<u32>) {
        let Self { program, script, does, .. } = self;
        let (program, script, group) = (program.display(), script.display(), group.path().display());
        let line = format!(
            "echo $$ > {group}/cgroup.procs; echo $$; for ((i = 0; i < {times}; i++)); do \
             {program} -c 'echo $$; {does}'; '{script}'; done"
        );
        let mut shell = Command::new(BASH);
        shell.args(["-c", &line]);
        let output = alone.inside(shell).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut pids =
            String::from_utf8(output.stdout).unwrap().lines().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>();
        (pids.remove(0), pids)
    }
}

const BASH: &str = "/usr/bin/bash";
/// One datagram, or an attempt to connect.
const SEND: &str = "printf x > /dev/udp/127.0.0.1/9";
const CONNECT: &str = "true 2> /dev/null > /dev/tcp/127.0.0.1/9 || true";

/// The row of a process that sent one datagram.
fn row(document: &Snapshot, pid: u32) -> &RowReport {
    let rows = rows_of(document, pid);
    assert_eq!(rows.len(), 1, "rows of {pid}: {rows:#?}");
    assert_eq!(rows[0].total.tx.app_bytes, 1, "{:#?}", rows[0]);
    rows[0]
}

/// What must be known of a process that was the `number`th of its shell.
fn expected(programs: &Programs, number: usize) -> (Option<&str>, Option<&str>) {
    if number % 2 == 1 { (Some(BASH), text(&programs.script)) } else { (text(&programs.program), None) }
}

fn text(path: &Path) -> Option<&str> {
    Some(path.to_str().unwrap())
}

#[test]
fn programs_of_milliseconds_have_program_script_unit_and_parents() {
    let nettopd = Nettopd::start(&["--rows", "8192"]);
    let alone = Namespace::new();
    let programs = Programs::new(SEND);
    let slice = Cgroup::new("a.slice");
    let units: Vec<(String, Cgroup)> = (0..20)
        .map(|number| {
            let unit = format!("n{number}.service");
            let group = slice.child(&unit);
            (unit, group)
        })
        .collect();
    // Not all at once: on a busy machine the rows of the first would be given back before the last have ended.
    for units in units.chunks(5) {
        let run = |(unit, group): &(String, Cgroup)| {
            let (shell, pids) = programs.run(amount(50, 5), group, &alone);
            (unit.clone(), group.name(), shell, pids)
        };
        let sent: Vec<_> = units.iter().map(run).collect();
        let document = nettopd.settled();
        assert_eq!(document.loss.processes_unrecorded, 0);
        for (unit, group, shell, pids) in &sent {
            assert_recorded(&document, &programs, unit, group, *shell, pids);
        }
    }
}

fn assert_recorded(document: &Snapshot, programs: &Programs, unit: &str, group: &str, shell: u32, pids: &[u32]) {
    for (number, pid) in pids.iter().enumerate() {
        let row = row(document, *pid);
        assert_eq!((row.process.exe.as_deref(), row.process.script.as_deref()), expected(programs, number), "{row:#?}");
        assert_eq!(row.process.unit.as_deref(), Some(unit), "{row:#?}");
        assert_eq!(row.process.cgroup.as_deref(), Some(group), "{row:#?}");
        let parents: Vec<u32> = row.process.parents.iter().map(|parent| parent.pid).collect();
        assert_eq!(parents[..2], [shell, std::process::id()], "{row:#?}");
        assert_eq!(row.process.parents[0].comm, "bash", "{row:#?}");
    }
}

#[test]
fn connections_of_such_programs_have_the_same_names() {
    let connections = Stream::connections(&["--failed", "--port", "9"]);
    let alone = Namespace::new();
    let programs = Programs::new(CONNECT);
    let group = Cgroup::new("b.service");
    let (shell, pids) = programs.run(amount(100, 5), &group, &alone);
    let stream = connections.stop();
    assert_eq!(stream.events.len(), pids.len());
    for (number, (event, pid)) in stream.events.iter().zip(pids).enumerate() {
        assert_eq!(event.pid, Some(pid), "{event:#?}");
        assert_eq!(
            (event.process.exe.as_deref(), event.process.script.as_deref()),
            expected(&programs, number),
            "{event:#?}"
        );
        assert_eq!(event.process.unit.as_deref(), group.path().file_name().unwrap().to_str(), "{event:#?}");
        assert_eq!(event.process.parents[0].pid, shell, "{event:#?}");
    }
}

/// A shell of that program, which sends once it has read a line.
fn waiting(program: impl AsRef<OsStr>, alone: &Namespace) -> Child {
    let mut shell = Command::new(program);
    shell.args(["-c", &format!("read; {SEND}")]).stdin(Stdio::piped());
    alone.inside(shell).spawn().unwrap()
}

fn send(mut shell: Child) -> u32 {
    shell.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(shell.wait().unwrap().success());
    shell.id()
}

#[test]
fn paths_are_those_of_proc_and_escaped() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &[u8]| {
        let path = folder.path().join(OsStr::from_bytes(name));
        fs::copy(BASH, &path).unwrap();
        path
    };
    let hostile = send(waiting(copy(b"a\x1b[31m\xff\xe2\x80\xae b"), &alone));
    let deleted = waiting(copy(b"deleted"), &alone);
    fs::remove_file(folder.path().join("deleted")).unwrap();
    let deleted = send(deleted);
    let renamed = waiting(copy(b"before"), &alone);
    fs::rename(folder.path().join("before"), folder.path().join("after")).unwrap();
    let renamed = send(renamed);
    let memory = memfd_create(c"alpha", MFdFlags::empty()).unwrap();
    fs::File::from(memory.try_clone().unwrap()).write_all(&fs::read(BASH).unwrap()).unwrap();
    let memory = send(waiting(format!("/proc/self/fd/{}", memory.as_raw_fd()), &alone));
    // In a mount of the root elsewhere, which only its mount namespace has.
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let line = format!("mount --bind / {0} && exec unshare --root={0} {BASH} -c '{SEND}'", root.display());
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--mount", "sh", "-c", &line]);
    let mut elsewhere = alone.inside(elsewhere).spawn().unwrap();
    assert!(elsewhere.wait().unwrap().success());

    let document = nettopd.settled();
    let exe = |pid: u32| row(&document, pid).process.exe.as_deref();
    let folder = folder.path().display();
    assert_eq!(exe(hostile), Some(format!("{folder}/a\\x1b[31m\\xff\\xe2\\x80\\xae b").as_str()));
    assert_eq!(exe(deleted), Some(format!("{folder}/deleted (deleted)").as_str()));
    assert_eq!(exe(renamed), Some(format!("{folder}/after").as_str()));
    assert_eq!(exe(memory), Some("/memfd:alpha (deleted)"));
    assert_eq!(exe(elsewhere.id()), Some(format!("{}{BASH}", root.display()).as_str()));
}

#[test]
fn who_executes_another_program_is_both_in_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db").display().to_string();
    let [before, after] = ["alpha", "beta"].map(|name| {
        let path = folder.path().join(name);
        fs::copy(BASH, &path).unwrap();
        path.display().to_string()
    });
    let nettopd = Nettopd::start(&["--history", &file]);
    let alone = Namespace::new();
    let mut shell = Command::new(&before);
    shell.args(["-c", &format!("{SEND}; read; exec {after} -c '{SEND}'")]).stdin(Stdio::piped());
    let mut shell = alone.inside(shell).spawn().unwrap();
    let is_seen =
        || rows_of(&nettopd.settled(), shell.id()).iter().any(|row| row.process.exe.as_ref() == Some(&before));
    wait_until("it has sent", is_seen);
    shell.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(shell.wait().unwrap().success());
    nettopd.settled();
    nettopd.stop(Signal::SIGTERM);
    let asked = ["history", "--history", &file, "--by", "program", "--from", "-1h", "--format", "json"];
    let answer: history::Document = serde_json::from_slice(&run_nettopd(&asked).stdout).unwrap();
    for program in [before, after] {
        let row = answer.rows.iter().find(|row| row.name == program);
        assert_eq!(row.map(|row| row.sum.tx.packets), Some(1), "{program}: {:#?}", answer.rows);
    }
}

/// Long after its first socket, and without another use of one: as systemd does with a session or a scope.
#[test]
fn a_process_that_is_moved_has_its_new_unit() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let groups = ["first.service", "second.service"].map(Cgroup::new);
    let [first, second] = groups.each_ref().map(|group| group.path().file_name().unwrap().to_str().unwrap().to_owned());
    let process = Process::start(Some(&alone), |parent| {
        groups[0].enter();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[1], "127.0.0.1:9").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    let pid = process.pid();
    assert_eq!(row(&nettopd.settled(), pid).process.unit.as_ref(), Some(&first));
    fs::write(groups[1].path().join("cgroup.procs"), pid.to_string()).unwrap();
    drop(process);
    let document = nettopd.settled();
    assert_eq!(row(&document, pid).process.unit.as_ref(), Some(&second));
    assert_eq!(row(&document, pid).process.cgroup, Some(groups[1].name()));
}

#[test]
fn more_processes_than_the_ring_holds_lose_names_and_no_bytes() {
    const PROCESSES: u64 = 5000;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let pid = Pid::from_raw(nettopd.pid().cast_signed());
    // All of them between two readings.
    kill(pid, Signal::SIGSTOP).unwrap();
    let (_, moved) = Process::run(Some(&alone), |_| {
        for _ in 0..PROCESSES {
            // SAFETY: this process has one thread.
            match unsafe { fork() }.unwrap() {
                ForkResult::Parent { child } => drop(waitpid(child, None).unwrap()),
                ForkResult::Child => {
                    let sent = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[1], "127.0.0.1:9"));
                    // SAFETY: ends the child and nothing else.
                    unsafe { libc::_exit(i32::from(sent.is_err())) }
                }
            }
        }
        Moved { sent: PROCESSES, received: 0 }
    });
    kill(pid, Signal::SIGCONT).unwrap();
    let document = nettopd.settled();
    let rows: Vec<&RowReport> =
        document.rows.iter().filter(|row| row.netns == alone.inode() && row.total.tx.app_bytes > 0).collect();
    assert_eq!(rows.iter().map(|row| row.total.tx.app_bytes).sum::<u64>(), moved.sent);
    let unnamed = rows.iter().filter(|row| row.process.exe.is_none()).count() as u64;
    let lost = document.loss.processes_unrecorded;
    assert!(0 < unnamed && unnamed <= lost && lost <= PROCESSES - 1000, "{unnamed} unnamed, {lost} lost");
}

/// A shell of a service that runs this script, once it has its input.
fn service(script: &str, group: &Cgroup, alone: &Namespace) -> (Child, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve");
    fs::write(&path, script).unwrap();
    let mut shell = Command::new(BASH);
    // It becomes the script in the group, and is the only one of its name here.
    shell.args(["-c", &format!("echo $$ > {}/cgroup.procs; exec {BASH} {}", group.path().display(), path.display())]);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = alone.inside(shell).spawn().unwrap();
    let path = path.display().to_string();
    (child, folder, path)
}

/// Reads one line of what a child prints.
fn line_of(child: &mut Child) -> String {
    let (mut line, mut byte) = (String::new(), [0]);
    let output = child.stdout.as_mut().unwrap();
    while output.read_exact(&mut byte).is_ok() && byte != [b'\n'] {
        line.push(char::from(byte[0]));
    }
    line
}

#[test]
fn who_is_older_than_nettopd_and_who_inherits_a_socket_have_script_and_parents() {
    let alone = Namespace::new();
    let group = Cgroup::new("older.service");
    // Both send through the socket of the first: each has an owner by use.
    let sink = alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = sink.local_addr().unwrap().port();
    let script = "exec 3> /dev/udp/127.0.0.1/PORT\necho $$; read line; printf x >&3\n\
                  (echo $BASHPID; printf y >&3; read line)\nread line\n";
    let (mut shell, _folder, path) = service(&script.replace("PORT", &port.to_string()), &group, &alone);
    let older: u32 = line_of(&mut shell).parse().unwrap();
    let nettopd = Nettopd::start(&[]);
    shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let worker: u32 = line_of(&mut shell).parse().unwrap();
    let document = nettopd.settled();
    for (pid, parent) in [(older, std::process::id()), (worker, older)] {
        let row = row(&document, pid);
        let unit = group.path().file_name().unwrap().to_str();
        assert_eq!(
            (row.process.exe.as_deref(), row.process.script.as_deref()),
            (Some(BASH), Some(path.as_str())),
            "{row:#?}"
        );
        assert_eq!((row.process.unit.as_deref(), row.process.parents[0].pid), (unit, parent), "{row:#?}");
    }
    assert_eq!(document.loss.processes_unrecorded, 0);
    drop(shell.stdin.take());
    shell.wait().unwrap();
}

#[test]
fn rows_are_added_up_and_selected_by_what_processes_have_in_common() {
    let alone = Namespace::new();
    let [first, second] = ["n1.service", "n2.service"].map(Cgroup::new);
    let by_parent = Nettopd::start(&["--by", "parent"]);
    let by_script = Nettopd::start(&["--by", "script"]);
    let name = |group: &Cgroup| group.path().file_name().unwrap().to_str().unwrap().to_owned();
    let selected = Nettopd::start(&["--unit", &name(&first)]);
    let programs = Programs::new(SEND);
    let (_, pids) = programs.run(3, &first, &alone);
    programs.run(5, &second, &alone);
    let documents = [&by_parent, &by_script].map(Nettopd::settled);
    let sent = |document: &Snapshot, name: &str| -> (u64, u64) {
        let mut groups = document.groups.iter().filter(|group| group.netns == alone.inode() && group.name == name);
        let group = groups.next().unwrap_or_else(|| panic!("no {name} in {:#?}", document.groups));
        assert!(groups.next().is_none() && document.rows.is_empty());
        (group.total.tx.app_bytes, group.processes)
    };
    let me = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(sent(&documents[0], me.trim_end()).0, 16);
    assert_eq!(sent(&documents[1], text(&programs.script).unwrap()), (8, 8));
    let rest = documents[1].groups.iter().filter(|group| group.netns == alone.inode() && group.name == "-");
    assert_eq!(rest.map(|group| group.total.tx.app_bytes).sum::<u64>(), 8);
    let document = selected.settled();
    let mut found: Vec<u32> = document.rows.iter().map(|row| row.pid).collect();
    found.sort_unstable();
    let mut expected = pids;
    expected.sort_unstable();
    assert_eq!(found, expected);
}
