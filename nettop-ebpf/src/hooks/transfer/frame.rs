//! Packet sockets (AF_PACKET) send frames past every IP hook: each call is billed as the frame it sends, on the device
//! the socket is bound to. Listening is not traffic.

use core::ffi::c_void;

use nettop_common::{Direction, Family, offsets::ABSENT};

use super::used;
use crate::{
    kernel::{self, load, probe},
    ledger::{self, Packet},
    task::User,
};

const SOCK_RAW: u16 = 3;
const ETH_P_IPV6_BE: u16 = 0x86dd_u16.to_be();

/// A packet socket sent a frame of this many bytes; a raw one's has its link header.
#[inline(always)]
pub fn sent(sk: *const c_void, user: &User, bytes: u32) {
    if kernel::PACKET_DEVICE.load() == ABSENT {
        return;
    }
    let device: u64 = probe(sk as u64, &kernel::PACKET_DEVICE);
    let ifindex: u32 = if device == 0 { 0 } else { probe(device, &kernel::DEVICE_IFINDEX) };
    let header_bytes = match load::<u16>(sk, &kernel::SOCK_TYPE) {
        SOCK_RAW if device != 0 => u32::from(probe::<u16>(device, &kernel::DEVICE_HEADER_BYTES)),
        _ => 0,
    };
    let is_v6 = probe::<u16>(sk as u64, &kernel::PACKET_PROTOCOL) == ETH_P_IPV6_BE;
    let packet = Packet {
        ifindex,
        family: if is_v6 { Family::V6 } else { Family::V4 },
        bytes: bytes.saturating_sub(header_bytes),
        gso_size: 0,
        header_bytes: 0,
    };
    used(sk, user, |tag| {
        // One that is bound to no device names it in each call, which is not seen here.
        if ifindex != 0 {
            ledger::count(tag, sk, false, Direction::Tx, &packet);
        }
        ledger::count_app(tag, Direction::Tx, u64::from(bytes));
    });
}
