//! Arguments of a system call, copied when they are valid: the process's input at entry, the kernel's output at exit.
//! Contents of messages are never copied.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_probe_read_user, generated};
use nettop_common::trace::{CallStep, MAX_COPIED_VECTORS, call, have};

use crate::kernel::{self, load};

/// `msg_len` of `struct mmsghdr`, after its `struct msghdr`.
const MESSAGE_BYTES: u64 = 56;
/// Words of `struct msghdr`: name, its length, vectors, their number, control messages, their length, flags.
const NAME: usize = 0;
const NAME_LEN: usize = 1;
const VECTOR: usize = 2;
const VECTOR_COUNT: usize = 3;
const CONTROL: usize = 4;
const CONTROL_LEN: usize = 5;

/// The call begins.
#[inline(always)]
pub fn before(step: &mut CallStep, what: u32, registers: *const c_void) {
    step.arguments = [
        load(registers, &kernel::SYSCALL_ARGUMENT_0),
        load(registers, &kernel::SYSCALL_ARGUMENT_1),
        load(registers, &kernel::SYSCALL_ARGUMENT_2),
        load(registers, &kernel::SYSCALL_ARGUMENT_3),
        load(registers, &kernel::SYSCALL_ARGUMENT_4),
        load(registers, &kernel::SYSCALL_ARGUMENT_5),
    ];
    step.have = 0;
    give(step, what);
    let len_at = match what {
        call::ACCEPT | call::ACCEPT4 | call::GETSOCKNAME | call::GETPEERNAME => step.arguments[2],
        call::RECVFROM => step.arguments[5],
        call::GETSOCKOPT => step.arguments[4],
        // `msg_namelen`.
        call::RECVMSG | call::RECVMMSG if step.arguments[1] != 0 => step.arguments[1] + 8,
        _ => 0,
    };
    if let Some(len) = word(len_at) {
        step.len_before = len;
        step.have |= have::LEN_BEFORE;
    }
}

/// The call is over, and its entry was not seen.
#[inline(always)]
pub fn forget_before(step: &mut CallStep) {
    step.have &= !have::LEN_BEFORE;
}

/// The process's input. A page that was never touched cannot be read before the kernel does.
#[inline(always)]
fn give(step: &mut CallStep, what: u32) {
    let [_, one, two, three, four, five] = step.arguments;
    match what {
        call::BIND | call::CONNECT => address(step, one, two),
        call::SENDTO => address(step, four, five),
        call::SETSOCKOPT => value(step, three, four),
        call::SENDMSG | call::SENDMMSG => message(step, one),
        _ => {}
    }
}

/// The call is over.
#[inline(always)]
pub fn after(step: &mut CallStep, what: u32, result: i64) {
    if step.have & (have::ADDRESS | have::VALUE | have::MESSAGE) == 0 {
        give(step, what);
    }
    let [_, one, two, three, four, five] = step.arguments;
    let (at, len_at) = match what {
        call::ACCEPT | call::ACCEPT4 | call::GETSOCKNAME | call::GETPEERNAME => (one, two),
        call::RECVFROM => (four, five),
        call::GETSOCKOPT => (three, four),
        _ => (0, 0),
    };
    if result < 0 {
        return;
    }
    if let Some(len) = word(len_at) {
        step.len_after = len;
        step.have |= have::LEN_AFTER;
        // If the length before is unknown, the returned length limits the copy.
        let len = if step.have & have::LEN_BEFORE != 0 && step.len_before < len { step.len_before } else { len };
        if what == call::GETSOCKOPT {
            value(step, at, len as u32 as u64);
        } else {
            address(step, at, len as u32 as u64);
        }
    }
    match what {
        call::SOCKETPAIR => value(step, three, 8),
        call::RECVMSG => message(step, one),
        call::RECVMMSG if result > 0 => message(step, one),
        _ => {}
    }
    if matches!(what, call::SENDMMSG | call::RECVMMSG)
        && result > 0
        && let Some(len) = word(one + MESSAGE_BYTES)
    {
        step.message_len = len as u32;
        step.have |= have::MESSAGE_LEN;
    }
}

#[inline(always)]
fn word(at: u64) -> Option<i32> {
    // SAFETY: the helper checks the address.
    if at == 0 { None } else { unsafe { bpf_probe_read_user(at as *const i32) }.ok() }
}

/// `move_addr_to_kernel` takes no more than 128 bytes.
#[inline(always)]
fn address(step: &mut CallStep, at: u64, len: u64) {
    if copy(&mut step.address, &mut step.address_bytes, at, len) {
        step.have |= have::ADDRESS;
    }
}

#[inline(always)]
fn value(step: &mut CallStep, at: u64, len: u64) {
    if copy(&mut step.value, &mut step.value_bytes, at, len) {
        step.have |= have::VALUE;
    }
}

/// Copies so many bytes, or as many as there is room for, and notes how many; a length is an `int`.
#[inline(always)]
fn copy<const N: usize>(to: &mut [u8; N], bytes: &mut u32, at: u64, len: u64) -> bool {
    let len = len as u32;
    if at == 0 || len == 0 || len > i32::MAX as u32 {
        return false;
    }
    *bytes = if len > N as u32 { N as u32 } else { len };
    // SAFETY: a valid reference. The verifier loses sight of the comparison above, and the compiler would see through a
    // mask; it never takes anything off.
    let len = unsafe { (&raw const *bytes).read_volatile() } & (2 * N as u32 - 1);
    // SAFETY: the helper checks the source; the destination is a map value with room for N bytes.
    unsafe { generated::bpf_probe_read_user(to.as_mut_ptr().cast(), len, at as *const c_void) == 0 }
}

/// `struct msghdr`, and what it leads to.
#[inline(always)]
fn message(step: &mut CallStep, at: u64) {
    // SAFETY: the helper checks the address.
    let Ok(message) = (unsafe { bpf_probe_read_user(at as *const [u64; 7]) }) else { return };
    step.message = message;
    step.have |= have::MESSAGE;
    address(step, message[NAME], message[NAME_LEN]);
    step.vectors_read = 0;
    for index in 0..MAX_COPIED_VECTORS {
        if index as u64 >= message[VECTOR_COUNT] {
            break;
        }
        let vector = message[VECTOR] + 16 * index as u64;
        // SAFETY: as above.
        let Ok(vector) = (unsafe { bpf_probe_read_user(vector as *const [u64; 2]) }) else { break };
        step.vectors[index] = vector;
        step.vectors_read = index as u32 + 1;
    }
    if copy(&mut step.control, &mut step.control_bytes, message[CONTROL], message[CONTROL_LEN]) {
        step.have |= have::CONTROL;
    }
}
