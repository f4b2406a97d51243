//! The network namespaces of tasks: an iterator over all tasks, a hundred times faster than a pass over /proc. And all
//! namespaces that exist: one without tasks may be mounted, or held by a socket.

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use nettop_common::TaskNetns;

use super::symbols::Meta;
use crate::{
    kernel::{self, probe_at},
    shares::OWN_NETNS_COOKIE,
    task::{self, Task},
};

/// With more namespaces than this the list is unusable: it must fit into the iterator's buffer of 32 KiB.
const MAX_NAMESPACES: u32 = 1024;

/// `struct bpf_iter__task`, kernel/bpf/task_iter.c.
#[repr(C)]
pub struct Tasks {
    meta: *const Meta,
    task: *const c_void,
}

impl Tasks {
    /// The file of the run, and the next task; `None` in the last call.
    ///
    /// # Safety
    ///
    /// The pointer must be the context of an iterator over tasks.
    #[inline(always)]
    pub unsafe fn next(context: *const Self) -> Option<(*mut c_void, *const c_void)> {
        // SAFETY: see above; what it holds is the kernel's own, read through typed pointers.
        let (seq, task) = unsafe { ((*(*context).meta).seq, (*context).task) };
        (!task.is_null()).then_some((seq, task))
    }
}

/// Writes a [`TaskNetns`] for each process outside nettopd's namespace, and for each thread outside its process's; at
/// the end, one for each namespace.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub fn namespaces(ctx: *const Tasks) -> i32 {
    // SAFETY: the context is valid for the run; the task is null in the last call.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    // Once: each load through a typed pointer takes verifiers a long time.
    // SAFETY: the kernel's own, read through a typed pointer.
    let seq = unsafe { (*meta).seq };
    if task.is_null() {
        write_existing(seq.cast());
        return 0;
    }
    // SAFETY: a task of the program's context.
    let task = unsafe { Task::from_ptr(task) };
    let netns = task.netns();
    let is_elsewhere =
        if task.is_leader() { netns.cookie != OWN_NETNS_COOKIE.load() } else { netns != task.leaders_netns() };
    if netns.inode == 0 || !is_elsewhere {
        return 0;
    }
    let found = TaskNetns { netns, tgid: task.tgid(), pid: task.pid() };
    write(seq.cast(), &found);
    0
}

/// Iterates over `net_namespace_list` once. `bpf_iter_run_prog` holds the lock (RCU) that keeps its entries in place
/// (`cleanup_net` removes them, and waits).
#[inline(always)]
fn write_existing(seq: *mut seq_file) {
    let first = task::net(task::current_address()).wrapping_add(kernel::NET_LIST.load());
    let mut entry: u64 = probe_at(first);
    for _ in 0..MAX_NAMESPACES {
        // The list head is reported too, though it is no namespace: its data belongs to none.
        let netns = kernel::netns(entry.wrapping_sub(kernel::NET_LIST.load()));
        write(seq, &TaskNetns { netns, tgid: 0, pid: 0 });
        if entry == first {
            return write(seq, &TaskNetns::END_OF_NAMESPACES);
        }
        entry = probe_at(entry);
    }
}

#[inline(always)]
fn write(seq: *mut seq_file, found: &TaskNetns) {
    // SAFETY: the file of the run; the helper copies the value.
    unsafe { bpf_seq_write(seq, core::ptr::from_ref(found).cast(), size_of::<TaskNetns>() as u32) };
}
