//! A machine with a real systemd and a clean Debian root, to try the package in: made of namespaces, or the virtual machine
//! that the scenario itself runs on.

mod namespaces;
mod this;
mod wait;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use self::namespaces::Namespaces;
pub use self::wait::{eventually, given};

/// A machine that has booted.
pub struct Machine {
    /// None where it is this one.
    namespaces: Option<Namespaces>,
    /// Begin of the scenario.
    since: SystemTime,
}

impl Machine {
    /// Boots a clean root. A virtual machine has booted, and is clean until the first package is installed.
    pub fn boot() -> Self {
        let is_virtual = std::env::var_os("NETTOP_MACHINE").is_some();
        let mut namespaces = (!is_virtual).then(Namespaces::new);
        if let Some(namespaces) = &mut namespaces {
            namespaces.start();
        }
        let machine = Self { namespaces, since: SystemTime::now() };
        if is_virtual {
            this::forget_failures();
        }
        machine.wait();
        machine
    }

    /// Boots a clean root and installs the package there.
    pub fn with_package() -> Self {
        let machine = Self::boot();
        if machine.is_virtual() && this::has_package() {
            this::begin_anew();
        } else {
            if machine.is_virtual() {
                this::widen_timeouts(true);
            }
            machine.install(&given("NETTOP_PACKAGE"));
        }
        machine
    }

    /// With the package, and the watchdog's timeout as shipped where the machine is emulated.
    pub fn with_package_and_watchdog() -> Self {
        let machine = Self::with_package();
        if machine.is_virtual() {
            this::run_with_watchdog();
        }
        machine
    }

    /// With the package, and booted again after something was done there: in order if it is virtual, else after a power
    /// cut. All that was written is there.
    pub fn booted_again(first: impl FnOnce(&Self)) -> Self {
        // A virtual machine takes the scenario down with it, which then begins again.
        let is_virtual = std::env::var_os("NETTOP_MACHINE").is_some();
        if is_virtual && this::was_started_anew() {
            return Self::boot();
        }
        let mut machine = Self::with_package();
        first(&machine);
        let Some(namespaces) = &mut machine.namespaces else { this::start_anew() };
        namespaces.power_off();
        namespaces.start();
        machine.wait();
        machine
    }

    fn wait(&self) {
        let booted = || self.try_run("systemctl", &["is-system-running", "--wait"]).stdout.starts_with(b"running");
        // A virtual machine logs why elsewhere.
        let console = || self.namespaces.as_ref().map(Namespaces::console).unwrap_or_default();
        assert!(eventually(Duration::from_secs(60), booted), "it does not boot:\n{}", console());
    }

    /// Whether it has a kernel of its own, with its own boot id.
    pub fn is_virtual(&self) -> bool {
        self.namespaces.is_none()
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

    /// A command that will run inside, as root, outside of any unit.
    pub fn command(&self, program: &str) -> Command {
        let mut command = if let Some(namespaces) = &self.namespaces {
            let mut command = Command::new("nsenter");
            command.args(["--all", "--target", &namespaces.init().to_string(), "--", program]);
            command
        } else {
            Command::new(program)
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        if self.namespaces.is_some() {
            // As its services have it.
            command.env("NETTOPD_NAMESPACED", "1");
        }
        command
    }

    /// Runs something to its end; it may fail.
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

    /// What the journal has of a unit since the scenario began.
    pub fn journal(&self, unit: &str) -> String {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let since = format!("--since=@{}", since.as_secs());
        self.run("journalctl", &["--unit", unit, &since, "--output", "cat", "--no-pager"])
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
        let root = self.namespaces.as_ref().map(|namespaces| format!("/proc/{}/root", namespaces.init()));
        PathBuf::from(root.unwrap_or_default() + path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.namespaces.as_ref().is_none_or(Namespaces::is_running) {
            let journal = self.try_run("journalctl", &["--unit", "nettopd", "--lines", "40", "--no-pager"]);
            println!("{}", String::from_utf8_lossy(&journal.stdout));
        }
    }
}
