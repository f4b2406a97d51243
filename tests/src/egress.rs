//! Programs on a cgroup's egress hook.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, setsid},
};

use crate::{
    bpf::{self, number},
    cgroup::{Cgroup, cgroup2},
};

const BPF_CGROUP_INET_EGRESS: u64 = 1;

/// Refuses what a group's processes send, as `IPAddressDeny=any` of systemd, until the result is dropped.
pub fn refuse(cgroup: &Cgroup) -> Attached {
    const BPF_F_ALLOW_MULTI: u64 = 2;
    Attached::new(cgroup.path(), 0, BPF_F_ALLOW_MULTI)
}

/// A program on a cgroup's egress hook.
pub struct Attached {
    _descriptors: [OwnedFd; 2],
    detach: [u64; 2],
}

impl Attached {
    const BPF_PROG_ATTACH: i64 = 8;
    const BPF_PROG_DETACH: i64 = 9;

    /// A `verdict` of 1 lets all pass, 0 nothing.
    fn new(cgroup: &Path, verdict: u64, flags: u64) -> Self {
        const BPF_PROG_TYPE_CGROUP_SKB: u64 = 8;
        let program = bpf::load(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS, verdict);
        let cgroup = fs::File::open(cgroup).unwrap().into();
        let mut attach = [number(&cgroup) | number(&program) << 32, BPF_CGROUP_INET_EGRESS | flags << 32];
        bpf::call(Self::BPF_PROG_ATTACH, &mut attach);
        Self { _descriptors: [program, cgroup], detach: [attach[0], BPF_CGROUP_INET_EGRESS] }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        bpf::call(Self::BPF_PROG_DETACH, &mut self.detach);
    }
}

/// A program that has the root's egress hook for itself, and lets all pass. A process of its own detaches it when this is
/// dropped, or its maker ends in any other way.
pub struct Exclusive {
    holder: Pid,
    /// Closed to end it.
    channel: Option<UnixStream>,
}

impl Exclusive {
    /// `None` if a program is there already: it would be replaced, or does not share the hook.
    pub fn on_root() -> Option<Self> {
        const BPF_PROG_QUERY: i64 = 16;
        let root = cgroup2();
        let cgroup = fs::File::open(&root).unwrap().into();
        let mut query = [number(&cgroup) | BPF_CGROUP_INET_EGRESS << 32, 0, 0, 0];
        bpf::call(BPF_PROG_QUERY, &mut query);
        // `prog_cnt`.
        if query[3] != 0 {
            return None;
        }
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        // SAFETY: the child attaches, waits and exits without returning; scenarios run one at a time.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                drop(theirs);
                ours.read_exact(&mut [0]).expect("the hook cannot be held");
                Some(Self { holder: child, channel: Some(ours) })
            }
            ForkResult::Child => {
                drop(ours);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    // Who ends a scenario that hangs ends its process group.
                    setsid().unwrap();
                    let _attached = Attached::new(&root, 1, 0);
                    theirs.write_all(&[1]).unwrap();
                    let _ = theirs.read(&mut [0]);
                }));
                // SAFETY: ends the child without the test harness's own exit handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.channel = None;
        let _ = waitpid(self.holder, None);
    }
}
