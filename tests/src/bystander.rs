//! Processes that only spin, one on each processor: interrupts meet them, and nothing may be billed to them.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

/// One spinning process for each processor, ended when dropped. They run only where a processor would idle (`SCHED_IDLE`),
/// so that what is measured finds its processor free; timers and softirqs of an idle processor find them as `current`.
pub struct Bystanders(Vec<Pid>);

impl Bystanders {
    /// None in an emulated machine, which would take a CPU of the host all the time and not half of it; scenarios about
    /// who was interrupted have their own there.
    pub fn start() -> Self {
        if std::env::var_os("NETTOP_VM").is_some() {
            return Self(Vec::new());
        }
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
        Self(cpus.map(start_on).collect())
    }

    pub fn pids(&self) -> Vec<u32> {
        self.0.iter().map(|pid| pid.as_raw().cast_unsigned()).collect()
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGKILL);
            let _ = waitpid(*pid, None);
        }
    }
}

fn start_on(cpu: usize) -> Pid {
    // SAFETY: the child makes only system calls and never returns.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let parent = getppid();
            // No socket of the scenario is its own.
            // SAFETY: the child uses no descriptor.
            unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
            let mut here = CpuSet::new();
            let pinned = here.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &here));
            let idle = libc::sched_param { sched_priority: 0 };
            // SAFETY: a live parameter.
            let is_idle = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) } == 0;
            let _ = nix::sys::prctl::set_name(c"bystander");
            // A scenario that was killed takes its bystanders along.
            while pinned.is_ok() && is_idle && getppid() == parent {
                for _ in 0..100_000 {
                    std::hint::spin_loop();
                }
            }
            // SAFETY: ends the child and nothing else.
            unsafe { libc::_exit(1) }
        }
    }
}
