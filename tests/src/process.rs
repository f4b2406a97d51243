//! The scenarios' own processes: each does one thing and reports what it really moved.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{Gid, Uid, setgid, setuid},
};

use crate::{Moved, Namespace, Parent, bystander::Busy, child::Child, hang_timeout};

/// Who owns nothing.
const NOBODY: u32 = 65_534;

/// A process in a namespace, ended when dropped.
pub struct Process(Child);

impl Process {
    /// Forks. The child enters the namespace, works and reports what it moved.
    pub fn start(namespace: Option<&Namespace>, work: impl FnOnce(&Parent) -> Moved) -> Self {
        let namespace = namespace.map(Namespace::file);
        Self(Child::start(|parent| {
            if let Some(namespace) = namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            }
            let moved = work(parent);
            parent.send_number(moved.sent);
            parent.send_number(moved.received);
        }))
    }

    /// Runs a process to its end.
    pub fn run(namespace: Option<&Namespace>, work: impl FnOnce(&Parent) -> Moved) -> (u32, Moved) {
        let process = Self::start(namespace, work);
        let pid = process.pid();
        (pid, process.finish())
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits for a number.
    pub fn wait_until_ready(&self) -> u64 {
        let _busy = Busy::begin();
        self.0.wait_until_ready()
    }

    /// Waits until the child's main thread is inside a system call.
    pub fn wait_until_inside(&self, call: libc::c_long) {
        let deadline = Instant::now() + hang_timeout();
        let is_inside = || {
            let text = fs::read_to_string(format!("/proc/{}/syscall", self.pid())).unwrap();
            text.split(' ').next() == Some(&call.to_string())
        };
        while !is_inside() {
            assert!(Instant::now() < deadline, "it is not in call {call}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Lets the child go on from `wait_for_parent`.
    pub fn go(&self) {
        self.0.go();
    }

    /// Waits for the end and returns what was moved.
    pub fn finish(self) -> Moved {
        let moved = Moved { sent: self.wait_until_ready(), received: self.wait_until_ready() };
        self.0.wait();
        moved
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
