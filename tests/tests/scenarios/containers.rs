//! Containers and pods by name: groups and files as runtimes make them, in a mount namespace of nettopd's own.

use std::{
    ffi::CString,
    fs,
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nettop_model::{Snapshot, snapshot::RowReport};
use nettop_tests::{Namespace, Nettopd, cgroup::Cgroup, nettopd_command};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const ID: &str = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
const POD: &str = "dde1244b-5bb5-4297-b544-85f3bc0d80bf";
const SEND: &str = "printf x > /dev/udp/127.0.0.1/9";

/// Folders that nettopd sees as /var/lib, /var/log and /run.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for folder in ["var/lib", "var/log", "run"] {
            fs::create_dir_all(tree.path(folder)).unwrap();
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// nettopd, to which arguments are to be added.
    fn nettopd(&self) -> Command {
        // A guest may have no /var/lib.
        for folder in ["/var/lib", "/var/log", "/run"] {
            fs::create_dir_all(folder).unwrap();
        }
        let root = self.0.path().display();
        let mounts = ["var/lib", "var/log", "run"].map(|folder| format!("mount --bind {root}/{folder} /{folder}"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{} && exec \"$0\" \"$@\"", mounts.join(" && "))]);
        command.arg(nettopd_command().get_program()).env("NETTOPD_SOCKET", "");
        command
    }
}

/// A program of milliseconds in a group.
fn send_in(group: &Cgroup, alone: &Namespace) -> u32 {
    let line = format!("echo $$ > {}/cgroup.procs; {SEND}", group.path().display());
    let mut shell = Command::new("bash");
    shell.args(["-c", &line]);
    let mut shell = alone.inside(shell).spawn().unwrap();
    assert!(shell.wait().unwrap().success());
    shell.id()
}

fn row(document: &Snapshot, pid: u32) -> &RowReport {
    document.rows.iter().find(|row| row.pid == pid).unwrap_or_else(|| panic!("no row of {pid}"))
}

/// container, `container_name`, image, runtime, pod, `pod_container`, workload.
fn names(row: &RowReport) -> [Option<&str>; 7] {
    [
        row.process.container.as_deref(),
        row.process.names.container_name.as_deref(),
        row.process.names.image.as_deref(),
        row.process.names.runtime.as_deref(),
        row.process.names.pod.as_deref(),
        row.process.names.pod_container.as_deref(),
        row.process.names.workload.as_deref(),
    ]
}

#[test]
fn containers_have_the_names_that_their_runtimes_leave_on_disk() {
    let tree = Tree::new();
    let id = |digit: char| digit.to_string() + &ID[1..];
    let [docker, podman, by_systemd, by_cgroupfs] = ['1', '2', '3', '4'].map(id);
    tree.write(
        &format!("var/lib/docker/containers/{docker}/config.v2.json"),
        r#"{"Name":"/web\u001b","Config":{"Image":"nginx:1.25"}}"#,
    );
    tree.write(
        "var/lib/containers/storage/overlay-containers/containers.json",
        &format!(r#"[{{"id":"{podman}","names":["etl"],"metadata":"{{\"image-name\":\"localhost/etl:1\"}}"}}]"#),
    );
    tree.write(
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{by_systemd}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.image-name":"shop/cart:7"}}"#,
    );
    let pod = "cart-7d4b9c6f5d-x2x7k";
    tree.write(&format!("var/log/pods/shop_{pod}_{POD}/cart/0.log"), "");
    tree.write(&format!("var/log/pods/shop_{pod}_{POD}/proxy/0.log"), "");
    fs::create_dir(tree.path("var/log/containers")).unwrap();
    for (name, id) in [("cart", &by_systemd), ("proxy", &by_cgroupfs)] {
        symlink("x", tree.path(&format!("var/log/containers/{pod}_shop_{name}-{id}.log"))).unwrap();
    }

    let history = tree.path("history.db");
    let history = history.to_str().unwrap();
    let nettopd = Nettopd::start_by(tree.nettopd(), &["--rows", "4096", "--history", history]);
    let alone = Namespace::new();
    let system = Cgroup::new("system.slice");
    let kubepods = Cgroup::new("kubepods");
    let (burstable, slice) = (kubepods.child("burstable"), Cgroup::new("kubepods.slice"));
    let of_cgroupfs = burstable.child(&format!("pod{POD}"));
    let of_systemd = slice.child(&format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_")));
    let nspawn = system.child("systemd-nspawn@box.service");
    let groups = [
        system.child(&format!("docker-{docker}.scope")),
        system.child(&format!("libpod-{podman}.scope")),
        of_systemd.child(&format!("cri-containerd-{by_systemd}.scope")),
        of_cgroupfs.child(&by_cgroupfs),
        nspawn.child("payload"),
        system.child("cron.service"),
    ];
    let pids = groups.each_ref().map(|group| send_in(group, &alone));
    let document = nettopd.settled();
    let name = format!("shop/{pod}");
    let in_pod = |container| [Some(name.as_str()), Some(container), Some("cart")];
    let of_pod = |id, container, image, runtime| {
        let [pod, pod_container, workload] = in_pod(container);
        [Some(id), Some(container), image, runtime, pod, pod_container, workload]
    };
    let none = [None; 3];
    let of = |id, name, image, runtime| {
        let [pod, container, workload] = none;
        [Some(id), Some(name), image, Some(runtime), pod, container, workload]
    };
    for (pid, expected) in pids.into_iter().zip([
        of(docker.as_str(), "web\\x1b", Some("nginx:1.25"), "docker"),
        of(podman.as_str(), "etl", Some("localhost/etl:1"), "podman"),
        of_pod(by_systemd.as_str(), "cart", Some("shop/cart:7"), Some("containerd")),
        of_pod(by_cgroupfs.as_str(), "proxy", None, None),
        of("box", "box", None, "nspawn"),
        [None; 7],
    ]) {
        assert_eq!(names(row(&document, pid)), expected);
    }
    nettopd.stop(Signal::SIGTERM);
    let asked = |args: &[&str]| {
        let mut command = nettopd_command();
        command.args(["history", "--history", history, "--format", "json"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<nettop_model::history::Document>(&output.stdout).unwrap().rows
    };
    for select in [&["--pod", &name][..], &["--pod", pod], &[]] {
        let rows = asked(&[&["--by", "pod"], select].concat());
        let of_pod = rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!((of_pod.processes, of_pod.sum.tx.app_bytes), (Some(2), 2), "{of_pod:#?}");
        assert_eq!(of_pod.process.names.workload.as_deref(), Some("cart"));
        assert!(rows.len() == 1 || select.is_empty(), "{rows:#?}");
    }
    let rows = asked(&["--container", "etl"]);
    assert_eq!((rows.len(), rows[0].process.names.image.as_deref()), (1, Some("localhost/etl:1")), "{rows:#?}");
}

/// Shows who opened and closed a file.
fn watch(path: &Path) -> OwnedFd {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: makes a descriptor and nothing else.
    let watch = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    assert!(watch >= 0);
    // SAFETY: the path ends with a zero, and the descriptor was just made.
    assert!(unsafe { libc::inotify_add_watch(watch, path.as_ptr(), libc::IN_CLOSE_NOWRITE) } >= 0);
    // SAFETY: nobody else has it.
    unsafe { OwnedFd::from_raw_fd(watch) }
}

/// Whether the file was read, at the latest after `ms`.
fn is_read(watch: &OwnedFd, ms: u16) -> bool {
    poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], ms).unwrap() > 0
}

#[test]
fn a_container_that_is_removed_before_the_report_has_its_name() {
    let tree = Tree::new();
    let [first, second] = ["1", "2"].map(|digit| digit.to_owned() + &ID[1..]);
    let [(first_file, first_group), (file, group)] = [&first, &second].map(|id| {
        let path = format!("var/lib/docker/containers/{id}/config.v2.json");
        let file = tree.write(&path, r#"{"Name":"/brief","Config":{"Image":"i"}}"#);
        (file, Cgroup::new(&format!("docker-{id}.scope")))
    });
    let [first_watch, watch] = [&first_file, &file].map(|file| watch(file));
    let mut nettopd = tree.nettopd();
    // There is one report: that at the end.
    nettopd.args(["--format", "ndjson", "--no-history", "86400"]).stdout(Stdio::piped());
    let mut nettopd = nettopd.spawn().unwrap();
    let alone = Namespace::new();
    // Until nettopd is there, which may have read the first for its first reading. No machine takes five minutes.
    let is_there = (0..3000).any(|_| {
        assert!(nettopd.try_wait().unwrap().is_none(), "nettopd has ended");
        send_in(&first_group, &alone);
        is_read(&first_watch, 100)
    });
    let pid = send_in(&group, &alone);
    let is_seen = is_there && is_read(&watch, 60_000);
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    drop(group);
    kill(Pid::from_raw(nettopd.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut lines = BufReader::new(nettopd.stdout.take().unwrap()).lines();
    let document: Snapshot = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(nettopd.wait().unwrap().success());
    assert!(is_seen, "its name was not looked for");
    let row = row(&document, pid);
    assert!(row.exited);
    assert_eq!(names(row)[..4], [Some(second.as_str()), Some("brief"), Some("i"), Some("docker")]);
}
