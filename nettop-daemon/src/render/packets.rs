//! Packets as lines for people, as documents and as CSV.

#[cfg(test)]
mod golden;
pub mod record;
pub mod text;

/// U, A, P, R, S and F: bits of the TCP header.
const FLAGS: [u8; 6] = [0x20, 0x10, 0x08, 0x04, 0x02, 0x01];

/// What a protocol of IP is called.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        58 => "icmp6",
        132 => "sctp",
        136 => "udplite",
        number => return format!("ip{number}"),
    }
    .into()
}
