//! The current process, read from its `task_struct`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf};
use nettop_common::{
    Netns, Owner, OwnerKey,
    abi::{PF_EXITING, PF_KTHREAD, PF_WQ_WORKER, TS_COMPAT},
    log::Hook,
    offsets::ABSENT,
};

use crate::{
    kernel::{self, load, probe, probe_at},
    maps::stats,
};

/// A task, as a pointer whose type the verifier knows.
#[derive(Clone, Copy)]
pub struct Task(*const c_void);

impl Task {
    /// The task on this CPU. It means nothing in softirq context.
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
    pub fn is_exiting(self) -> bool {
        load::<u32>(self.0, &kernel::TASK_FLAGS) & PF_EXITING != 0
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

    /// The network namespace of its new sockets; none while exiting.
    #[inline(always)]
    pub fn netns(self) -> Netns {
        netns(self.0 as u64)
    }

    /// That of its process's first thread.
    #[inline(always)]
    pub fn leaders_netns(self) -> Netns {
        netns(probe(self.0 as u64, &kernel::TASK_GROUP_LEADER))
    }

    #[inline(always)]
    pub const fn as_ptr(self) -> *const c_void {
        self.0
    }

    /// Its process's first task, as an address.
    #[inline(always)]
    pub fn leader_address(self) -> u64 {
        probe(self.0 as u64, &kernel::TASK_GROUP_LEADER)
    }

    /// The start of its kernel stack, 0 if unknown.
    #[inline(always)]
    pub fn stack(self) -> u64 {
        if kernel::TASK_STACK.load() == ABSENT { 0 } else { probe(self.0 as u64, &kernel::TASK_STACK) }
    }

    /// Its open files, as an address.
    #[inline(always)]
    pub fn files(self) -> u64 {
        probe(self.0 as u64, &kernel::TASK_FILES)
    }

    /// Whether it opened the file of a socket, and has changed neither program nor user since: each process has its own
    /// credentials (`copy_creds`), shared by its threads, and a file keeps its opener's.
    #[inline(always)]
    pub fn has_opened(self, sk: u64) -> bool {
        let socket: u64 = probe(sk, &kernel::SOCK_SOCKET);
        let file: u64 = probe(socket, &kernel::SOCKET_FILE);
        let cred: u64 = probe(file, &kernel::FILE_CRED);
        socket != 0 && file != 0 && cred == probe(self.0 as u64, &kernel::TASK_CRED)
    }

    #[inline(always)]
    pub fn pid(self) -> u32 {
        load(self.0, &kernel::TASK_PID)
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

    /// Through numbers: each load of a typed pointer costs the verifier a search in all kernel types
    /// (`btf_nested_type_is_trusted`, 6.3 and later), about a millisecond.
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

    /// Name of the thread-group leader.
    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        comm(self.0 as u64)
    }
}

/// Whether the running task is in a system call with a descriptor of this socket as first argument. Unknown, and false, for
/// 32-bit programs and for io_uring, which names its sockets elsewhere.
#[inline(always)]
pub fn is_in_call_on(sk: u64) -> bool {
    find_call_on(sk) != 0
}

/// Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_call_on(sk: u64) -> u32 {
    let task = Task::current();
    let registers_offset = stats().map_or(0, |stats| stats.call_registers_offset);
    let stack = task.stack();
    if registers_offset == 0 || stack == 0 || task.is_in_32bit_call() {
        return 0;
    }
    let registers = stack.wrapping_add(registers_offset);
    let fd: u64 = if kernel::SYSCALL_ARGUMENT_0.load() != ABSENT {
        probe(registers, &kernel::SYSCALL_ARGUMENT_0)
    } else if kernel::SYSCALL_ORIGINAL_X0.load() != ABSENT {
        probe(registers, &kernel::SYSCALL_ORIGINAL_X0)
    } else {
        return 0;
    };
    // A descriptor is an int. Another thread may replace the table meanwhile: this one is read.
    let fd = fd & 0xffff_ffff;
    let table: u64 = probe(task.files(), &kernel::FILES_TABLE);
    let files: u64 = probe(table, &kernel::FILES_FD);
    let file: u64 = probe_at(files.wrapping_add(fd * 8));
    let socket: u64 = probe(sk, &kernel::SOCK_SOCKET);
    let is_on = fd < u64::from(probe::<u32>(table, &kernel::FILES_MOST))
        && file != 0
        && file == probe(socket, &kernel::SOCKET_FILE);
    u32::from(is_on)
}

/// The address of the task on this CPU, as a number: functions that the verifier checks separately take no pointer to a
/// task.
#[inline(always)]
pub fn current_address() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// The network namespace of the task at an address; none while it exits.
#[inline(always)]
fn netns(task: u64) -> Netns {
    match net(task) {
        0 => Netns::default(),
        net => kernel::netns(net),
    }
}

/// The same as the address of its `struct net`.
#[inline(always)]
pub fn net(task: u64) -> u64 {
    match probe(task, &kernel::TASK_NSPROXY) {
        0 => 0,
        nsproxy => probe(nsproxy, &kernel::NSPROXY_NET),
    }
}

/// The user namespace of the task at an address, as an address.
#[inline(always)]
pub fn user_ns(task: u64) -> u64 {
    probe(probe(task, &kernel::TASK_CRED), &kernel::CRED_USER_NS)
}

/// Name of the thread-group leader of the task at an address.
#[inline(always)]
pub fn comm(task: u64) -> [u8; 16] {
    probe(probe(task, &kernel::TASK_GROUP_LEADER), &kernel::TASK_COMM)
}

#[inline(always)]
pub fn is_exiting(task: u64) -> bool {
    probe::<u32>(task, &kernel::TASK_FLAGS) & PF_EXITING != 0
}

#[inline(always)]
pub fn is_kernel_thread(task: u64) -> bool {
    probe::<u32>(task, &kernel::TASK_FLAGS) & PF_KTHREAD != 0
}

/// The current task and its owner key, loaded once, at the start of a program: each of the two pointers costs the
/// verifier searches as in [`Task::key`], again on every path that leads to it.
pub struct User {
    pub task: Task,
    pub key: OwnerKey,
    /// Of the program.
    pub hook: Hook,
}

impl User {
    #[inline(always)]
    pub fn current(hook: Hook) -> Self {
        let task = Task::current();
        let key = OwnerKey { start_time_ns: task.start_time_ns(), tgid: task.tgid(), uid: task.uid() };
        Self { task, key, hook }
    }

    #[inline(always)]
    pub fn is(&self, owner: &Owner) -> bool {
        self.key.tgid == owner.key.tgid
            && self.key.uid == owner.key.uid
            && self.key.start_time_ns == owner.key.start_time_ns
    }
}
