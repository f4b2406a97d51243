//! Logs slow paths of the programs, for `aya_log` to read. The level is a read-only global: if it is off, the verifier
//! drops the calls.
//!
//! Records are written here and not by the macros of `aya_log_ebpf`. Those need 300 bytes of a stack of 512, search for
//! the length on every path, and do not report records that did not fit.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_log_common::{ArgumentKind, Level, RecordFieldKind};
use aya_log_ebpf::macro_support::{AYA_LOGS, level_enabled};
use nettop_common::log::{VALUES_PER_RECORD, What};

use crate::{
    kernel::{self, probe},
    maps::count,
    task,
};

/// Type, length, value.
#[repr(C, packed)]
struct Field<T>(u8, u16, T);

impl<T> Field<T> {
    #[inline(always)]
    const fn new(kind: RecordFieldKind, value: T) -> Self {
        Self(kind as u8, size_of::<T>() as u16, value)
    }

    #[inline(always)]
    const fn argument(kind: ArgumentKind, value: T) -> Self {
        Self(kind as u8, size_of::<T>() as u16, value)
    }
}

/// As `aya_log` parses it.
#[repr(C, packed)]
struct Record {
    bytes: u16,
    target: Field<[u8; 4]>,
    level: Field<u8>,
    module: Field<()>,
    file: Field<()>,
    line: Field<u32>,
    arguments: Field<u32>,
    values: [Words; VALUES_PER_RECORD],
}

/// A number, and a blank after it.
#[repr(C, packed)]
struct Words(Field<u64>, Field<u8>);

/// Logs an event of the socket at an address, 0 if that is not known. `hook` is a [`nettop_common::log::Hook`] as a number:
/// functions that the verifier checks separately take it along.
#[inline(always)]
pub fn write(what: What, hook: u32, sk: u64, first: u64, second: u64) {
    if level_enabled(Level::Debug) {
        let cookie = if sk == 0 { 0 } else { probe(sk, &kernel::SOCK_COOKIE) };
        write_log(what as u64, hook.into(), cookie, first, second);
    }
}

/// Has the kernel number the socket of a context, if anything is logged: it does so only for who asks.
#[inline(always)]
pub fn number_socket(context: *mut c_void) {
    if level_enabled(Level::Debug) {
        // SAFETY: the context of a program that has a socket.
        unsafe { bpf_get_socket_cookie(context) };
    }
}

/// Global, so that the verifier checks it once. A global function must return a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn write_log(what: u64, hook: u64, cookie: u64, first: u64, second: u64) -> u32 {
    let Some(mut entry) = AYA_LOGS.reserve::<Record>(0) else {
        count(|stats| &raw mut stats.log_lost);
        return 0;
    };
    // Before 6.10 programs on cgroups may not get the process itself.
    let tgid = u64::from(probe::<u32>(task::current_address(), &kernel::TASK_TGID));
    let value = |value: u64| Words(Field::argument(ArgumentKind::U64, value), Field::argument(ArgumentKind::Str, b' '));
    entry.write(Record {
        bytes: size_of::<Record>() as u16,
        target: Field::new(RecordFieldKind::Target, *b"ebpf"),
        level: Field::new(RecordFieldKind::Level, Level::Debug as u8),
        module: Field::new(RecordFieldKind::Module, ()),
        file: Field::new(RecordFieldKind::File, ()),
        line: Field::new(RecordFieldKind::Line, 0),
        arguments: Field::new(RecordFieldKind::NumArgs, 2 * VALUES_PER_RECORD as u32),
        values: [value(what), value(hook), value(cookie), value(tgid), value(first), value(second)],
    });
    entry.submit(0);
    0
}
