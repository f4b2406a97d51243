//! Where nettopd is started: in namespaces of other kinds than the network's, with less of /proc, with cgroup2 elsewhere or
//! its hooks taken.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use jiff::Timestamp;
use nettop_model::{Snapshot, check, sockets::Document};
use nettop_tests::{
    Moved, Process,
    cgroup::{Cgroup, cgroup2},
    egress::Exclusive,
    nettopd_command, run_nettopd, skip,
};

/// Runs a shell line by `unshare` with these options; `$NETTOPD` is nettopd.
fn unshared(options: &[&str], line: &str) -> Output {
    let nettopd = nettopd_command();
    let mut command = Command::new("unshare");
    command.args(options).args(["sh", "-ec", line]).env("NETTOPD", nettopd.get_program()).env("NETTOPD_SOCKET", "");
    command.output().expect("a scenario needs util-linux")
}

/// Asserts a refusal of one line, and that it names the remedy.
fn assert_refused(output: &Output, remedy: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("nettopd: ") && said.contains(remedy), "{said}");
}

#[test]
fn in_a_cgroup_namespace_it_refuses_unless_the_root_can_be_reached() {
    let (group, mount) = (Cgroup::new("places"), cgroup2());
    let inside = |line: &str| {
        let line = format!(
            "echo $$ > {0}/cgroup.procs; exec unshare --cgroup --mount sh -ec '{line}'",
            group.path().display()
        );
        unshared(&["--mount"], &line)
    };
    let covered = format!("umount {0}; mount -t cgroup2 none {0}; ", mount.display());
    assert_refused(&inside(&format!("{covered} exec \"$NETTOPD\" --once 0.1")), "--cgroupns host");
    let output = inside(&format!("{covered} exec \"$NETTOPD\" check"));
    assert_refused(&output, "--cgroupns host");
    let result = String::from_utf8(output.stdout).unwrap();
    assert!(result.contains("a branch only: this is a cgroup namespace"), "{result}");
    // The mount from outside is still of the whole hierarchy, whatever /proc calls its root in here.
    let output = inside("exec \"$NETTOPD\" check");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn in_a_pid_namespace_it_refuses() {
    for options in [&["--pid", "--fork", "--mount-proc"][..], &["--pid", "--fork"]] {
        assert_refused(&unshared(options, "exec \"$NETTOPD\" --once 0.1"), "--pid host");
    }
    let output = unshared(&["--mount", "--pid", "--fork"], "exec \"$NETTOPD\" check --format json");
    assert_refused(&output, "--pid host");
}

#[test]
fn a_time_namespace_shifts_nothing() {
    let line = "exec \"$NETTOPD\" check --format json";
    let output = unshared(&["--time", "--boottime", "86400", "--fork"], line);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // A process outside keeps its path and the time when it began.
    let before = Timestamp::now();
    let bystander = Process::start(None, |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            while socket.send_to(&[0; 10], to).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    bystander.wait_until_ready();
    let output = unshared(&["--time", "--boottime", "86400", "--fork"], "exec \"$NETTOPD\" sockets --format json");
    let pid = bystander.pid();
    // Until known processes have been looked for in /proc more than twice.
    let line = "exec \"$NETTOPD\" --format ndjson --whole --no-history 1 5";
    let reports = unshared(&["--time", "--boottime", "86400", "--fork"], line);
    bystander.go();
    bystander.finish();
    let document: Document = serde_json::from_slice(&output.stdout).unwrap();
    let mut holders = document.sockets.iter().flat_map(|socket| &socket.holders);
    let holder = holders.find(|holder| holder.pid == pid).expect("it is not listed");
    assert!(holder.process.exe.is_some(), "{holder:#?}");
    // Since boot, as everywhere: this process began a moment ago.
    let uptime_s: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let age_s = uptime_s - holder.start_time_ns as f64 / 1e9;
    assert!((0.0..3600.0).contains(&age_s), "{age_s}");
    let reports: Vec<Snapshot> = reports
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(reports.len(), 5);
    let mut bytes = 0;
    for report in &reports {
        let row = report.rows.iter().find(|row| row.pid == pid).expect("it has no row");
        assert!(!row.exited && row.process.exe.is_some(), "{row:#?}");
        let begun: Timestamp = row.start_time.as_ref().unwrap().parse().unwrap();
        assert!((begun.as_second() - before.as_second()).abs() < 60, "{row:#?}");
        assert!(row.total.tx.bytes > bytes, "{row:#?}");
        bytes = row.total.tx.bytes;
    }
}

#[test]
fn a_machine_is_named_though_proc_shows_processes_only() {
    let line = "mount -t proc -o subset=pid proc /proc; exec \"$NETTOPD\" --once 0.1";
    let output = unshared(&["--mount"], line);
    assert_refused(&output, "mount /proc without subset=pid");
    let output = unshared(&["--mount"], &line.replace("--once 0.1", "check"));
    let result = String::from_utf8(output.stdout).unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(result.lines().any(|line| line.split_whitespace().eq(["kernel", release.trim()])), "{result}");
}

#[test]
fn cgroup2_is_found_wherever_it_is_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b\\c");
    fs::create_dir(&odd).unwrap();
    let mount = cgroup2();
    let lines = |path: &Path, more: &str| {
        let (mount, path) = (mount.display(), path.display());
        format!("umount {mount}; mount -t cgroup2 none '{path}'; {more} exec \"$NETTOPD\" check --format json")
    };
    let checked = |line: &str| {
        let output = unshared(&["--mount"], line);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<check::Document>(&output.stdout).unwrap()
    };
    let report = checked(&lines(&odd, ""));
    assert!(report.cgroup2.as_ref().unwrap().contains("a b"), "{:?}", report.cgroup2);
    // Below another mount it cannot be reached, and is mounted again.
    let covered = format!("mount -t tmpfs none '{}';", odd.display());
    assert!(checked(&lines(&odd, &covered)).cgroup2.is_none());
}

#[test]
fn a_hook_that_another_program_has_for_itself_is_named_with_the_remedy() {
    let Some(held) = Exclusive::on_root() else { return skip("a program is on the root cgroup's egress hook") };
    let outputs = [run_nettopd(&["--once", "0.1"]), run_nettopd(&["check"])];
    drop(held);
    for output in &outputs {
        assert_refused(output, "another program has this hook of the root cgroup for itself");
        assert_refused(output, "it has to be detached, or attached with `multi`");
    }
    assert_eq!(run_nettopd(&["--once", "0.1"]).status.code(), Some(0));
}
