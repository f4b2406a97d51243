//! Packets as lines for people, as documents and as CSV.

#[cfg(test)]
mod golden;
pub mod record;
pub mod text;

use nettop_common::abi::{
    IPPROTO_ESP, IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IGMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
    IPPROTO_UDPLITE,
};

/// U, A, P, R, S and F: bits of the TCP header.
const FLAGS: [u8; 6] = [0x20, 0x10, 0x08, 0x04, 0x02, 0x01];

/// What a protocol of IP is called.
fn protocol(number: u8) -> String {
    match number.into() {
        IPPROTO_ICMP => "icmp",
        IPPROTO_IGMP => "igmp",
        IPPROTO_TCP => "tcp",
        IPPROTO_UDP => "udp",
        IPPROTO_GRE => "gre",
        IPPROTO_ESP => "esp",
        IPPROTO_ICMPV6 => "icmp6",
        IPPROTO_SCTP => "sctp",
        IPPROTO_UDPLITE => "udplite",
        number => return format!("ip{number}"),
    }
    .into()
}
