//! Packet sockets (AF_PACKET) send frames past every IP hook. Their calls have the app bytes and the socket's owner;
//! the frames are counted at the device, see `hooks/frames.rs`.

use core::ffi::c_void;

use aya_ebpf::Global;
use nettop_common::{
    Direction, Family,
    abi::{AF_PACKET, ETH_P_IPV6_BE, SOCK_RAW, VIRTIO_NET_HEADER_BYTES},
    log::Hook,
    offsets::ABSENT,
};

use super::usage::used;
use crate::{
    kernel::{self, load, probe, probe_at},
    ledger::{self, Packet},
    task::User,
};

/// Number of `PACKET_SOCK_QDISC_BYPASS` in the flags of a packet socket.
#[unsafe(no_mangle)]
static PACKET_BYPASS_BIT: Global<u64> = Global::new(ABSENT);
/// Number of `PACKET_SOCK_HAS_VNET_HDR` there, which came between the bit field and `vnet_hdr_sz`.
#[unsafe(no_mangle)]
static PACKET_VNET_FLAG: Global<u64> = Global::new(ABSENT);
/// Where `packet_sock.has_vnet_hdr` is, before 6.4.
#[unsafe(no_mangle)]
static PACKET_VNET_BIT: Global<u64> = Global::new(ABSENT);

/// A call on a packet socket sent this many bytes: a frame, or with a ring many.
#[inline(always)]
pub fn sent(sk: *const c_void, user: &User, bytes: u32) {
    let socket = sk as u64;
    let device: u64 = if kernel::PACKET_DEVICE.load() == ABSENT { 0 } else { probe(socket, &kernel::PACKET_DEVICE) };
    let ifindex: u32 = if device == 0 { 0 } else { probe(device, &kernel::DEVICE_IFINDEX) };
    let frame_bytes = bytes.saturating_sub(virtio_bytes(socket));
    used(sk, user, |tag, owner| {
        if ifindex != 0 && bypasses_queue(socket) {
            ledger::count(
                tag,
                owner,
                sk,
                false,
                Direction::Tx,
                &frame(socket, device, ifindex, frame_bytes, user.hook),
            );
        }
        ledger::count_app_on(tag, owner, Direction::Tx, u64::from(frame_bytes), ifindex, user.hook);
    });
}

/// A call on a non-IP socket received something. Listening is not traffic, but the drops of a slow sniffer are its own.
#[inline(always)]
pub fn received(sk: *const c_void, hook: Hook) {
    if load::<u16>(sk, &kernel::SOCK_FAMILY) == AF_PACKET {
        used(sk, &User::current(hook), |_, _| {});
    }
}

/// The frame of a call, from the socket's binding; a raw socket's has its link header.
#[inline(always)]
fn frame(socket: u64, device: u64, ifindex: u32, bytes: u32, hook: Hook) -> Packet {
    let is_raw = probe::<u16>(socket, &kernel::SOCK_TYPE) == SOCK_RAW;
    let header_bytes = if is_raw { u32::from(probe::<u16>(device, &kernel::DEVICE_HEADER_BYTES)) } else { 0 };
    let is_v6 = probe::<u16>(socket, &kernel::PACKET_PROTOCOL) == ETH_P_IPV6_BE;
    let family = if is_v6 { Family::V6 } else { Family::V4 };
    Packet::ordinary(hook, ifindex, family, bytes.saturating_sub(header_bytes))
}

/// Whether frames bypass the queue, and so the tracepoint (`PACKET_QDISC_BYPASS`): `__dev_direct_xmit` has none.
#[inline(always)]
fn bypasses_queue(socket: u64) -> bool {
    has_flag(socket, PACKET_BYPASS_BIT.load())
}

#[inline(always)]
fn has_flag(socket: u64, bit: u64) -> bool {
    bit != ABSENT
        && kernel::PACKET_FLAGS.load() != ABSENT
        && probe::<u64>(socket, &kernel::PACKET_FLAGS) >> (bit & 63) & 1 != 0
}

/// Length of the virtio header before the data of a call, which is not sent (`PACKET_VNET_HDR`). A ring's frames are
/// reported without it (`tpacket_snd`).
#[inline(always)]
fn virtio_bytes(socket: u64) -> u32 {
    if kernel::PACKET_TX_RING.load() == ABSENT || probe::<u64>(socket, &kernel::PACKET_TX_RING) != 0 {
        return 0;
    }
    let bit = PACKET_VNET_BIT.load();
    if kernel::PACKET_VNET_BYTES.load() != ABSENT {
        u32::from(probe::<u8>(socket, &kernel::PACKET_VNET_BYTES))
    } else if has_flag(socket, PACKET_VNET_FLAG.load())
        || bit != ABSENT && probe_at::<u8>(socket + bit / 8) >> (bit % 8) & 1 != 0
    {
        VIRTIO_NET_HEADER_BYTES
    } else {
        0
    }
}
