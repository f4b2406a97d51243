//! Copies what name servers answer, whole, for the daemon to parse. A socket pays for it whose first packet comes from port
//! 53; others pay for a look at their tag.

use aya_ebpf::{
    EbpfContext as _,
    bindings::__sk_buff,
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes},
    maps::ring_buf::RingBufEntry,
    programs::SkBuffContext,
};
use nettop_common::{
    AnswerHead, AnswerRecord, Direction, Family, OwnerKey, Ref, SocketTag,
    abi::{ETH_P_IPV6_BE, IPPROTO_TCP, IPPROTO_UDP, IPV6_HEADER_BYTES, TCP_DATA_OFFSET_AT, UDP_HEADER_BYTES},
    answer::{DNS_PORT, LONG_BYTES, MIDDLE_BYTES, SHORT_BYTES},
    tag::{CHILD, LISTENING, RESOLVES},
};

use super::headers::{half, word};
use crate::{
    maps::{ANSWERS, count, stats},
    owners, tags,
};

/// Of the third byte of a message: it is a response, of a standard query.
const RESPONSE_MASK: u8 = 0xf8;
const RESPONSE: u8 = 0x80;

/// A received packet, before it is counted.
#[inline(always)]
pub fn note(ctx: &SkBuffContext, tag: &mut SocketTag) {
    let [v4, v6] = tag.rows;
    let is_first = v4[Direction::Rx as usize] == Ref::NONE && v6[Direction::Rx as usize] == Ref::NONE;
    // Whoever connects to a listener may choose port 53.
    if tag.flags & (LISTENING | CHILD) == 0 && (is_first || tag.family & RESOLVES != 0) {
        look(ctx.skb.skb, tag);
    }
}

/// A function of its own: its variables do not lie on the caller's stack.
#[inline(never)]
fn look(skb: *mut __sk_buff, tag: &mut SocketTag) -> u32 {
    let ctx = &SkBuffContext::new(skb);
    // SAFETY: the context is valid for the run.
    let family = if unsafe { (*skb).protocol } == u32::from(ETH_P_IPV6_BE) { Family::V6 } else { Family::V4 };
    // A socket without a connection has others' packets as well.
    if source_port(ctx, family) != DNS_PORT {
        return 0;
    }
    if tag.family & RESOLVES == 0 {
        tags::note_resolves(tag);
    }
    if stats().is_some_and(|stats| stats.answers_wanted != 0) {
        copy(ctx, tag, family);
    }
    0
}

/// Length of the IP header. Packets with extension headers are not copied.
#[inline(always)]
fn ip_bytes(ctx: &SkBuffContext, family: Family) -> usize {
    match family {
        Family::V4 => usize::from(word(ctx, 0).to_ne_bytes()[0] & 0x0f) * 4,
        Family::V6 => IPV6_HEADER_BYTES as usize,
    }
}

#[inline(always)]
fn source_port(ctx: &SkBuffContext, family: Family) -> u16 {
    half(word(ctx, ip_bytes(ctx, family)), 0)
}

#[inline(always)]
fn copy(ctx: &SkBuffContext, tag: &SocketTag, family: Family) {
    let protocol = match family {
        Family::V4 => word(ctx, 8).to_ne_bytes()[1],
        Family::V6 => word(ctx, 4).to_ne_bytes()[2],
    };
    let transport = ip_bytes(ctx, family);
    let (payload, sequence) = match u16::from(protocol) {
        IPPROTO_UDP => (transport + UDP_HEADER_BYTES as usize, 0),
        IPPROTO_TCP => {
            let words = word(ctx, transport + TCP_DATA_OFFSET_AT as usize).to_ne_bytes()[0] >> 4;
            (transport + usize::from(words) * 4, u32::from_be(word(ctx, transport + 4)))
        }
        _ => return,
    };
    if u16::from(protocol) == IPPROTO_UDP && word(ctx, payload).to_ne_bytes()[2] & RESPONSE_MASK != RESPONSE {
        return;
    }
    let whole_bytes = ctx.len().saturating_sub(payload as u32);
    if whole_bytes == 0 {
        return;
    }
    let head = AnswerHead {
        owner: owners::get(tags::owner(tag)).map_or(OwnerKey { start_time_ns: 0, tgid: 0, uid: 0 }, |owner| owner.key),
        // SAFETY: the context of the program.
        socket_cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        sequence,
        bytes: whole_bytes.min(LONG_BYTES as u32),
        whole_bytes,
        protocol: protocol.into(),
    };
    if whole_bytes <= SHORT_BYTES as u32 {
        put::<SHORT_BYTES>(ctx, head, payload);
    } else if whole_bytes <= MIDDLE_BYTES as u32 {
        put::<MIDDLE_BYTES>(ctx, head, payload);
    } else {
        put::<LONG_BYTES>(ctx, head, payload);
    }
}

#[inline(always)]
fn put<const BYTES: usize>(ctx: &SkBuffContext, head: AnswerHead, payload: usize) {
    let Some(mut entry) = ANSWERS.reserve::<AnswerRecord<BYTES>>(0) else {
        return count(|stats| &raw mut stats.answers_lost);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved. What is behind the payload stays as it was: only the daemon reads the ring.
    let failed = unsafe {
        (&raw mut (*record).head).write(head);
        // From memory: to the verifier any number, and the compiler cannot leave its bounds out.
        let bytes = (&raw const (*record).head.bytes).read_volatile();
        let bytes = (bytes.wrapping_sub(1) & (BYTES as u32 - 1)) + 1;
        let to = (&raw mut (*record).payload).cast();
        bpf_skb_load_bytes(ctx.as_ptr().cast(), payload as u32, to, bytes) != 0
    };
    if failed {
        RingBufEntry::discard(entry, 0);
        count(|stats| &raw mut stats.answers_lost);
    } else {
        RingBufEntry::submit(entry, 0);
    }
}
