//! The other end of a packet: from its socket, or from its headers if the socket has no single one.

use aya_ebpf::{Global, bindings::bpf_sock, programs::SkBuffContext};
use nettop_common::{
    Direction, Family, Peer, Row, RowKey,
    abi::{
        IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPV6_HEADER_BYTES, SOCK_RAW, TCP_LISTEN,
    },
    offsets::ABSENT,
    owner,
    peer::role,
    ports::Address,
    tag::CHILD,
};

use crate::{
    kernel::{self, probe, probe_at},
    maps::PEER_LIMIT,
    ports::{self, mapped},
    rows,
};

/// The bits of `sk_userlocks`.
#[unsafe(no_mangle)]
static SOCK_USERLOCKS_BIT: Global<u64> = Global::new(ABSENT);
/// `SOCK_BINDPORT_LOCK` (net/sock.h): the program has bound the port.
const BOUND: u8 = 8;
/// Ports that only services have.
const FIRST_USER_PORT: u16 = 1024;

/// Whether a row may count a packet with the peer in `key`, of which role and protocol are not known yet. Once a socket with
/// one peer has found no room for it, it does not ask again.
#[inline(always)]
pub fn is_same(row: &Row, key: &RowKey, is_connected: impl Fn() -> bool) -> bool {
    if PEER_LIMIT.load() == 0 || row.key.owner < owner::FIRST || !is_known(&key.peer) {
        return true;
    }
    let peer = &row.key.peer;
    match peer.role {
        role::NONE => is_connected(),
        role::CLIENT => peer.port == key.peer.port && peer.address == key.peer.address,
        _ => peer.address == key.peer.address,
    }
}

/// Whether there is an address.
#[inline(always)]
const fn is_known(peer: &Peer) -> bool {
    let [a, b, c, d] = peer.address;
    a | b | c | d != 0
}

/// Whether a socket has one peer.
#[inline(always)]
pub fn is_connected(sk: u64) -> bool {
    probe::<u16>(sk, &kernel::SOCK_DPORT) != 0
}

/// Puts the other end of a packet that a cgroup program sees into a row's key. A listener's packets have none: anybody may
/// send it requests.
#[inline(always)]
pub fn of_packet(key: &mut RowKey, ctx: &SkBuffContext, sk: *const bpf_sock, direction: Direction, family: Family) {
    if PEER_LIMIT.load() == 0 {
        return;
    }
    // SAFETY: a checked bpf_sock; the verifier rewrites loads of single words. Volatile, or they would be joined.
    let word = |at: *const u32| unsafe { at.read_volatile() };
    // SAFETY: as above; the address of a member is no load.
    let (v4, v6, port) = unsafe { (&raw const (*sk).dst_ip4, &raw const (*sk).dst_ip6, &raw const (*sk).dst_port) };
    let v6 = v6.cast::<u32>();
    key.peer.port = u16::from_be(word(port.cast()) as u16);
    match family {
        Family::V4 => {
            let address = word(v4);
            if address != 0 {
                key.peer.address = mapped(address);
            }
        }
        Family::V6 => {
            key.peer.address = [word(v6), word(v6.wrapping_add(1)), word(v6.wrapping_add(2)), word(v6.wrapping_add(3))];
        }
    }
    if !is_known(&key.peer) {
        in_headers(&mut key.peer, ctx, direction, family);
    }
}

#[inline(always)]
fn in_headers(peer: &mut Peer, ctx: &SkBuffContext, direction: Direction, family: Family) {
    let is_sent = direction == Direction::Tx;
    let header_bytes = match family {
        Family::V4 => {
            peer.address = mapped(ctx.load::<u32>(if is_sent { 16 } else { 12 }).unwrap_or(0));
            usize::from(ctx.load::<u8>(0).unwrap_or(0) & 0x0f) * 4
        }
        Family::V6 => {
            let at = if is_sent { 24 } else { 8 };
            for word in 0..4 {
                peer.address[word] = ctx.load::<u32>(at + 4 * word).unwrap_or(0);
            }
            IPV6_HEADER_BYTES as usize
        }
    };
    peer.port = u16::from_be(ctx.load::<u16>(header_bytes + if is_sent { 2 } else { 0 }).unwrap_or(0));
}

/// Where a packet with its headers at these addresses was sent to.
#[inline(always)]
pub fn destination(key: &mut RowKey, network: u64, transport: u64, family: Family) {
    key.peer = Peer::NONE;
    key.peer.address = match family {
        Family::V4 => mapped(probe_at(network + 16)),
        Family::V6 => probe_at::<Address>(network + 24),
    };
    key.peer.port = u16::from_be(probe_at(transport + 2));
}

/// The row for what a call took or handed over, beside the socket's last packet that way. When a call returns, nothing
/// tells whose datagram it took from a socket with several peers.
#[inline(always)]
pub fn of_call(sk: u64, direction: Direction, row: &'static mut Row) -> &'static mut Row {
    let is_known = PEER_LIMIT.load() == 0
        || direction == Direction::Tx
        || !row.key.peer.is_some()
        || row.key.peer.protocol == IPPROTO_TCP as u8
        || is_connected(sk);
    if is_known { row } else { rows::rest(row) }
}

/// Completes the peer in a row's key, if its owner has peers.
#[inline(always)]
pub fn complete(key: &mut RowKey, sk: u64, flags: u8) {
    if PEER_LIMIT.load() != 0 && key.owner >= owner::FIRST && is_known(&key.peer) {
        put_role(key, sk, u32::from(flags & CHILD));
    }
}

/// Finds role, protocol and port. Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn put_role(key: *mut RowKey, sk: u64, is_child: u32) -> u32 {
    // SAFETY: the verifier admits null, or a whole key.
    let Some(key) = (unsafe { key.as_mut() }) else { return 0 };
    let protocol: u16 = probe(sk, &kernel::SOCK_PROTOCOL);
    let has_ports = matches!(protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_SCTP | IPPROTO_DCCP);
    // `inet_num` of a closed connection is zero.
    let local = u16::from_be(probe(sk, &kernel::INET_SPORT));
    key.peer.protocol = protocol as u8;
    if !has_ports || probe::<u16>(sk, &kernel::SOCK_TYPE) == SOCK_RAW {
        (key.peer.role, key.peer.port) = (role::OTHER, 0);
        return 0;
    }
    let is_asked = is_child != 0
        || match protocol {
            IPPROTO_UDP | IPPROTO_UDPLITE => {
                is_bound(sk) && (key.peer.port >= FIRST_USER_PORT || local <= key.peer.port)
            }
            // SCTP's are no clones of their listener; others may be older than nettopd.
            _ => ports::find_socket(key.netns, protocol as u8, ports::local_address(sk), local)
                .is_some_and(|holder| probe::<u8>(holder, &kernel::SOCK_STATE) == TCP_LISTEN),
        };
    if is_asked {
        (key.peer.role, key.peer.port) = (role::SERVER, local);
    } else {
        key.peer.role = role::CLIENT;
    }
    0
}

/// Whether the program has bound the socket to its port.
#[inline(always)]
fn is_bound(sk: u64) -> bool {
    let bit = SOCK_USERLOCKS_BIT.load();
    bit != ABSENT && probe_at::<u8>(sk + bit / 8) >> (bit % 8) & BOUND != 0
}
