//! Connections, one event each: `inet_sock_set_state` reports their states, the return from `accept` who took them.
//!
//! The state changes in softirq as well as in calls, so `current` counts only in a call that opens a connection.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    macros::{btf_tracepoint, fentry, kprobe},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext},
};
use nettop_common::{
    Connection, ConnectionEvent,
    abi::{
        IPPROTO_TCP, SOCK_DONE, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_LISTEN,
        TCP_SYN_RECV, TCP_SYN_SENT,
    },
    connection::kind,
    offsets::UNKNOWN,
};

use crate::{
    clock::boot_ns,
    ends::Ends,
    events::{Named, emit, is_wanted},
    kernel::{self, load, probe, probe_at, probe_if_there},
    maps::count,
    storage::{CONNECTIONS, SOCKETS},
    tags,
    task::Task,
};

/// Numbers of the system calls.
#[unsafe(no_mangle)]
static SYS_ACCEPT: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static SYS_ACCEPT4: Global<u32> = Global::new(u32::MAX);

/// `inet_sk_set_state`, `inet_sk_state_store`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn connection_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    if load::<u16>(sk, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP {
        change(sk, ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    }
    0
}

#[inline(always)]
fn change(sk: *const c_void, old: u8, new: u8) {
    match new {
        TCP_SYN_SENT => ask(sk),
        TCP_ESTABLISHED => establish(sk, old),
        TCP_FIN_WAIT1 | TCP_CLOSE_WAIT | TCP_LAST_ACK => keep_owner(sk),
        TCP_CLOSE if old != TCP_CLOSE && old != TCP_LISTEN => end(sk, old),
        _ => {}
    }
}

/// `tcp_v4_connect`, `tcp_v6_connect`: in the call.
#[inline(always)]
fn ask(sk: *const c_void) {
    if let Some(connection) = connection(sk) {
        let Named { owner, comm } = Named::current();
        *connection = Connection { begun_ns: boot_ns(), owner, comm, is_opening: 1 };
    }
}

#[inline(always)]
fn establish(sk: *const c_void, old: u8) {
    let Some(connection) = connection(sk) else { return };
    if old == TCP_SYN_SENT || connection.is_opening != 0 {
        let Connection { begun_ns, owner, comm, .. } = *connection;
        // Requested before nettopd started: take the holder.
        let named = if owner.tgid == 0 { self::owner(sk) } else { Some(Named { owner, comm }) };
        describe(sk, kind::OPENED, old, begun_ns, named);
    }
    connection.begun_ns = boot_ns();
    connection.is_opening = 0;
}

/// Its end may come long after the owner was forgotten.
#[inline(always)]
fn keep_owner(sk: *const c_void) {
    if let Some(connection) = connection(sk)
        && let Some(named) = owner(sk)
    {
        (connection.owner, connection.comm) = (named.owner, named.comm);
    }
}

#[inline(always)]
fn end(sk: *const c_void, old: u8) {
    let known = CONNECTIONS.find(sk.cast_mut());
    let (begun_ns, is_opening) = known.as_ref().map_or((0, 0), |known| (known.begun_ns, known.is_opening));
    let last = known.as_ref().map(|known| Named { owner: known.owner, comm: known.comm });
    if let Some(known) = known {
        (known.begun_ns, known.is_opening) = (0, 0);
    }
    if old == TCP_SYN_SENT || is_opening != 0 {
        describe(sk, kind::FAILED, old, begun_ns, last.or_else(|| owner(sk)));
    } else if old != TCP_SYN_RECV {
        describe(sk, kind::CLOSED, old, begun_ns, owner(sk).or(last));
    }
}

#[inline(always)]
fn connection(sk: *const c_void) -> Option<&'static mut Connection> {
    let connection = CONNECTIONS.get(sk.cast_mut());
    if connection.is_none() {
        // Its events are lost, or incomplete.
        count(|stats| &raw mut stats.events_lost);
    }
    connection
}

#[inline(always)]
fn owner(sk: *const c_void) -> Option<Named> {
    SOCKETS.find(sk.cast_mut()).and_then(|tag| Named::from_owner(tag.owner))
}

#[inline(always)]
fn describe(sk: *const c_void, kind: u32, old: u8, begun_ns: u64, named: Option<Named>) {
    let Some(ends) = Ends::from_socket(sk as u64) else { return };
    if !wants(&ends, named.as_ref()) {
        return;
    }
    emit(|event: &mut ConnectionEvent| {
        fill(event, sk as u64, kind, &ends, named);
        event.begun_ns = begun_ns;
        event.old_state = old;
        event.error = probe(sk as u64, &kernel::SOCK_ERROR);
    });
}

#[inline(always)]
fn wants(ends: &Ends, named: Option<&Named>) -> bool {
    let owner = named.map(|named| &named.owner);
    is_wanted(owner, [&ends.local, &ends.remote], [ends.local_port, ends.remote_port])
}

/// Fills in what all events have.
#[inline(always)]
fn fill(event: &mut ConnectionEvent, sk: u64, kind: u32, ends: &Ends, named: Option<Named>) {
    event.time_ns = boot_ns();
    event.kind = kind;
    event.protocol = IPPROTO_TCP as u8;
    event.netns = tags::netns_of(sk);
    event.family = ends.family;
    (event.local, event.remote) = (ends.local, ends.remote);
    (event.local_port, event.remote_port) = (ends.local_port, ends.remote_port);
    if let Some(named) = named {
        (event.owner, event.comm) = (named.owner, named.comm);
    }
    let sent: u64 = probe(sk, &kernel::TCP_BYTES_SENT);
    event.sent_bytes = sent.saturating_sub(probe(sk, &kernel::TCP_BYTES_RETRANS));
    // The FIN takes a number like a byte.
    let fin = u64::from(probe::<u64>(sk, &kernel::SOCK_FLAGS) & SOCK_DONE != 0);
    event.received_bytes = probe::<u64>(sk, &kernel::TCP_BYTES_RECEIVED).saturating_sub(fin);
    event.retransmits = probe_if_there(sk, &kernel::TCP_TOTAL_RETRANS).unwrap_or(UNKNOWN);
    event.sent_segments = probe_if_there(sk, &kernel::TCP_SEGS_OUT).unwrap_or(UNKNOWN);
    event.ifindex = probe(sk, &kernel::SOCK_BOUND_DEVICE);
}

/// A process accepted a connection, in the call.
#[inline(always)]
fn accepted(sk: u64) {
    if sk != 0
        && probe::<u16>(sk, &kernel::SOCK_PROTOCOL) == IPPROTO_TCP
        && let Some(ends) = Ends::from_socket(sk)
    {
        let named = Named::current();
        if wants(&ends, Some(&named)) {
            emit(|event: &mut ConnectionEvent| fill(event, sk, kind::ACCEPTED, &ends, Some(named)));
        }
    }
}

/// `sock_graft` of (sk, socket): from `inet_accept`, after the wait for a connection. A hook on the return of
/// `inet_csk_accept` would miss calls that already wait.
#[fentry(function = "security_sock_graft")]
pub fn accept_graft(ctx: FEntryContext) -> i32 {
    accepted(ctx.arg::<*const c_void>(0) as u64);
    0
}

#[kprobe]
pub fn accept_graft_probe(ctx: ProbeContext) -> u32 {
    accepted(ctx.arg(0).unwrap_or(0));
    0
}

/// If neither is available. Not seen here: accepts by io_uring, the kernel and 32-bit programs.
#[btf_tracepoint(function = "sys_exit")]
pub fn syscall_exit(ctx: BtfTracePointContext) -> i32 {
    let registers: *const c_void = ctx.arg(0);
    let result: i64 = ctx.arg(1);
    let number = load::<u64>(registers, &kernel::SYSCALL_NUMBER) as u32;
    if result >= 0 && (number == SYS_ACCEPT4.load() || number == SYS_ACCEPT.load()) {
        accepted(socket_of(result as u64));
    }
    0
}

/// The socket behind a file descriptor of the running process, or 0.
#[inline(always)]
fn socket_of(fd: u64) -> u64 {
    let table: u64 = probe(Task::current().files(), &kernel::FILES_TABLE);
    if fd >= u64::from(probe::<u32>(table, &kernel::FILES_MOST)) {
        return 0;
    }
    let file: u64 = probe_at(probe::<u64>(table, &kernel::FILES_FD) + fd * 8);
    let socket: u64 = probe(file, &kernel::FILE_PRIVATE);
    // Another thread may have replaced the file by now.
    if file == 0 || probe::<u64>(socket, &kernel::SOCKET_FILE) != file { 0 } else { probe(socket, &kernel::SOCKET_SK) }
}
