//! A machine made of namespaces: a real systemd as process 1 of a clean Debian root, whose changes are thrown away.
//!
//! Its cgroups are a branch of the host's: nettopd in there attaches to that branch, and sees it alone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// A running machine, or one that is off between two boots.
pub struct Machine {
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

impl Machine {
    /// Boots a clean root.
    pub fn boot() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nettop-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Beside the clean root: an overlay cannot have its changes on another overlay, as /tmp may be.
        let folder = given("NETTOP_ROOT").with_file_name(&name);
        for part in ["changes", "work", "root"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let mut machine = Self { folder, cgroup: cgroup2().join(&name), running: None };
        machine.start();
        machine
    }

    /// Boots a clean root and installs the package there.
    pub fn with_package() -> Self {
        let machine = Self::boot();
        machine.install(&given("NETTOP_PACKAGE"));
        machine
    }

    /// Installs a package from the host.
    pub fn install(&self, package: &Path) {
        // Read from standard input: the host's files are not there.
        let mut put = self.command("sh");
        put.args(["-c", "cat > /tmp/package.deb"]).stdin(fs::File::open(package).unwrap());
        assert!(put.status().unwrap().success());
        self.run("dpkg", &["--install", "/tmp/package.deb"]);
        self.run("rm", &["/tmp/package.deb"]);
    }

    /// Turns the power off and boots again, with everything that was written.
    pub fn reboot(&mut self) {
        self.power_off();
        self.start();
    }

    fn start(&mut self) {
        fs::create_dir(&self.cgroup).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--net"]);
        unshare.args(["--propagation", "private", "sh", "-c", include_str!("machine.sh"), "machine"]);
        unshare.arg(given("NETTOP_ROOT")).arg(&self.folder);
        let procs = self.cgroup.join("cgroup.procs");
        // SAFETY: writes a file of which only the path was allocated, before the fork.
        unsafe { unshare.pre_exec(move || fs::write(&procs, "0")) };
        let console = fs::File::create(self.folder.join("console")).unwrap();
        unshare.stdin(Stdio::null()).stderr(console).stdout(Stdio::piped());
        let mut unshare = unshare.spawn().expect("a machine needs root and util-linux");
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let init = line.trim().parse().expect("process 1 did not tell its number");
        self.running = Some(Running { unshare, init });
        let booted = || self.try_run("systemctl", &["is-system-running", "--wait"]).stdout.starts_with(b"running");
        assert!(eventually(Duration::from_secs(60), booted), "it does not boot:\n{}", self.console());
    }

    /// What systemd said.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    fn power_off(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // The kernel ends everything else in there.
        let init = nix::unistd::Pid::from_raw(running.init.cast_signed());
        let _ = nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL);
        let _ = running.unshare.wait();
        assert!(eventually(Duration::from_secs(10), || remove_cgroup(&self.cgroup)), "its cgroups stay");
    }

    /// A command that will run inside, as root, outside of any unit.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let init = self.running.as_ref().expect("the machine is off").init;
        command.args(["--all", "--target", &init.to_string(), "--", program]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// Runs something to its end, whatever that is.
    pub fn try_run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }

    /// Runs something that has to succeed, and returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.try_run(program, args);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {}\n{printed}{said}", output.status);
        printed
    }

    /// Runs something as a user with the groups given, and no capabilities.
    pub fn run_as(&self, user: &str, groups: &str, program: &str, args: &[&str]) -> Output {
        let mut command = self.command("setpriv");
        command.args(["--reuid", user, "--regid", "nogroup", "--groups", groups, "--bounding-set=-all", "--"]);
        command.arg(program).args(args).output().unwrap()
    }

    /// Sends a signal to a process, by its number inside.
    pub fn kill(&self, signal: &str, pid: u32) {
        self.run("sh", &["-c", &format!("kill -{signal} {pid}")]);
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run("systemctl", &["show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// What the journal has of a unit.
    pub fn journal(&self, unit: &str) -> String {
        self.run("journalctl", &["--unit", unit, "--output", "cat", "--no-pager"])
    }

    /// Process number inside of a unit's main process; `None` where it has none.
    pub fn main_pid(&self, unit: &str) -> Option<u32> {
        self.property(unit, "MainPID").parse().ok().filter(|pid| *pid != 0)
    }

    /// All files but those that the kernel and systemd make while the machine runs.
    pub fn files(&self) -> Vec<String> {
        let found = self.run("find", &["/", "-xdev", "-not", "-type", "s"]);
        found.lines().map(ToOwned::to_owned).collect()
    }

    /// Where a file of the running machine is, as the host sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        let init = self.running.as_ref().expect("the machine is off").init;
        PathBuf::from(format!("/proc/{init}/root{path}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.running.is_some() {
            let journal = self.try_run("journalctl", &["--unit", "nettopd", "--lines", "40", "--no-pager"]);
            println!("{}", String::from_utf8_lossy(&journal.stdout));
        }
        self.power_off();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until something holds; returns whether it did in time.
pub fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
    true
}

/// What `cargo xtask test` tells by the environment.
pub fn given(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; run `cargo xtask test`"));
    value.into()
}

/// Where cgroup2 is mounted, alone or beside others.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|mount| mount[2] == "cgroup2").expect("cgroup2 is not mounted");
    PathBuf::from(mount[1])
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
