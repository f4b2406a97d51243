//! The scenarios' own processes: each does one thing, and tells what it really moved.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use crate::Namespace;

/// App bytes a process sent and received.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Moved {
    pub sent: u64,
    pub received: u64,
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
    /// Says that the next step is reached.
    pub fn tell(&self) {
        self.tell_number(0);
    }

    /// As `tell`, with a number: a port, a pid.
    pub fn tell_number(&self, number: u64) {
        (&self.0).write_all(&number.to_ne_bytes()).unwrap();
    }

    /// Waits until the parent says `go`, or ends.
    pub fn wait_for_parent(&self) {
        if (&self.0).read_exact(&mut [0]).is_err() {
            std::process::exit(0);
        }
    }
}

impl Process {
    /// Forks; the child enters the namespace, does its work and tells what it moved.
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
                    parent.tell_number(moved.sent);
                    parent.tell_number(moved.received);
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

    /// Waits for a `tell`.
    pub fn wait_until_ready(&self) -> u64 {
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
