//! The daemon as systemd starts it: with a socket for notifications, as a user of its own, with three capabilities.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::nettopd_command;

/// Neither root nor anybody.
const USER: u32 = 65_534;
const CAPABILITIES: &str = "-all,+bpf,+perfmon,+net_admin";

/// A running daemon, in a folder that is its own.
pub struct Service {
    child: Child,
    folder: PathBuf,
    notifications: UnixDatagram,
}

impl Service {
    /// Starts it with a configuration, to which the history's file is added. As root it has all capabilities.
    pub fn start(folder: &Path, as_root: bool, config: &str, args: &[&str]) -> Self {
        let user = if as_root { 0 } else { USER };
        chown(folder, Some(user), Some(user)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        // Its own folder may be closed to others. Copied by a process that ends: a descriptor for writing that another
        // test's child has inherited would keep the copy from being run.
        let binary = folder.join("nettopd");
        let copied = Command::new("cp").arg(nettopd_command().get_program()).arg(&binary).status().unwrap();
        assert!(copied.success());
        let socket = folder.join("notify");
        let notifications = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = Command::new("setpriv");
        if !as_root {
            let id = USER.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps", CAPABILITIES]);
            command.args(["--ambient-caps", CAPABILITIES, "--bounding-set", CAPABILITIES]);
        }
        command.arg(&binary).args(["daemon", "--config"]).arg(folder.join("nettopd.toml")).args(args);
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "2000000").env_remove("JOURNAL_STREAM");
        command.env("NETTOPD_SOCKET", folder.join("nettopd.sock"));
        command.stderr(File::create(folder.join("log")).unwrap());
        write_config(folder, config);
        Self { child: command.spawn().unwrap(), folder: folder.into(), notifications }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a notification that holds `what`, and returns all that were sent until then.
    pub fn wait_for(&self, what: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut told = Vec::new();
        while !told.last().is_some_and(|last: &String| last.contains(what)) {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.notifications.set_read_timeout(Some(left)).unwrap();
            let mut buffer = vec![0; 4096];
            match self.notifications.recv(&mut buffer) {
                Ok(len) => told.push(String::from_utf8_lossy(&buffer[..len]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("no {what} in {told:#?}; log: {}", self.log());
                }
                Err(error) => panic!("{error}"),
            }
        }
        told
    }

    /// Gives it another configuration, and the signal to read it.
    pub fn reload(&self, config: &str) {
        write_config(&self.folder, config);
        self.signal(Signal::SIGHUP);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits until it logged this.
    pub fn wait_for_log(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(what) {
            assert!(Instant::now() < deadline, "no {what:?} in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end, and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(folder: &Path, config: &str) {
    let file = folder.join("history.db");
    let config = format!("{config}\n[history]\nfile = {:?}\n", file.display().to_string());
    fs::write(folder.join("nettopd.toml"), config).unwrap();
}
