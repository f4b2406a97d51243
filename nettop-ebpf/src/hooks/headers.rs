//! A packet's headers, from any source of its bytes.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};
use nettop_common::{
    Family,
    abi::{
        IP_OFFSET, IP6_OFFSET, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, NEXTHDR_DEST, NEXTHDR_FRAGMENT,
        NEXTHDR_HOP, NEXTHDR_ROUTING, TCP_DATA_OFFSET_AT,
    },
    ports::Address,
};

use crate::ports;

/// Addresses, and ports if the transport has them; zero if a packet has none.
#[derive(Default)]
pub struct Headers {
    pub protocol: u16,
    pub tcp_flags: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub source: Address,
    pub destination: Address,
}

impl Headers {
    /// `word` reads four bytes at an offset from the IP header, in memory order.
    #[inline(always)]
    pub fn parse(word: &impl Fn(usize) -> u32, family: Family) -> Self {
        let mut headers = Self::default();
        let transport = match family {
            Family::V4 => {
                let first = word(0).to_ne_bytes();
                headers.protocol = word(8).to_ne_bytes()[1].into();
                headers.source = ports::mapped(word(12));
                headers.destination = ports::mapped(word(16));
                let is_first = half(word(4), 1) & IP_OFFSET == 0;
                is_first.then_some(usize::from(first[0] & 0x0f) * 4)
            }
            Family::V6 => {
                headers.source = [word(8), word(12), word(16), word(20)];
                headers.destination = [word(24), word(28), word(32), word(36)];
                let (protocol, at) = behind_options(word);
                headers.protocol = protocol.into();
                at
            }
        };
        // A later fragment has no transport header.
        let Some(transport) = transport else { return headers };
        if matches!(headers.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_SCTP) {
            let ports = word(transport);
            headers.source_port = half(ports, 0);
            headers.destination_port = half(ports, 1);
        }
        if headers.protocol == IPPROTO_TCP {
            headers.tcp_flags = word(transport + TCP_DATA_OFFSET_AT as usize).to_ne_bytes()[1];
        }
        headers
    }
}

/// A word of a packet, through the context of its hook; zero past its end. No branch for that: 6.1's verifier cannot
/// follow a dozen of them.
#[inline(always)]
pub fn word(ctx: &SkBuffContext, at: usize) -> u32 {
    let mut word = 0_u32;
    // SAFETY: the helper checks the place, and zeroes the word where it is none (`bpf_skb_load_bytes`).
    unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast(), at as u32, (&raw mut word).cast(), 4) };
    word
}

/// Two of four bytes, read as a big-endian number.
#[inline(always)]
fn half(word: u32, which: usize) -> u16 {
    let bytes = word.to_ne_bytes();
    u16::from_be_bytes([bytes[which * 2], bytes[which * 2 + 1]])
}

/// Protocol and offset of an IPv6 packet's payload, after up to three extension headers. Not for later fragments.
#[inline(always)]
fn behind_options(word: &impl Fn(usize) -> u32) -> (u8, Option<usize>) {
    let mut protocol = word(4).to_ne_bytes()[2];
    let mut at = 40;
    for _ in 0..3 {
        if !matches!(protocol, NEXTHDR_HOP | NEXTHDR_ROUTING | NEXTHDR_FRAGMENT | NEXTHDR_DEST) {
            break;
        }
        let header = word(at);
        let [next, length, ..] = header.to_ne_bytes();
        if protocol == NEXTHDR_FRAGMENT && half(header, 1) & IP6_OFFSET != 0 {
            return (next, None);
        }
        protocol = next;
        // A fragment header's length is reserved, and zero.
        at += (usize::from(length) + 1) * 8;
    }
    (protocol, Some(at))
}
