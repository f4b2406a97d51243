//! The scenarios' own processes: each does one thing and reports what it really moved.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Gid, Pid, Uid, fork, setgid, setuid},
};

use crate::{Namespace, bystander::Busy};

/// Who owns nothing.
const NOBODY: u32 = 65_534;

/// App bytes a process sent and received.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Moved {
    pub sent: u64,
    pub received: u64,
}

impl Moved {
    /// As the other side has it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { sent: self.received, received: self.sent }
    }
}

/// A forked process, ended when dropped.
pub struct Process {
    pid: Pid,
    channel: UnixStream,
    ended: std::cell::Cell<bool>,
}

/// The child's end.
pub struct Parent(UnixStream);

impl Parent {
    /// Reports the next step.
    pub fn signal_ready(&self) {
        self.send_number(0);
    }

    /// The same with a number: a port, a pid.
    pub fn send_number(&self, number: u64) {
        (&self.0).write_all(&number.to_ne_bytes()).unwrap();
    }

    /// Waits until the parent calls `go`, or ends.
    pub fn wait_for_parent(&self) {
        if (&self.0).read_exact(&mut [0]).is_err() {
            std::process::exit(0);
        }
    }
}

impl Process {
    /// Forks. The child enters the namespace, works and reports what it moved.
    pub fn start(namespace: Option<&Namespace>, work: impl FnOnce(&Parent) -> Moved) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let namespace = namespace.map(Namespace::file);
        // SAFETY: the child runs its closure and exits without returning; no other thread of the test
        // holds locks, since scenarios run one at a time.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { pid: child, channel: ours, ended: false.into() },
            ForkResult::Child => {
                drop(ours);
                if let Some(namespace) = namespace {
                    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                }
                let parent = Parent(theirs);
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let moved = work(&parent);
                    parent.send_number(moved.sent);
                    parent.send_number(moved.received);
                }));
                // SAFETY: ends the child without the test harness's own exit handlers.
                unsafe { libc::_exit(i32::from(code.is_err())) }
            }
        }
    }

    /// Runs a process to its end.
    pub fn run(namespace: Option<&Namespace>, work: impl FnOnce(&Parent) -> Moved) -> (u32, Moved) {
        let process = Self::start(namespace, work);
        let pid = process.pid();
        (pid, process.finish())
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Waits for a number.
    pub fn wait_until_ready(&self) -> u64 {
        let _busy = Busy::begin();
        let mut number = [0; 8];
        (&self.channel).read_exact(&mut number).expect("the process ended too soon");
        u64::from_ne_bytes(number)
    }

    /// Lets the child go on from `wait_for_parent`.
    pub fn go(&self) {
        (&self.channel).write_all(&[1]).unwrap();
    }

    /// Waits for the end and returns what was moved.
    pub fn finish(self) -> Moved {
        let moved = Moved { sent: self.wait_until_ready(), received: self.wait_until_ready() };
        self.ended.set(true);
        waitpid(self.pid, None).unwrap();
        moved
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended.get() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Names the calling process.
pub fn set_name(name: &[u8]) {
    let name = std::ffi::CString::new(name).unwrap();
    nix::sys::prctl::set_name(&name).unwrap();
}

/// Makes the calling process an unprivileged user's.
pub fn become_nobody() {
    setgid(Gid::from_raw(NOBODY)).unwrap();
    setuid(Uid::from_raw(NOBODY)).unwrap();
    // Files of its own in /proc are root's until then.
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// `unshare -Urn` by hand, of an unprivileged user; fails where the machine lets none.
pub fn unshare_as_nobody() -> nix::Result<()> {
    become_nobody();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {NOBODY} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {NOBODY} 1")).unwrap();
    Ok(())
}
