//! Sockets older than the daemon: an iterator over every open file tags each with the process that holds it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use nettop_common::{
    Ref,
    tag::{BASED, evidence},
};

use crate::{
    hooks::{
        symbols::Meta,
        transfer::{consumed_bytes, is_inet},
    },
    kernel::{self, load},
    ledger,
    maps::SOCKETS,
    numbers::{IPPROTO_TCP, TCP_LISTEN},
    ports, shadow,
    task::Task,
};

/// `struct bpf_iter__task_file`, kernel/bpf/task_iter.c.
#[repr(C)]
pub struct TaskFile {
    pub meta: *const Meta,
    pub task: *const c_void,
    pub fd: u32,
    pub file: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn seed(ctx: *const TaskFile) -> i32 {
    // SAFETY: the context is valid for the run; both pointers are null in the last call.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: a file of the program's context; the helper answers null for what is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast::<c_void>();
    if socket.is_null() {
        return 0;
    }
    let sk: *const c_void = load(socket, &kernel::SOCKET_SK);
    if sk.is_null() || !is_inet(sk) {
        return 0;
    }
    let Some(tag) = SOCKETS.tag(sk.cast_mut()) else { return 0 };
    if tag.owner == Ref::NONE {
        // SAFETY: a task of the program's context.
        ledger::take(tag, unsafe { Task::from_ptr(task) }, evidence::HOLDER);
    }
    if tag.netns.inode == 0 {
        tag.netns = ledger::netns_of(sk as u64);
    }
    if tag.flags & BASED == 0 {
        tag.consumed_bytes = consumed_bytes(sk);
        tag.flags |= BASED;
    }
    ledger::address(tag, sk);
    // A connection may come before its listener: it is noted at its next packet.
    if load::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_TCP || load::<u8>(sk, &kernel::SOCK_STATE) == TCP_LISTEN {
        ports::note(tag);
    }
    shadow::seed(sk.cast_mut(), tag);
    0
}
