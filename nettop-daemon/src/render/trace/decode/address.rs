//! `struct sockaddr` of the families that a machine's programs use.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_indextoname;

use crate::{
    render::trace::decode::names::{ETHERNET_PROTOCOLS, FAMILIES, HARDWARE_TYPES, PACKET_TYPES, name},
    sys::escape::quote,
};

/// Bytes that were handed over, at least the family.
pub fn decode(bytes: &[u8]) -> String {
    let family = i32::from(u16_at(bytes, 0));
    let shown = name(FAMILIES, family, "AF_???");
    if bytes.len() <= 2 {
        return format!("{{sa_family={shown}}}");
    }
    let known = match family {
        libc::AF_UNIX => Some(unix(bytes)),
        libc::AF_INET if bytes.len() >= 16 => Some(v4(bytes)),
        // Up to the scope, which came later.
        libc::AF_INET6 if bytes.len() >= 24 => Some(v6(bytes)),
        libc::AF_NETLINK if bytes.len() >= 12 => Some(netlink(bytes)),
        libc::AF_PACKET if bytes.len() >= 12 => Some(packet(bytes)),
        _ => None,
    };
    let rest = known.unwrap_or_else(|| format!("sa_data={}", quote(bytes.get(2..).unwrap_or_default())));
    format!("{{sa_family={shown}, {rest}}}")
}

/// As it stands in network order.
pub fn ethernet_protocol(protocol: u16) -> String {
    let protocol = u16::from_be(protocol);
    format!("htons({})", name(ETHERNET_PROTOCOLS, i32::from(protocol), "ETH_P_???"))
}

/// An abstract name begins with a zero and may hold more.
fn unix(bytes: &[u8]) -> String {
    const MAX_BYTES: usize = 110;
    let path = bytes.get(2..bytes.len().min(MAX_BYTES)).unwrap_or_default();
    match path.split_first() {
        Some((0, name)) => format!("sun_path=@{}", quote(name)),
        _ => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            format!("sun_path={}", quote(path))
        }
    }
}

fn v4(bytes: &[u8]) -> String {
    let address = Ipv4Addr::from(u32_at(bytes, 4).to_be());
    format!("sin_port=htons({}), sin_addr=inet_addr(\"{address}\")", u16_at(bytes, 2).to_be())
}

fn v6(bytes: &[u8]) -> String {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes.get(8..24).unwrap_or(&[0; 16]));
    let address = Ipv6Addr::from(octets);
    let (port, flow) = (u16_at(bytes, 2).to_be(), u32_at(bytes, 4).to_be());
    let scope = if bytes.len() > 24 {
        let index = u32_at(bytes, 24);
        let is_local = address.is_unicast_link_local() || address.segments()[0] & 0xff0f == 0xff02;
        format!(", sin6_scope_id={}", if is_local { device(index) } else { index.to_string() })
    } else {
        String::new()
    };
    format!(
        "sin6_port=htons({port}), sin6_flowinfo=htonl({flow}), inet_pton(AF_INET6, \"{address}\", &sin6_addr){scope}"
    )
}

fn netlink(bytes: &[u8]) -> String {
    let groups = match u32_at(bytes, 8) {
        0 => "00000000".into(),
        groups => format!("{groups:#08x}"),
    };
    format!("nl_pid={}, nl_groups={groups}", u32_at(bytes, 4).cast_signed())
}

fn packet(bytes: &[u8]) -> String {
    let protocol = ethernet_protocol(u16_at(bytes, 2));
    let index = u32_at(bytes, 4);
    let hardware = name(HARDWARE_TYPES, i32::from(u16_at(bytes, 8)), "ARPHRD_???");
    let [kind, len] = [10, 11].map(|at| bytes.get(at).copied().unwrap_or_default());
    let kind = name(PACKET_TYPES, i32::from(kind), "PACKET_???");
    let octets: Vec<String> = bytes.iter().skip(12).take(len.into()).map(|octet| format!("{octet:#04x}")).collect();
    let more = if usize::from(len) > octets.len() { ", ..." } else { "" };
    let address = if len == 0 { String::new() } else { format!(", sll_addr=[{}{more}]", octets.join(", ")) };
    format!(
        "sll_protocol={protocol}, sll_ifindex={}, sll_hatype={hardware}, sll_pkttype={kind}, sll_halen={len}{address}",
        device(index)
    )
}

/// `if_nametoindex("lo")`: of nettopd's own network namespace, as strace has it.
fn device(index: u32) -> String {
    // nix takes the null pointer of an unknown number for an empty name.
    match if_indextoname(index) {
        Ok(name) if !name.is_empty() => format!("if_nametoindex({})", quote(name.to_bytes())),
        _ => index.to_string(),
    }
}

/// Absent bytes are zero.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|found| found.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|found| found.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_strace_has_them() {
        let v4 = [2, 0, 0, 80, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode(&v4), r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.1")}"#);
        assert_eq!(decode(&v4[..8]), r#"{sa_family=AF_INET, sa_data="\0P\n\0\0\1"}"#);
        let mut v6 = [0; 28];
        (v6[0], v6[3], v6[23]) = (10, 53, 1);
        let shown = r#"sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr)"#;
        assert_eq!(decode(&v6), format!("{{sa_family=AF_INET6, {shown}, sin6_scope_id=0}}"));
        assert_eq!(decode(b"\x01\0/run/\x1b]0;x\x07\0junk"), r#"{sa_family=AF_UNIX, sun_path="/run/\33]0;x\7"}"#);
        assert_eq!(decode(b"\x01\0\0a\0b"), r#"{sa_family=AF_UNIX, sun_path=@"a\0b"}"#);
        assert_eq!(decode(b"\x01\0"), "{sa_family=AF_UNIX}");
        assert_eq!(decode(&[99, 0, 1]), r#"{sa_family=0x63 /* AF_??? */, sa_data="\1"}"#);
        let netlink = [16, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(decode(&netlink), "{sa_family=AF_NETLINK, nl_pid=7, nl_groups=0x000001}");
    }
}
