//! What the headers of a packet say, read through the packet hooks' context.

use aya_ebpf::programs::SkBuffContext;
use nettop_common::{Family, ports::Address};

use crate::ports;

pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
const IPPROTO_UDPLITE: u8 = 136;
const IPPROTO_SCTP: u8 = 132;

/// Addresses, and of transports that have them, ports; all zero where a packet has none.
#[derive(Default)]
pub struct Headers {
    pub protocol: u8,
    pub tcp_flags: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub source: Address,
    pub destination: Address,
}

impl Headers {
    /// The context's data begins at the IP header.
    #[inline(always)]
    pub fn of(ctx: &SkBuffContext, family: Family) -> Self {
        const V4_OFFSET_MASK: u16 = 0x1fff;
        const TCP_FLAGS: usize = 13;
        let mut headers = Self::default();
        let transport = match family {
            Family::V4 => {
                headers.protocol = ctx.load(9).unwrap_or(0);
                headers.source = ports::mapped(ctx.load(12).unwrap_or(0));
                headers.destination = ports::mapped(ctx.load(16).unwrap_or(0));
                if u16::from_be(ctx.load(6).unwrap_or(0)) & V4_OFFSET_MASK != 0 {
                    return headers;
                }
                usize::from(ctx.load::<u8>(0).unwrap_or(0) & 0x0f) * 4
            }
            Family::V6 => {
                headers.source = ctx.load(8).unwrap_or_default();
                headers.destination = ctx.load(24).unwrap_or_default();
                let (protocol, at) = behind_options(ctx);
                headers.protocol = protocol;
                at
            }
        };
        if matches!(headers.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_UDPLITE | IPPROTO_SCTP) {
            headers.source_port = u16::from_be(ctx.load(transport).unwrap_or(0));
            headers.destination_port = u16::from_be(ctx.load(transport + 2).unwrap_or(0));
        }
        if headers.protocol == IPPROTO_TCP {
            headers.tcp_flags = ctx.load(transport + TCP_FLAGS).unwrap_or(0);
        }
        headers
    }
}

/// What an IPv6 packet carries, and where: behind up to four extension headers.
#[inline(always)]
fn behind_options(ctx: &SkBuffContext) -> (u8, usize) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let mut protocol: u8 = ctx.load(6).unwrap_or(0);
    let mut at = 40;
    for _ in 0..4 {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        protocol = ctx.load(at).unwrap_or(0);
        at += (usize::from(ctx.load::<u8>(at + 1).unwrap_or(0)) + 1) * 8;
    }
    (protocol, at)
}
