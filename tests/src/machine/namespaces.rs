//! A machine made of namespaces: a systemd as process 1 of a clean Debian root, whose changes are thrown away.
//!
//! Its cgroups are a branch of the host's: nettopd in there attaches to that branch, and sees it alone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::wait::{eventually, given};
use crate::cgroup::cgroup2;

/// Running, or off between two boots.
pub struct Namespaces {
    /// Holds what is changed.
    folder: PathBuf,
    cgroup: PathBuf,
    running: Option<Running>,
}

struct Running {
    unshare: Child,
    /// systemd, as the host numbers it.
    init: u32,
}

impl Namespaces {
    /// A clean root, which is not started yet.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nettop-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Beside the clean root: an overlay cannot have its changes on another overlay, as /tmp may be.
        let folder = given("NETTOP_ROOT").with_file_name(&name);
        for part in ["changes", "work", "root"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        Self { folder, cgroup: cgroup2().join(&name), running: None }
    }

    pub fn start(&mut self) {
        fs::create_dir(&self.cgroup).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--net"]);
        unshare.args(["--propagation", "private", "sh", "-c", include_str!("namespaces.sh"), "machine"]);
        unshare.arg(given("NETTOP_ROOT")).arg(&self.folder);
        let procs = self.cgroup.join("cgroup.procs");
        // SAFETY: writes a file of which only the path was allocated, before the fork.
        unsafe { unshare.pre_exec(move || fs::write(&procs, "0")) };
        let console = fs::File::create(self.folder.join("console")).unwrap();
        unshare.stdin(Stdio::null()).stderr(console).stdout(Stdio::piped());
        let mut unshare = unshare.spawn().expect("a machine needs root and util-linux");
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let init = line.trim().parse().expect("process 1 did not print its number");
        self.running = Some(Running { unshare, init });
    }

    /// systemd's output.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Number of systemd on the host.
    pub fn init(&self) -> u32 {
        self.running.as_ref().expect("the machine is off").init
    }

    pub fn power_off(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The kernel ends everything else in there.
        let init = nix::unistd::Pid::from_raw(running.init.cast_signed());
        let _ = nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL);
        let _ = running.unshare.wait();
        assert!(eventually(Duration::from_secs(10), || remove_cgroup(&self.cgroup)), "its cgroups stay");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.power_off();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes a branch, from its leaves on; fails while processes are ending.
fn remove_cgroup(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok()
}
