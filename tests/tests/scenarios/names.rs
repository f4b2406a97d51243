//! Who processes were that ended long before the next report.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use nettop_model::{Snapshot, snapshot::RowReport};
use nettop_tests::{Namespace, Nettopd, Stream, amount, cgroup::Cgroup, rows_of};

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
    let mut sent = Vec::new();
    for (unit, group) in &units {
        let (shell, pids) = programs.run(amount(50, 5), group, &alone);
        sent.push((unit, group, shell, pids));
    }
    let document = nettopd.settled();
    assert_eq!(document.loss.processes_unrecorded, 0);
    for (unit, group, shell, pids) in &sent {
        for (number, pid) in pids.iter().enumerate() {
            let row = row(&document, *pid);
            assert_eq!((row.exe.as_deref(), row.script.as_deref()), expected(&programs, number), "{row:#?}");
            assert_eq!(row.unit.as_ref(), Some(*unit), "{row:#?}");
            assert_eq!(row.cgroup, Some(group.name()), "{row:#?}");
            let parents: Vec<u32> = row.parents.iter().map(|parent| parent.pid).collect();
            assert_eq!(parents[..2], [*shell, std::process::id()], "{row:#?}");
            assert_eq!(row.parents[0].comm, "bash", "{row:#?}");
        }
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
        assert_eq!((event.exe.as_deref(), event.script.as_deref()), expected(&programs, number), "{event:#?}");
        assert_eq!(event.unit.as_deref(), group.path().file_name().unwrap().to_str(), "{event:#?}");
        assert_eq!(event.parents[0].pid, shell, "{event:#?}");
    }
}
