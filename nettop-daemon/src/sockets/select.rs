//! Which sockets are asked for, in lsof's words: `[4|6][protocol][@host|address][:port|service]`.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, ToSocketAddrs as _},
    str::FromStr,
};

use nettop_common::{SocketRecord, ports};

use crate::identity::hosts;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// By number of IP.
const PROTOCOLS: [(&str, u16); 7] =
    [("tcp", 6), ("udp", 17), ("udplite", 136), ("sctp", 132), ("mptcp", 262), ("icmp", 1), ("icmpv6", 58)];

/// An address as the kernel has it, as people have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address(pub IpAddr);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<ports::Address> for Address {
    fn from(words: ports::Address) -> Self {
        let mut bytes = [0; 16];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        let v6 = Ipv6Addr::from(bytes);
        Self(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4))
    }
}

impl Address {
    /// `10.0.0.1:80` or `[fd00::1]:80`.
    pub fn with_port(self, port: u16) -> String {
        std::net::SocketAddr::new(self.0, port).to_string()
    }
}

impl From<Address> for ports::Address {
    fn from(Address(address): Address) -> Self {
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let octets = v6.octets();
        std::array::from_fn(|i| {
            u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
        })
    }
}

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

/// Whether a resolver would have to be asked for the selector's host.
pub fn names_a_host(selector: &str) -> bool {
    let host = selector.split_once('@').and_then(|(_, rest)| host(rest).ok());
    host.is_some_and(|(host, _)| host.parse::<IpAddr>().is_err())
}

impl Selector {
    /// The same in words that no resolver is needed for: one selector for each address of its host.
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
            && self.family.is_none_or(|family| family == record.family)
            && self.protocol.is_none_or(|protocol| protocol == record.protocol)
            && ends.into_iter().any(|(address, port)| {
                (self.hosts.is_empty() || self.hosts.contains(&Address::from(address).0))
                    && (self.ports.is_empty()
                        || self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
            })
    }
}

/// A host, and what comes behind it. An address of IPv6 stands in brackets.
fn host(text: &str) -> Result<(&str, &str), String> {
    if let Some(inside) = text.strip_prefix('[') {
        return inside.split_once(']').ok_or_else(|| format!("'[{inside}' has no ']'"));
    }
    Ok(text.split_at(text.find(':').unwrap_or(text.len())))
}

/// All addresses of a host, as sockets are shown to have them.
///
/// # Errors
///
/// In words, if there is none.
pub fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if host.is_empty() {
        return Err("no host is named".into());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    // No name server is asked for what the hosts file has.
    let known = hosts::addresses(&fs::read("/etc/hosts").unwrap_or_default(), host);
    if !known.is_empty() {
        return Ok(known);
    }
    let found = (host, 0).to_socket_addrs().map_err(|error| format!("'{host}' is not found: {error}"))?;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
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

/// /etc/services.
pub mod services {
    use std::fs;

    /// The number of a service, of any protocol if none is asked for.
    pub fn port(name: &str, protocol: Option<u16>) -> Option<u16> {
        let text = fs::read_to_string("/etc/services").ok()?;
        entries(&text)
            .find(|entry| entry.1 == name && protocol.is_none_or(|number| number == entry.2))
            .map(|entry| entry.0)
    }

    /// Port, name and protocol of each line.
    pub fn entries(text: &str) -> impl Iterator<Item = (u16, &str, u16)> {
        text.lines().filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let (name, place) = (words.next()?, words.next()?);
            let (port, protocol) = place.split_once('/')?;
            let protocol = match protocol {
                "tcp" => 6,
                "udp" => 17,
                "sctp" => 132,
                _ => return None,
            };
            Some((port.parse().ok()?, name, protocol))
        })
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

    #[test]
    fn an_address_is_shown_as_people_write_it() {
        let shown = |text: &str| Address::from(record(AF_INET, 6, text, 1).local).0.to_string();
        assert_eq!(shown("10.0.0.1"), "10.0.0.1");
        assert_eq!(shown("fd00::1"), "fd00::1");
    }

    #[test]
    fn services_are_read_line_by_line() {
        let text = "# comment\nssh 22/tcp # Secure Shell\ndomain\t53/udp\nbroken\nx 1/ddp\n";
        let all: Vec<_> = services::entries(text).collect();
        assert_eq!(all, [(22, "ssh", 6), (53, "domain", 17)]);
    }
}
