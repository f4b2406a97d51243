//! What tasks used besides the network: what the iterator over tasks writes, and what is sent of a process that ended.

use bytemuck::{Pod, Zeroable};

use crate::OwnerKey;

/// What a task used since it began. A member that the kernel does not have is 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct Used {
    /// On a CPU (`sum_exec_runtime`): what user and system time are scaled to (`cputime_adjust`).
    pub cpu_ns: u64,
    /// By ticks, where the kernel counts in ticks.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Runnable, and waiting for a CPU. Of tasks alone, ended ones left out: the kernel does not add it up.
    pub wait_ns: u64,
    /// Waiting for block I/O, if the kernel accounts delays. Of tasks alone, likewise.
    pub blocked_ns: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// From and to storage, as in /proc/PID/io.
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub cancelled_write_bytes: u64,
}

/// A task. Behind one with `is_leader` comes a [`ProcessUsage`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct TaskUsage {
    pub tgid: u32,
    pub pid: u32,
    /// `task_struct.__state`.
    pub state: u32,
    /// 1 for a task of the process that reads.
    pub is_reader: u16,
    /// 1 for the first task of its process: behind it comes the process. A pid does not tell: `de_thread` changes that and
    /// `group_leader` one after the other.
    pub is_leader: u16,
    pub used: Used,
}

/// A process, and what its ended threads used.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct ProcessUsage {
    pub key: OwnerKey,
    /// Name of the thread-group leader.
    pub comm: [u8; 16],
    pub parent_start_time_ns: u64,
    /// Number of its cgroup2: the inode of its folder. 1 is the root, 0 unknown.
    pub cgroup_id: u64,
    pub parent_tgid: u32,
    pub threads: u32,
    /// Resident, most of it so far, and in swap.
    pub rss_pages: u64,
    pub peak_pages: u64,
    pub swap_pages: u64,
    /// 1 for a kernel thread.
    pub is_kernel_thread: u32,
    /// 1 once the kernel chose it to free memory.
    pub is_oom_victim: u32,
    /// How it ended, as `wait` tells: the signal in the low seven bits, else the code in the second byte.
    pub exit_status: u32,
    /// 1 if it has ended, so that `exit_status` counts.
    pub has_exited: u32,
    pub used: Used,
}

/// `signal_struct.flags`: all threads end with `group_exit_code`.
pub const SIGNAL_GROUP_EXIT: u32 = 4;

/// `__state`: runnable, or running.
pub const TASK_RUNNING: u32 = 0;
/// Bits of it.
pub const TASK_UNINTERRUPTIBLE: u32 = 2;
pub const TASK_NOLOAD: u32 = 0x400;

impl TaskUsage {
    /// Whether it is in the load average as one that waits (`task_contributes_to_load`).
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        self.state & TASK_UNINTERRUPTIBLE != 0 && self.state & TASK_NOLOAD == 0
    }
}

impl Used {
    /// Adds what another used.
    pub const fn add(&mut self, more: &Self) {
        self.cpu_ns += more.cpu_ns;
        self.user_ns += more.user_ns;
        self.system_ns += more.system_ns;
        self.wait_ns += more.wait_ns;
        self.blocked_ns += more.blocked_ns;
        self.major_faults += more.major_faults;
        self.voluntary_switches += more.voluntary_switches;
        self.involuntary_switches += more.involuntary_switches;
        self.read_bytes += more.read_bytes;
        self.write_bytes += more.write_bytes;
        self.cancelled_write_bytes += more.cancelled_write_bytes;
    }
}
