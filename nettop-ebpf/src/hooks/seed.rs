//! Sockets older than the daemon: an iterator over every open file tags each with the process that holds it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_sock_from_file, bpf_task_pt_regs};
use nettop_common::{
    Ref,
    abi::{AF_PACKET, IPPROTO_TCP, TCP_LISTEN},
    log::Hook,
    owner::UNRECORDED,
    tag::{BASELINE_KNOWN, attribution},
};

use crate::{
    hooks::{
        symbols::Meta,
        transfer::{consumed_by_program, is_inet},
    },
    kernel::{self, load},
    ledger,
    maps::stats,
    owners, ports, processes, shadow,
    storage::SOCKETS,
    tags,
    task::Task,
};

/// Notes the offset of a task's system call registers in its stack: the same for all. Only tracing programs can get it
/// (`bpf_task_pt_regs`, 5.15).
#[inline(always)]
fn note_registers() {
    let Some(stats) = stats() else { return };
    if stats.call_registers_offset != 0 {
        return;
    }
    let task = Task::current();
    // SAFETY: a task of the kernel's.
    let registers = unsafe { bpf_task_pt_regs(task.as_ptr().cast_mut().cast()) };
    // Stored in a map value and read back, a pointer is a number.
    // SAFETY: a field of a live value, which nobody else writes.
    let address = unsafe {
        (&raw mut stats.call_registers_offset).write_volatile(registers as u64);
        (&raw const stats.call_registers_offset).read_volatile()
    };
    stats.call_registers_offset = address.wrapping_sub(task.stack());
}

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
        note_registers();
        return 0;
    }
    // SAFETY: a file of the program's context; the helper answers null for what is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast::<c_void>();
    if socket.is_null() {
        return 0;
    }
    let sk: *const c_void = load(socket, &kernel::SOCKET_SK);
    if sk.is_null() {
        return 0;
    }
    let is_inet = is_inet(sk);
    if !is_inet && load::<u16>(sk, &kernel::SOCK_FAMILY) != AF_PACKET {
        return 0;
    }
    let Some(tag) = SOCKETS.tag(sk.cast_mut(), Hook::Seed) else { return 0 };
    if tag.owner == Ref::NONE {
        // Until packets are counted hardly any program needs the socket's address.
        let address = tags::address(tag, task);
        tags::address(tag, sk);
        // SAFETY: a task of the program's context.
        tags::claim_unowned(tag, unsafe { Task::from_ptr(task) }, address, attribution::HOLDER, Hook::Seed);
        if let Some(owner) = owners::get(tag.owner).filter(|owner| owner.recorded == UNRECORDED) {
            processes::record(owner, address);
        }
    }
    tags::address(tag, sk);
    if tag.netns.inode == 0 {
        tag.netns = tags::netns_of(sk as u64);
    }
    if !is_inet {
        return 0;
    }
    if tag.flags & BASELINE_KNOWN == 0 {
        ledger::skip_consumed(tag, consumed_by_program(sk));
    }
    // A connection may come before its listener: its next packet notes it.
    if load::<u16>(sk, &kernel::SOCK_PROTOCOL) != IPPROTO_TCP || load::<u8>(sk, &kernel::SOCK_STATE) == TCP_LISTEN {
        ports::note(tag);
    }
    shadow::seed(sk.cast_mut(), tag);
    0
}
