//! What was handed over in system calls, in strace's manner. Contents of messages are not known: `""...` stands for them,
//! as in `strace -s 0`.

mod address;
mod control;
mod errors;
mod names;
mod option;
mod values;

use std::fmt::Write as _;

use nettop_common::trace::{CallStep, MAX_COPIED_VECTORS, Step, call, have};

pub use errors::{Error, error};
use names::{FAMILIES, MESSAGE_FLAGS, NETLINK_PROTOCOLS, PROTOCOLS, SHUTDOWNS, TYPE_FLAGS, TYPES, flags, name};
use values::{low, number, pointer, short};

/// Which arguments a call was left with.
pub fn arguments(step: &CallStep) -> String {
    let [zero, one, two, three, four, five] = step.arguments;
    let failed = step.step.result < 0;
    match step.step.what {
        call::SOCKET => format!("{}, {}, {}", family(zero), kind(one), protocol(zero, two)),
        call::SOCKETPAIR => {
            let pair = if failed { pointer(three) } else { option::pair(step).unwrap_or_else(|| pointer(three)) };
            format!("{}, {}, {}, {pair}", family(zero), kind(one), low(two))
        }
        call::BIND | call::CONNECT => {
            format!("{}, {}, {}", number(zero), given_address(step, one, number(two)), number(two))
        }
        call::LISTEN => format!("{}, {}", number(zero), number(one)),
        call::ACCEPT | call::GETSOCKNAME | call::GETPEERNAME => {
            format!("{}, {}", number(zero), taken_address(step, one, two, failed))
        }
        call::ACCEPT4 => {
            let flags = flags(TYPE_FLAGS, number(three), "SOCK_???");
            format!("{}, {}, {flags}", number(zero), taken_address(step, one, two, failed))
        }
        call::SENDTO => {
            let flags = flags(MESSAGE_FLAGS, number(three), "MSG_???");
            let address = given_address(step, four, number(five));
            format!("{}, {}, {two}, {flags}, {address}, {}", number(zero), contents(one, two), number(five))
        }
        call::RECVFROM => {
            let length = u64::try_from(step.step.result).unwrap_or(0).min(two);
            let buffer = if failed { pointer(one) } else { contents(one, length) };
            let flags = flags(MESSAGE_FLAGS, number(three), "MSG_???");
            format!("{}, {buffer}, {two}, {flags}, {}", number(zero), taken_address(step, four, five, failed))
        }
        call::SENDMSG => {
            let flags = flags(MESSAGE_FLAGS, number(two), "MSG_???");
            format!("{}, {}, {flags}", number(zero), message(step, None, u64::MAX).unwrap_or_else(|| pointer(one)))
        }
        call::RECVMSG => {
            let flags = flags(MESSAGE_FLAGS, number(two), "MSG_???");
            format!("{}, {}, {flags}", number(zero), received(step, one))
        }
        call::SENDMMSG | call::RECVMMSG => {
            let flags = flags(MESSAGE_FLAGS, number(three), "MSG_???");
            let timeout = if step.step.what == call::RECVMMSG { format!(", {}", pointer(four)) } else { String::new() };
            format!("{}, {}, {}, {flags}{timeout}", number(zero), messages(step), low(two))
        }
        call::SHUTDOWN => format!("{}, {}", number(zero), name(SHUTDOWNS, number(one), "SHUT_???")),
        call::SETSOCKOPT => {
            let (level, option) = option::names(number(one), number(two));
            format!("{}, {level}, {option}, {}, {}", number(zero), option::given(step), number(four))
        }
        call::GETSOCKOPT => {
            let (level, option) = option::names(number(one), number(two));
            format!("{}, {level}, {option}, {}, {}", number(zero), option::taken(step), length(step, four, failed))
        }
        _ => String::new(),
    }
}

/// A call's result.
pub fn result(step: &Step) -> String {
    match error(step.result) {
        None if step.what == call::RECVMMSG && step.result == 0 => "0 (Timeout)".into(),
        None => step.result.to_string(),
        Some(Error { name, words, is_answer: true }) => format!("-1 {name} ({words})"),
        Some(Error { name, words, is_answer: false }) => format!("? {name} ({words})"),
    }
}

fn contents(address: u64, length: u64) -> String {
    match (address, length) {
        (0, _) => "NULL".into(),
        (_, 0) => "\"\"".into(),
        _ => "\"\"...".into(),
    }
}

fn family(argument: u64) -> String {
    name(FAMILIES, number(argument), "AF_???")
}

/// `SOCK_STREAM|SOCK_CLOEXEC`.
fn kind(argument: u64) -> String {
    const TYPE_MASK: i32 = 0xf;
    let (kind, more) = (number(argument) & TYPE_MASK, number(argument) & !TYPE_MASK);
    match TYPES.iter().find(|(value, _)| *value == kind) {
        None => flags(TYPE_FLAGS, number(argument), "SOCK_???"),
        Some((_, kind)) if more == 0 => (*kind).into(),
        Some((_, kind)) => format!("{kind}|{}", flags(TYPE_FLAGS, more, "SOCK_???")),
    }
}

fn protocol(of_family: u64, argument: u64) -> String {
    match number(of_family) {
        libc::AF_INET | libc::AF_INET6 => name(PROTOCOLS, number(argument), "IPPROTO_???"),
        libc::AF_NETLINK => name(NETLINK_PROTOCOLS, number(argument), "NETLINK_???"),
        libc::AF_PACKET => address::ethernet_protocol(short(argument)),
        _ => low(argument).to_string(),
    }
}

/// An address that the process gave.
fn given_address(step: &CallStep, at: u64, len: i32) -> String {
    let copied = if len < 2 { None } else { address_bytes(step) };
    copied.map_or_else(|| pointer(at), address::decode)
}

/// An address that the kernel gave, and its length.
fn taken_address(step: &CallStep, at: u64, length_at: u64, failed: bool) -> String {
    let is_given = at != 0 && length_at != 0;
    if !is_given {
        return format!("{}, {}", pointer(at), pointer(length_at));
    }
    let copied = if failed || step.have & have::LEN_AFTER == 0 { None } else { address_bytes(step) };
    let shown = copied.filter(|bytes| bytes.len() >= 2).map_or_else(|| pointer(at), address::decode);
    format!("{shown}, {}", length(step, length_at, failed))
}

fn address_bytes(step: &CallStep) -> Option<&[u8]> {
    (step.have & have::ADDRESS != 0).then(|| step.address.get(..step.address_bytes as usize)).flatten()
}

/// A length that a pointer leads to: `[16]`, or `[128 => 16]` where the kernel changed it.
fn length(step: &CallStep, at: u64, failed: bool) -> String {
    let before = (step.have & have::LEN_BEFORE != 0).then_some(step.len_before);
    let after = (!failed && step.have & have::LEN_AFTER != 0).then_some(step.len_after);
    match (before, after) {
        (Some(before), Some(after)) if before != after => format!("[{before} => {after}]"),
        (Some(length), _) | (None, Some(length)) => format!("[{length}]"),
        (None, None) => pointer(at),
    }
}

/// A message that the kernel filled in.
fn received(step: &CallStep, at: u64) -> String {
    let before = (step.have & have::LEN_BEFORE != 0).then_some(step.len_before);
    match (u64::try_from(step.step.result), before) {
        (Ok(length), _) => message(step, before, length).unwrap_or_else(|| pointer(at)),
        (Err(_), Some(before)) => format!("{{msg_namelen={before}}}"),
        (Err(_), None) => pointer(at),
    }
}

/// Several messages; the first is known.
fn messages(step: &CallStep) -> String {
    let [_, at, count, ..] = step.arguments;
    let is_received = step.step.what == call::RECVMMSG;
    let done = u64::try_from(step.step.result).unwrap_or(0);
    let listed = if is_received { done } else { u64::from(low(count)) };
    let message_len = (step.have & have::MESSAGE_LEN != 0).then_some(step.message_len);
    let before = (is_received && step.have & have::LEN_BEFORE != 0).then_some(step.len_before);
    let limit = if is_received { message_len.map_or(u64::MAX, u64::from) } else { u64::MAX };
    if listed == 0 {
        return if at == 0 || step.step.result < 0 { pointer(at) } else { "[]".into() };
    }
    let Some(first) = message(step, before, limit) else { return pointer(at) };
    let message_len = message_len.map_or_else(String::new, |length| format!(", msg_len={length}"));
    let more = if listed > 1 { ", ..." } else { "" };
    format!("[{{msg_hdr={first}{message_len}}}{more}]")
}

/// `struct msghdr`. Of its vectors, `limit` bytes are filled.
fn message(step: &CallStep, name_len_before: Option<i32>, mut limit: u64) -> Option<String> {
    if step.have & have::MESSAGE == 0 {
        return None;
    }
    let [name_at, name_len, vectors_at, vector_count, control_at, control_len, message_flags] = step.message;
    let name_len = number(name_len);
    let filled = name_len_before.map_or(name_len, |before| name_len.min(before));
    let name = if filled < 2 { None } else { address_bytes(step) };
    let name = name.map(|bytes| bytes.get(..usize::try_from(filled).unwrap_or(0)).unwrap_or(bytes));
    let mut text = format!("{{msg_name={}", name.map_or_else(|| pointer(name_at), address::decode));
    // Writing to a String does not fail.
    let _ = match name_len_before {
        Some(before) if before != name_len => write!(text, ", msg_namelen={before} => {name_len}"),
        _ => write!(text, ", msg_namelen={name_len}"),
    };
    let read = step.vectors.get(..(step.vectors_read as usize).min(MAX_COPIED_VECTORS)).unwrap_or_default();
    let mut vectors = Vec::new();
    for [base, len] in read {
        let filled = limit.min(*len);
        if limit != u64::MAX {
            limit -= filled;
        }
        vectors.push(format!("{{iov_base={}, iov_len={len}}}", contents(*base, filled)));
    }
    if vector_count > vectors.len() as u64 && !vectors.is_empty() {
        vectors.push("...".into());
    }
    let _ = match (vectors.is_empty(), vector_count) {
        (true, 1..) => write!(text, ", msg_iov={}", pointer(vectors_at)),
        (true, 0) if vectors_at == 0 => write!(text, ", msg_iov=NULL"),
        _ => write!(text, ", msg_iov=[{}]", vectors.join(", ")),
    };
    let _ = write!(text, ", msg_iovlen={vector_count}");
    if control_len > 0 {
        let control = (step.have & have::CONTROL != 0)
            .then(|| step.control.get(..step.control_bytes as usize))
            .flatten()
            .and_then(|bytes| control::decode(bytes, control_len));
        let _ = write!(text, ", msg_control={}", control.unwrap_or_else(|| pointer(control_at)));
    }
    let message_flags = flags(MESSAGE_FLAGS, number(message_flags), "MSG_???");
    let _ = write!(text, ", msg_controllen={control_len}, msg_flags={message_flags}}}");
    Some(text)
}
