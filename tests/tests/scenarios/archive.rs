//! The archive for systems other than Debian: what is in it, that its program needs nothing else, and that its unit starts
//! from where it is unpacked.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::UdpSocket,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use nettop_model::Snapshot;
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, assert_app,
    machine::{Machine, eventually, given},
    owner_row, thread_statuses, without_daemon,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{chdir, chroot},
};

const PROGRAM: &str = "/usr/local/bin/nettopd";

#[test]
fn it_holds_all_that_an_installation_needs_and_nothing_of_the_machine_that_made_it() {
    let (folder, archive) = (tempfile::tempdir().unwrap(), given("NETTOP_ARCHIVE"));
    unpack(folder.path());
    for file in [
        "bin/nettopd",
        "lib/systemd/system/nettopd.service",
        "lib/sysusers.d/nettopd.conf",
        "share/bash-completion/completions/nettopd",
        "share/doc/nettopd/CHANGELOG.md",
        "share/doc/nettopd/README.md",
        "share/doc/nettopd/copyright",
        "share/doc/nettopd/examples/nettopd.toml",
        "share/doc/nettopd/examples/privileged-containers.conf",
        "share/doc/nettopd/examples/privileged-identity.conf",
        "share/doc/nettopd/examples/privileged-namespaces.conf",
        "share/doc/nettopd/service.md",
        "share/doc/nettopd/snapshot.schema.json",
        "share/fish/vendor_completions.d/nettopd.fish",
        "share/man/man5/nettopd.toml.5",
        "share/man/man8/nettopd-history.8",
        "share/man/man8/nettopd.8",
        "share/zsh/site-functions/_nettopd",
    ] {
        let path = folder.path().join(file);
        let mode = fs::metadata(&path).unwrap_or_else(|_| panic!("{file} is missing")).permissions().mode();
        assert_eq!(mode & 0o777, if file == "bin/nettopd" { 0o755 } else { 0o644 }, "{file}");
    }
    for unit in ["lib/systemd/system/nettopd.service", "share/doc/nettopd/examples/privileged-identity.conf"] {
        let text = fs::read_to_string(folder.path().join(unit)).unwrap();
        let mut starts = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        let program = starts.next_back().unwrap().split(' ').next().unwrap();
        assert_eq!(program, PROGRAM, "{unit}");
    }

    let listed = run("tar", &["--list", "--verbose", "--full-time", "--numeric-owner", "--file"], &archive);
    let entries: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = entries.iter().map(|entry| entry[5]).collect();
    assert!(names.is_sorted(), "{names:?}");
    // An archive must not change the rights of /usr/local/bin.
    assert!(entries.iter().all(|entry| entry[0].starts_with('-')), "{listed}");
    let made = |entry: &Vec<&str>| [entry[1], entry[3], entry[4]].join(" ");
    assert_eq!(entries.iter().map(made).collect::<BTreeSet<_>>().len(), 1, "{listed}");
    assert_eq!(entries[0][1], "0/0");
}

#[test]
fn its_program_asks_for_no_interpreter_and_no_library() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let result = run("readelf", &["--wide", "--program-headers", "--dynamic"], &folder.path().join("bin/nettopd"));
    assert!(result.contains("LOAD"), "{result}");
    assert!(!result.contains("INTERP") && !result.contains("(NEEDED)"), "{result}");
}

#[test]
fn its_program_accounts_exactly_in_a_root_that_has_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for part in ["proc", "sys", "usr/local"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    unpack(&root.join("usr/local"));
    let alone = Namespace::new();

    let nettopd = Nettopd::start_by(in_root(root), &[]);
    let (pid, moved) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut moved = Moved::default();
        for bytes in 1..=100 {
            moved.sent += socket.send_to(&[0; 100][..bytes], socket.local_addr().unwrap()).unwrap() as u64;
            moved.received += socket.recv(&mut [0; 100]).unwrap() as u64;
        }
        moved
    });
    let document = nettopd.settled();
    assert_eq!(moved.sent, 5050);
    assert_app(&document, pid, moved);
    let row = owner_row(&document, pid);
    assert_eq!((row.uid, row.user.as_ref()), (Some(0), None), "there is no /etc/passwd to name anybody");

    let output = in_root(root).args(["--once", "0.1", "--no-history"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document.schema, "nettop.snapshot/1");
}

#[test]
fn its_unit_starts_and_answers_from_usr_local() {
    let machine = Machine::boot();
    let mut unpack = machine.command("tar");
    unpack.args(["--directory", "/usr/local", "--extract", "--gzip"]);
    let unpacked = unpack.stdin(File::open(given("NETTOP_ARCHIVE")).unwrap()).status().unwrap();
    assert!(unpacked.success());
    machine.run("systemd-sysusers", &[]);
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["enable", "--now", "nettopd"]);
    let pid = machine.main_pid("nettopd").unwrap();
    assert_eq!(fs::read_link(machine.path(&format!("/proc/{pid}/exe"))).unwrap(), Path::new(PROGRAM));
    for status in thread_statuses(&machine.path(&format!("/proc/{pid}"))) {
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    }
    let once = |group: &str| machine.run_as("nobody", group, PROGRAM, &["--once"]);
    let document: Snapshot = serde_json::from_slice(&once("nettopd").stdout).unwrap();
    assert_eq!(document.schema, "nettop.snapshot/1");
    assert!(!once("nogroup").status.success());
    machine.run("systemctl", &["reload", "nettopd"]);
    let is_there = || machine.path("/var/lib/nettopd/history.db").exists();
    assert!(eventually(Duration::from_secs(10), is_there), "no history is written");
    assert_eq!(machine.main_pid("nettopd"), Some(pid));
}

/// The program in a mount namespace of its own, whose root has /proc, /sys and what is in a folder.
fn in_root(root: &Path) -> Command {
    let root = root.to_owned();
    let [proc, sys] = ["proc", "sys"].map(|part| root.join(part));
    let enter = move || {
        let none: Option<&str> = None;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
        mount(Some("/proc"), &proc, none, bind, none)?;
        mount(Some("/sys"), &sys, none, bind, none)?;
        chroot(&root)?;
        Ok(chdir("/")?)
    };
    let mut command = without_daemon(Command::new(PROGRAM));
    // SAFETY: system calls with paths that were allocated before the fork.
    unsafe { command.pre_exec(enter) };
    command
}

fn unpack(folder: &Path) {
    run("tar", &["--directory", folder.to_str().unwrap(), "--extract", "--gzip", "--file"], &given("NETTOP_ARCHIVE"));
}

/// What a command prints about a file.
fn run(program: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
