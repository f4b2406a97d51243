//! Forked processes, each with a channel to its parent.

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

/// A forked process, ended when dropped.
pub struct Child {
    pid: Pid,
    channel: UnixStream,
    ended: Cell<bool>,
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

impl Child {
    /// Forks. The child works, and ends.
    pub fn start(work: impl FnOnce(&Parent)) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // SAFETY: the child runs its closure and exits without returning; no other thread of the test
        // holds locks, since scenarios run one at a time.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { pid: child, channel: ours, ended: false.into() },
            ForkResult::Child => {
                drop(ours);
                let work = std::panic::AssertUnwindSafe(|| work(&Parent(theirs)));
                let code = std::panic::catch_unwind(work);
                // SAFETY: ends the child without the test harness's own exit handlers.
                unsafe { libc::_exit(i32::from(code.is_err())) }
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Waits for a number.
    pub fn wait_until_ready(&self) -> u64 {
        let mut number = [0; 8];
        (&self.channel).read_exact(&mut number).expect("the process ended too soon");
        u64::from_ne_bytes(number)
    }

    /// Lets the child go on from `wait_for_parent`.
    pub fn go(&self) {
        (&self.channel).write_all(&[1]).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&self) {
        self.ended.set(true);
        waitpid(self.pid, None).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended.get() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}
