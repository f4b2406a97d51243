//! Which sockets are asked for, in lsof's words: `[4|6][protocol][@host|address][:port|service]`.

use std::{net::IpAddr, str::FromStr};

use nettop_common::{
    SocketRecord,
    abi::{
        AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_MPTCP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP,
        IPPROTO_UDPLITE,
    },
};

use crate::identity::{address::Address, hosts::resolve, services};

const PROTOCOLS: [(&str, u16); 7] = [
    ("tcp", IPPROTO_TCP),
    ("udp", IPPROTO_UDP),
    ("udplite", IPPROTO_UDPLITE),
    ("sctp", IPPROTO_SCTP),
    ("mptcp", IPPROTO_MPTCP),
    ("icmp", IPPROTO_ICMP),
    ("icmpv6", IPPROTO_ICMPV6),
];

/// One `-i`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Selector {
    family: Option<u16>,
    /// Number of IP.
    protocol: Option<u16>,
    hosts: Vec<IpAddr>,
    ports: Vec<(u16, u16)>,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut selector = Self::default();
        let mut rest = text;
        for (digit, family) in [('4', AF_INET), ('6', AF_INET6)] {
            if let Some(after) = rest.strip_prefix(digit) {
                (selector.family, rest) = (Some(family), after);
                break;
            }
        }
        let end = rest.find(['@', ':']).unwrap_or(rest.len());
        let (protocol, after) = rest.split_at(end);
        if !protocol.is_empty() {
            let known = PROTOCOLS.iter().find(|(name, _)| protocol.eq_ignore_ascii_case(name));
            let names = || PROTOCOLS.map(|(name, _)| name).join(", ");
            let (_, number) = known.ok_or_else(|| format!("'{protocol}' is none of {}", names()))?;
            selector.protocol = Some(*number);
        }
        rest = after;
        if let Some(after) = rest.strip_prefix('@') {
            let (host, after) = host(after)?;
            selector.hosts = resolve(host)?;
            rest = after;
        }
        if let Some(ports) = rest.strip_prefix(':') {
            selector.ports =
                ports.split(',').map(|port| range(port, selector.protocol)).collect::<Result<Vec<_>, _>>()?;
        } else if !rest.is_empty() {
            return Err(format!("'{rest}' is not understood; give [4|6][protocol][@host][:port]"));
        }
        Ok(selector)
    }
}

/// Whether the selector's host needs a resolver.
pub fn names_a_host(selector: &str) -> bool {
    let host = selector.split_once('@').and_then(|(_, rest)| host(rest).ok());
    host.is_some_and(|(host, _)| host.parse::<IpAddr>().is_err())
}

impl Selector {
    /// The same without a name to resolve: one selector for each address of its host.
    pub fn by_number(&self) -> Vec<String> {
        let family = match self.family {
            Some(AF_INET) => "4",
            Some(_) => "6",
            None => "",
        };
        let known = PROTOCOLS.iter().find(|(_, number)| Some(*number) == self.protocol);
        let protocol = known.map_or("", |(name, _)| *name);
        let ports: Vec<String> = self.ports.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let ports = if ports.is_empty() { String::new() } else { format!(":{}", ports.join(",")) };
        let text = |host: String| format!("{family}{protocol}{host}{ports}");
        if self.hosts.is_empty() {
            return vec![text(String::new())];
        }
        self.hosts.iter().map(|host| text(format!("@[{host}]"))).collect()
    }

    /// Whether one end of the socket is asked for.
    pub fn selects(&self, record: &SocketRecord) -> bool {
        let is_inet = record.family == AF_INET || record.family == AF_INET6;
        let ends = [(record.local, record.local_port), (record.remote, record.remote_port)];
        is_inet
            && self.family.is_none_or(|family| (family == AF_INET) == (ip_version(record) == 4))
            && self.protocol.is_none_or(|protocol| protocol == record.protocol)
            && ends.into_iter().any(|(address, port)| {
                (self.hosts.is_empty() || self.hosts.contains(&Address::from(address).0))
                    && (self.ports.is_empty()
                        || self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
            })
    }
}

/// The version of IP that its packets have: a socket of IPv6 whose addresses are mapped ones of IPv4 uses that.
pub fn ip_version(record: &SocketRecord) -> u8 {
    let is_mapped = |address| Address::from(address).0.is_ipv4();
    if record.family == AF_INET || is_mapped(record.local) || is_mapped(record.remote) { 4 } else { 6 }
}

/// A host, and what comes behind it. An address of IPv6 stands in brackets.
fn host(text: &str) -> Result<(&str, &str), String> {
    if let Some(inside) = text.strip_prefix('[') {
        return inside.split_once(']').ok_or_else(|| format!("'[{inside}' has no ']'"));
    }
    Ok(text.split_at(text.find(':').unwrap_or(text.len())))
}

fn range(text: &str, protocol: Option<u16>) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        text.parse().ok().or_else(|| services::port(text, protocol)).ok_or_else(|| format!("no port is named '{text}'"))
    };
    match text.split_once('-') {
        // A service may have a hyphen in its name.
        Some((first, last)) if first.parse::<u16>().is_ok() => Ok((port(first)?, port(last)?)),
        _ => port(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    fn record(family: u16, protocol: u16, local: &str, port: u16) -> SocketRecord {
        let address = match local.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        SocketRecord { family, protocol, local: words, local_port: port, ..SocketRecord::zeroed() }
    }

    #[test]
    fn lsofs_words_are_understood() {
        let ssh = record(AF_INET, 6, "10.0.0.1", 22);
        let selects = |text: &str| text.parse::<Selector>().unwrap().selects(&ssh);
        for yes in [
            "",
            "4",
            "tcp",
            "4tcp",
            "TCP:22",
            ":22",
            ":20-25",
            ":80,22",
            "@10.0.0.1",
            "4tcp@10.0.0.1:22",
            "@[10.0.0.1]:22",
            "@[::ffff:10.0.0.1]",
        ] {
            assert!(selects(yes), "{yes}");
        }
        for no in ["6", "udp", ":23", "@10.0.0.2", "tcp@10.0.0.1:80"] {
            assert!(!selects(no), "{no}");
        }
        assert!("6@[::1]:53".parse::<Selector>().unwrap().selects(&record(AF_INET6, 17, "::1", 53)));
        for absurd in ["xyz", ":no-such-service", "tcp22", "@[::1", ":22:23", "@", "@:22", ":", "5tcp", ":99999"] {
            assert!(absurd.parse::<Selector>().is_err(), "{absurd}");
        }
    }

    #[test]
    fn a_selector_says_the_same_by_number() {
        for text in ["", "4", "6udp", "tcp:22", "4tcp@10.0.0.1:22", "@[fd00::1]:1-5,9", "icmp@127.0.0.1"] {
            let selector: Selector = text.parse().unwrap();
            let again = selector.by_number();
            assert_eq!(again.len(), 1, "{text}");
            assert_eq!(again[0].parse(), Ok(selector), "{text}");
            assert!(!names_a_host(&again[0]), "{text}");
        }
        assert!(names_a_host("tcp@example.com:80") && names_a_host("@x") && !names_a_host("tcp:80"));
    }
}
