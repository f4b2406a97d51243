//! Lists sockets: an iterator over open files reports their holders, iterators over the tables of TCP and UDP report
//! the rest. Records are sent as they are, see [`SocketRecord`].

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_seq_write, bpf_sock_from_file},
};
use bytemuck::Zeroable as _;
use nettop_common::{
    Direction, SocketMeter, SocketRecord, Wire,
    abi::{AF_INET, AF_INET6, AF_PACKET, IPPROTO_TCP, TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_TIME_WAIT},
    offsets::{UNKNOWN, UNKNOWN_64},
};

use super::{seed::TaskFile, symbols::Meta};
use crate::{
    kernel::{self, load, probe, probe_if_there},
    ports,
    storage::METERS,
    tags,
    task::Task,
};

/// `struct bpf_iter__tcp` and `struct bpf_iter__udp`.
#[repr(C)]
pub struct Table {
    meta: *const Meta,
    sk: *const c_void,
    uid: u32,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub fn held_sockets(ctx: *const TaskFile) -> i32 {
    // SAFETY: the context is valid for the run; both pointers are null in the last call.
    let (meta, task, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: a file of the program's context; the helper answers null for what is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast::<c_void>();
    if socket.is_null() {
        return 0;
    }
    let sk: *const c_void = load(socket, &kernel::SOCKET_SK);
    let mut record = SocketRecord::zeroed();
    if sk.is_null() || !describe(sk as u64, &mut record) {
        return 0;
    }
    read_meter(sk, &mut record);
    // SAFETY: a task of the program's context.
    let task = unsafe { Task::from_ptr(task) };
    let key = task.key();
    record.tgid = key.tgid;
    record.start_time_ns = key.start_time_ns;
    // SAFETY: as above.
    record.fd = unsafe { (*ctx).fd };
    record.inode = probe(probe(file as u64, &kernel::FILE_INODE), &kernel::INODE_NUMBER);
    record.comm = task.comm();
    write(meta, &record)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub fn tcp_sockets(ctx: *const Table) -> i32 {
    from_table(ctx)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub fn udp_sockets(ctx: *const Table) -> i32 {
    from_table(ctx)
}

#[inline(always)]
fn from_table(ctx: *const Table) -> i32 {
    // SAFETY: the context is valid for the run; the socket is null in the last call.
    let (meta, sk, uid) = unsafe { ((*ctx).meta, (*ctx).sk, (*ctx).uid) };
    let mut record = SocketRecord::zeroed();
    if sk.is_null() || !describe(sk as u64, &mut record) {
        return 0;
    }
    record.uid = uid;
    read_meter(sk, &mut record);
    write(meta, &record)
}

/// The socket's traffic while the listing watched, and since when it exists.
#[inline(always)]
fn read_meter(sk: *const c_void, record: &mut SocketRecord) {
    let Some(meter) = METERS.find(sk.cast_mut()) else { return };
    record.moved = meter.moved;
    if meter.socket == record.socket {
        record.created_ns = meter.created_ns;
        add(&mut record.moved, meter);
    } else if meter.socket != 0 {
        record.created_ns = meter.asked_ns;
    }
}

#[inline(always)]
fn add(moved: &mut [Wire; 2], meter: &SocketMeter) {
    for direction in [Direction::Tx as usize, Direction::Rx as usize] {
        moved[direction].packets += meter.listening[direction].packets;
        moved[direction].bytes += meter.listening[direction].bytes;
    }
}

/// On 1 the kernel calls again once there is room.
#[inline(always)]
fn write(meta: *const Meta, record: &SocketRecord) -> i32 {
    // SAFETY: the kernel's own, read through a typed pointer; the record is a live value of this size.
    let result = unsafe {
        bpf_seq_write((*meta).seq.cast(), core::ptr::from_ref(record).cast(), size_of::<SocketRecord>() as u32)
    };
    i32::from(result != 0)
}

/// Fills in the socket's own fields. Returns whether its family is listed.
#[inline(always)]
fn describe(sk: u64, record: &mut SocketRecord) -> bool {
    let family: u16 = probe(sk, &kernel::SOCK_FAMILY);
    record.socket = sk;
    record.family = family;
    record.netns = tags::netns_of(sk);
    let state: u8 = probe(sk, &kernel::SOCK_STATE);
    record.state = u16::from(state);
    record.ifindex = probe(sk, &kernel::SOCK_BOUND_DEVICE);
    match family {
        AF_INET => {
            record.local = ports::mapped(probe(sk, &kernel::SOCK_RCV_SADDR));
            record.remote = ports::mapped(probe(sk, &kernel::SOCK_DADDR));
        }
        AF_INET6 => {
            record.local = probe(sk, &kernel::SOCK_V6_RCV_SADDR);
            record.remote = probe(sk, &kernel::SOCK_V6_DADDR);
            record.is_v6_only = u32::from(ports::is_v6_only(sk));
        }
        AF_PACKET => {}
        _ => return false,
    }
    record.local_port = probe(sk, &kernel::SOCK_NUM);
    record.remote_port = u16::from_be(probe(sk, &kernel::SOCK_DPORT));
    // Those are no full sockets, and of TCP.
    if family != AF_PACKET && matches!(state, TCP_TIME_WAIT | TCP_NEW_SYN_RECV) {
        record.protocol = IPPROTO_TCP;
        return true;
    }
    record.uid = probe(sk, &kernel::SOCK_UID);
    record.kind = probe(sk, &kernel::SOCK_TYPE);
    if family == AF_PACKET {
        record.protocol = u16::from_be(probe(sk, &kernel::PACKET_PROTOCOL));
        let device: u64 = probe(sk, &kernel::PACKET_DEVICE);
        record.ifindex = if device == 0 { 0 } else { probe(device, &kernel::DEVICE_IFINDEX) };
        (record.local_port, record.remote_port) = (0, 0);
    } else {
        record.protocol = probe(sk, &kernel::SOCK_PROTOCOL);
    }
    if record.protocol == IPPROTO_TCP && family != AF_PACKET && record.kind == 1 {
        describe_tcp(sk, record);
    } else {
        record.receive_queue = known(sk, &kernel::SOCK_RMEM);
        record.send_queue =
            probe_if_there::<u32>(sk, &kernel::SOCK_WMEM).map_or(UNKNOWN, |bytes| bytes.saturating_sub(1));
    }
    true
}

#[inline(always)]
fn describe_tcp(sk: u64, record: &mut SocketRecord) {
    if record.state == u16::from(TCP_LISTEN) {
        record.receive_queue = known(sk, &kernel::SOCK_ACK_BACKLOG);
        record.send_queue = known(sk, &kernel::SOCK_MAX_ACK_BACKLOG);
        return;
    }
    record.receive_queue = between(sk, &kernel::TCP_COPIED_SEQ, &kernel::TCP_RCV_NXT);
    record.send_queue = between(sk, &kernel::TCP_SND_UNA, &kernel::TCP_WRITE_SEQ);
    record.rtt_us = probe_if_there::<u32>(sk, &kernel::TCP_SRTT).map_or(UNKNOWN, |srtt| srtt >> 3);
    record.cwnd_segments = known(sk, &kernel::TCP_SND_CWND);
    record.retransmits = known(sk, &kernel::TCP_TOTAL_RETRANS);
    record.acked_bytes = probe_if_there(sk, &kernel::TCP_BYTES_ACKED).unwrap_or(UNKNOWN_64);
    record.received_bytes = probe_if_there(sk, &kernel::TCP_BYTES_RECEIVED).unwrap_or(UNKNOWN_64);
    record.segments_sent = known(sk, &kernel::TCP_SEGS_OUT);
    record.segments_received = known(sk, &kernel::TCP_SEGS_IN);
    record.data_segments_sent = known(sk, &kernel::TCP_DATA_SEGS_OUT);
    record.data_segments_received = known(sk, &kernel::TCP_DATA_SEGS_IN);
    record.has_tcp = 1;
}

/// Bytes between two sequence numbers; unknown if the member is absent.
#[inline(always)]
fn between(sk: u64, from: &Global<u64>, to: &Global<u64>) -> u32 {
    match (probe_if_there::<u32>(sk, from), probe_if_there::<u32>(sk, to)) {
        (Some(from), Some(to)) => to.wrapping_sub(from),
        _ => UNKNOWN,
    }
}

/// A number; unknown if the member is absent.
#[inline(always)]
fn known(sk: u64, member: &Global<u64>) -> u32 {
    probe_if_there(sk, member).unwrap_or(UNKNOWN)
}
