//! Processes that only spin, one on each processor: interrupts meet them, and nothing may be billed to them.

use std::{
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

/// How many scenarios' processes are waited for at the moment, in memory shared with the bystanders; and the process that
/// waits, since those that it forks have a copy of this.
static WAITS: OnceLock<(u32, &AtomicU32)> = OnceLock::new();
/// How long one in an emulated machine sleeps before it looks whether its scenario still lives.
static SLEEP: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };

/// One spinning process for each processor, ended when dropped. They run only where a processor would idle (`SCHED_IDLE`),
/// so that what is measured finds its processor free; timers and softirqs of an idle processor find them as `current`.
pub struct Bystanders(Vec<Pid>);

impl Bystanders {
    /// In an emulated machine they spin only while a scenario waits for its processes, which move data meanwhile: else
    /// they would take a CPU of the host all the time.
    pub fn start() -> Self {
        let waits = std::env::var_os("NETTOP_VM").map(|_| WAITS.get_or_init(|| (std::process::id(), shared_word())).1);
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
        Self(cpus.map(|cpu| start_on(cpu, waits)).collect())
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

/// The bystanders of an emulated machine spin as long as this lives.
pub struct Busy(Option<&'static AtomicU32>);

impl Busy {
    pub fn begin() -> Self {
        let waits = WAITS.get().filter(|(pid, _)| *pid == std::process::id()).map(|(_, waits)| *waits);
        if let Some(waits) = waits {
            waits.fetch_add(1, SeqCst);
            // SAFETY: a live word.
            unsafe { libc::syscall(libc::SYS_futex, waits.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
        }
        Self(waits)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(waits) = self.0 {
            waits.fetch_sub(1, SeqCst);
        }
    }
}

/// A word that processes forked later share, for good.
fn shared_word() -> &'static AtomicU32 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, zeroed and never unmapped.
    unsafe {
        let word = libc::mmap(ptr::null_mut(), size_of::<AtomicU32>(), protection, flags, -1, 0);
        assert!(word != libc::MAP_FAILED, "no shared memory");
        &*word.cast::<AtomicU32>()
    }
}

fn start_on(cpu: usize, waits: Option<&'static AtomicU32>) -> Pid {
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
                if let Some(waits) = waits
                    && waits.load(SeqCst) == 0
                {
                    // SAFETY: a live word and a live time.
                    unsafe { libc::syscall(libc::SYS_futex, waits.as_ptr(), libc::FUTEX_WAIT, 0, &raw const SLEEP) };
                    continue;
                }
                for _ in 0..if waits.is_some() { 1000 } else { 100_000 } {
                    std::hint::spin_loop();
                }
            }
            // SAFETY: ends the child and nothing else.
            unsafe { libc::_exit(1) }
        }
    }
}
