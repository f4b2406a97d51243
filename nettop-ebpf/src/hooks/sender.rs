//! Who sends a packet. `current` is the sender only if that is known. Softirq or a worker may also send, or the process
//! that accepts a queued packet (`nf_reinject`), in the context of any process.

use aya_ebpf::{EbpfContext as _, bindings::bpf_sock, programs::SkBuffContext};
use nettop_common::{
    Ref, SocketTag,
    abi::{
        IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, SKB_DST_NOREF, SOCK_RAW,
        TCP_LISTEN,
    },
    log::Hook,
    tag::attribution,
};

use crate::{
    kernel::{self, probe},
    owners, tags,
    task::{User, is_in_call_on},
};

/// The running process as an owner, if the packet is its own. A process that sends through another's socket owns it
/// from this packet on, and not only when its call returns. [`Ref::NONE`] if unknown: the packet is the socket owner's.
#[inline(always)]
pub fn find(ctx: &SkBuffContext, tag: &mut SocketTag, sk: *mut bpf_sock) -> Ref {
    let known = tags::owner(tag);
    if known == Ref::NONE {
        return Ref::NONE;
    }
    let user = User::current(Hook::PacketTx);
    let owner = owners::get(known);
    if owner.as_ref().is_some_and(|owner| user.is(owner)) {
        return known;
    }
    // The kernel's own sockets send from any context.
    let is_kernels = owner.is_some_and(|owner| owner.is_kernel_thread != 0);
    if is_kernels || user.task.is_kernel_thread() || !is_sending(ctx, tag, sk) {
        return Ref::NONE;
    }
    // `do_exit` reports a process's end before it closes its files: its rows may have left, and are not made again.
    if user.task.is_exiting() && owners::find(&user.key).is_none() {
        return Ref::NONE;
    }
    tags::assign_owner(tag, &user, attribution::USER)
}

/// Protocols that send in other contexts (DCCP, L2TP, …) are never known to be sending.
#[inline(always)]
fn is_sending(ctx: &SkBuffContext, tag: &mut SocketTag, sk: *mut bpf_sock) -> bool {
    let address = tags::address(tag, sk.cast());
    let is_raw = probe::<u16>(address, &kernel::SOCK_TYPE) == SOCK_RAW;
    match probe::<u16>(address, &kernel::SOCK_PROTOCOL) {
        _ if is_raw => is_in_call_on(address),
        IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_ICMP | IPPROTO_ICMPV6 => is_in_call_on(address),
        IPPROTO_TCP => is_locked(address) && !listens(address) && is_in_senders_context(ctx, sk, address),
        IPPROTO_SCTP => is_locked(address) && is_in_call_on(address),
        _ => false,
    }
}

/// Whether a process holds the socket's lock. Softirq then leaves the socket alone (`tcp_v4_rcv`, `tcp_write_timer`,
/// `tcp_tasklet_func`, `sctp_rcv` all defer), except a listener, which answers without a lock.
#[inline(always)]
fn is_locked(sk: u64) -> bool {
    probe::<u32>(sk, &kernel::SOCK_LOCK_OWNED) != 0
}

#[inline(always)]
fn listens(sk: u64) -> bool {
    probe::<u8>(sk, &kernel::SOCK_STATE) == TCP_LISTEN
}

/// Whether a TCP packet is on its way from the function that made it. `__ip_queue_xmit` and `inet6_csk_xmit` lend it
/// the route, under RCU. Queueing takes a reference first (`skb_dst_force`); rerouting, as for IPsec, gives it one. The
/// sender of TCP has the socket's lock: if a process has it, that one is running.
#[inline(always)]
fn is_in_senders_context(ctx: &SkBuffContext, sk: *mut bpf_sock, address: u64) -> bool {
    // The context is the packet. The verifier allows only the distance of two pointers, and the address of one is
    // known.
    let distance = core::hint::black_box((ctx.as_ptr() as u64).wrapping_sub(sk as u64));
    probe::<u64>(address.wrapping_add(distance), &kernel::SKB_DST) & SKB_DST_NOREF != 0
}
