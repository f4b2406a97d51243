//! The daemon as systemd starts it: with a socket for notifications, as a user of its own, with three capabilities.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::{PermissionsExt as _, chown},
            net::UnixDatagram,
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use nettop_model::Snapshot;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
    unistd::Pid,
};

use crate::{followed::Followed, hang_timeout, nettopd_command};

/// Neither root nor anybody.
const USER: u32 = 65_534;
const CAPABILITIES: &str = "-all,+bpf,+perfmon,+net_admin";

/// A running daemon, in a folder that is its own.
pub struct Service {
    child: Child,
    folder: PathBuf,
    notifications: UnixDatagram,
    as_root: bool,
    args: Vec<String>,
    /// What systemd would keep, by name.
    kept: RefCell<Vec<(String, OwnedFd)>>,
    followed: Option<Followed>,
}

impl Service {
    /// Starts it with a configuration, to which the history's file is added. As root it has all capabilities.
    pub fn start(folder: &Path, as_root: bool, config: &str, args: &[&str]) -> Self {
        // Debian's kernels let nobody but CAP_SYS_ADMIN open perf events, which kprobes are (`perf_event_paranoid` of 3).
        let as_root = as_root || std::env::var_os("NETTOPD_BACKEND").is_some_and(|backend| backend == "kprobe");
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
        write_config(folder, config);
        let words: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
        let child = spawn(folder, as_root, &words, &[]);
        Self {
            child,
            folder: folder.into(),
            notifications,
            as_root,
            args: words,
            kept: RefCell::default(),
            followed: None,
        }
    }

    /// Checks its documents from now on, and those of the daemons that take over.
    pub fn follow(&mut self) {
        self.followed.get_or_insert_default().follow(&self.folder.join("nettopd.sock"));
    }

    /// A followed daemon's document of an interval that ended later than now.
    pub fn document(&self) -> Snapshot {
        self.followed.as_ref().unwrap().document()
    }

    /// Kills it, does something, and starts it again with the descriptors that it had kept.
    pub fn crash(&mut self, meanwhile: impl FnOnce()) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if let Some(followed) = &mut self.followed {
            followed.finish();
        }
        meanwhile();
        self.child = spawn(&self.folder, self.as_root, &self.args, &self.kept.borrow());
    }

    /// A descriptor that it had kept, by the end of its name.
    pub fn kept(&self, name: &str) -> OwnedFd {
        let kept = self.kept.borrow();
        let found = kept.iter().find(|(kept, _)| kept.ends_with(name));
        found.unwrap_or_else(|| panic!("no {name}")).1.try_clone().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a notification that holds `what`, and returns all that were sent until then.
    pub fn wait_for(&self, what: &str) -> Vec<String> {
        let deadline = Instant::now() + hang_timeout();
        let mut messages = Vec::new();
        while !messages.last().is_some_and(|last: &String| last.contains(what)) {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.notifications.set_read_timeout(Some(left)).unwrap();
            match self.receive() {
                Ok(text) => messages.push(text),
                Err(Errno::EAGAIN) => panic!("no {what} in {messages:#?}; {}; log: {}", self.state(), self.log()),
                Err(error) => panic!("{error}"),
            }
        }
        messages
    }

    /// The next notification. As systemd, keeps what is to be kept.
    fn receive(&self) -> Result<String, Errno> {
        let (mut buffer, mut space) = ([0; 4096], cmsg_space!([RawFd; 1]));
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = self.notifications.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let fds =
            message.cmsgs()?.flat_map(|part| if let ControlMessageOwned::ScmRights(fds) = part { fds } else { vec![] });
        // SAFETY: they came with the message and are nobody else's.
        let fds: Vec<OwnedFd> = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
        let len = message.bytes;
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default().to_owned();
        let mut kept = self.kept.borrow_mut();
        if text.contains("FDSTOREREMOVE=1") {
            kept.retain(|(other, _)| *other != name);
        } else if text.contains("FDSTORE=1") {
            assert!(text.contains("FDPOLL=0"), "{text}");
            kept.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
        }
        Ok(text)
    }

    /// Gives it another configuration, and the signal to read it.
    pub fn reload(&self, config: &str) {
        self.set_config(config);
        self.signal(Signal::SIGHUP);
    }

    /// Gives it another configuration, for its next start.
    pub fn set_config(&self, config: &str) {
        write_config(&self.folder, config);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// What it does, for one that hangs.
    fn state(&self) -> String {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default();
        format!("{} {}", read("stat"), read("stack"))
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits until it logged this.
    pub fn wait_for_log(&self, what: &str) {
        let deadline = Instant::now() + hang_timeout();
        while !self.log().contains(what) {
            assert!(Instant::now() < deadline, "no {what:?} in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end, and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        // It waits until there is room for that.
        self.wait_for("STOPPING=1");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, as_root: bool, args: &[String], kept: &[(String, OwnedFd)]) -> Child {
    /// systemd's first, `SD_LISTEN_FDS_START`, and above all that are in use.
    const FIRST: RawFd = 3;
    const ABOVE: RawFd = 500;
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh", "setpriv"]);
    if !as_root {
        let id = USER.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps", CAPABILITIES]);
        command.args(["--ambient-caps", CAPABILITIES, "--bounding-set", CAPABILITIES]);
    }
    command
        .arg("--")
        .arg(folder.join("nettopd"))
        .args(["daemon", "--config"])
        .arg(folder.join("nettopd.toml"))
        .args(args);
    command
        .env("NOTIFY_SOCKET", folder.join("notify"))
        .env("WATCHDOG_USEC", "500000")
        .env_remove("JOURNAL_STREAM")
        .env("NETTOPD_SOCKET", folder.join("nettopd.sock"));
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command.stderr(log);
    if !kept.is_empty() {
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        command.env("LISTEN_FDS", kept.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    }
    // SAFETY: plain system calls on descriptors that stay open until the child runs.
    let high: Vec<OwnedFd> = kept
        .iter()
        .map(|(_, fd)| unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE)) })
        .collect();
    let numbers: Vec<RawFd> = high.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: dup2 is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (to, from) in (FIRST..).zip(&numbers) {
                if libc::dup2(*from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    command.spawn().unwrap()
}

fn write_config(folder: &Path, config: &str) {
    let file = folder.join("history.db");
    let config = format!("{config}\n[history]\nfile = {:?}\n", file.display().to_string());
    fs::write(folder.join("nettopd.toml"), config).unwrap();
}
