//! The current process, read from its `task_struct`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use nettop_common::{Netns, Owner, OwnerKey, offsets::ABSENT};

use crate::kernel::{self, load, probe};

/// `PF_KTHREAD` of linux/sched.h, unchanged since 2.6.
const PF_KTHREAD: u32 = 0x0020_0000;
/// `PF_WQ_WORKER` of the same: runs what others have queued, and its name says nothing.
const PF_WQ_WORKER: u32 = 0x20;
/// `TS_COMPAT` of asm/thread_info.h (x86): the system call under way has numbers and arguments of 32 bits.
const TS_COMPAT: u32 = 0x2;

/// A task, as a pointer whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Task(*const c_void);

impl Task {
    /// The task this CPU runs. Who that is says nothing in softirq context.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no preconditions; it exists since 5.11.
        Self(unsafe { bpf_get_current_task_btf() } as *const c_void)
    }

    /// # Safety
    ///
    /// `task` must be a `task_struct` pointer from the program's context.
    #[inline(always)]
    pub const unsafe fn from_ptr(task: *const c_void) -> Self {
        Self(task)
    }

    #[inline(always)]
    pub fn is_kernel_thread(self) -> bool {
        load::<u32>(self.0, &kernel::TASK_FLAGS) & PF_KTHREAD != 0
    }

    #[inline(always)]
    pub fn is_worker(self) -> bool {
        load::<u32>(self.0, &kernel::TASK_FLAGS) & PF_WQ_WORKER != 0
    }

    #[inline(always)]
    pub fn is_in_32bit_call(self) -> bool {
        kernel::TASK_STATUS.load() != ABSENT && load::<u32>(self.0, &kernel::TASK_STATUS) & TS_COMPAT != 0
    }

    #[inline(always)]
    fn leader(self) -> *const c_void {
        load(self.0, &kernel::TASK_GROUP_LEADER)
    }

    #[inline(always)]
    pub fn is_leader(self) -> bool {
        self.leader() as u64 == self.0 as u64
    }

    /// Whether the last thread of the process is going: `do_exit` lowers `signal->live` before it
    /// reports `sched_process_exit`.
    #[inline(always)]
    pub fn is_last_thread(self) -> bool {
        let signal: *const c_void = load(self.0, &kernel::TASK_SIGNAL);
        load::<u32>(signal, &kernel::SIGNAL_LIVE) == 0
    }

    /// The network namespace new sockets are made in; nothing while exiting.
    #[inline(always)]
    pub fn netns(self) -> Netns {
        let nsproxy: u64 = probe(self.0 as u64, &kernel::TASK_NSPROXY);
        if nsproxy == 0 {
            return Netns::default();
        }
        kernel::netns(probe(nsproxy, &kernel::NSPROXY_NET))
    }

    /// Its open files, as an address.
    #[inline(always)]
    pub fn files(self) -> u64 {
        probe(self.0 as u64, &kernel::TASK_FILES)
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        load(self.0, &kernel::TASK_TGID)
    }

    #[inline(always)]
    fn uid(self) -> u32 {
        let cred: *const c_void = load(self.0, &kernel::TASK_CRED);
        load(cred, &kernel::CRED_UID)
    }

    #[inline(always)]
    fn start_time_ns(self) -> u64 {
        load(self.leader(), &kernel::TASK_START_BOOTTIME)
    }

    /// Through numbers: each pointer that is loaded with its type costs the verifier a search through all of the kernel's
    /// types (`btf_nested_type_is_trusted`, 6.3 and later), about a millisecond.
    #[inline(always)]
    pub fn key(self) -> OwnerKey {
        let task = self.0 as u64;
        OwnerKey {
            start_time_ns: probe(probe(task, &kernel::TASK_GROUP_LEADER), &kernel::TASK_START_BOOTTIME),
            tgid: self.tgid(),
            uid: probe(probe(task, &kernel::TASK_CRED), &kernel::CRED_UID),
        }
    }

    #[inline(always)]
    pub fn is(self, owner: &Owner) -> bool {
        self.tgid() == owner.key.tgid && self.uid() == owner.key.uid && self.start_time_ns() == owner.key.start_time_ns
    }

    /// Copies the name of the thread-group leader.
    #[inline(always)]
    pub fn copy_comm(self, comm: &mut [u8; 16]) {
        let leader: u64 = probe(self.0 as u64, &kernel::TASK_GROUP_LEADER);
        let from = leader + u64::from(kernel::TASK_COMM.load());
        // SAFETY: the helper checks the source; the destination is 16 bytes of a map value.
        unsafe { bpf_probe_read_kernel(comm.as_mut_ptr().cast(), 16, from as *const c_void) };
    }
}

/// The current task and whose it is, loaded once and at the start of a program: each of the two pointers on the way costs
/// the verifier searches as in [`Task::key`], again on every path that leads to it.
pub struct User {
    pub task: Task,
    key: OwnerKey,
}

impl User {
    #[inline(always)]
    pub fn current() -> Self {
        let task = Task::current();
        Self { task, key: OwnerKey { start_time_ns: task.start_time_ns(), tgid: task.tgid(), uid: task.uid() } }
    }

    #[inline(always)]
    pub fn is(&self, owner: &Owner) -> bool {
        self.key.tgid == owner.key.tgid
            && self.key.uid == owner.key.uid
            && self.key.start_time_ns == owner.key.start_time_ns
    }
}
