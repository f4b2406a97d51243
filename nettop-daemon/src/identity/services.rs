//! Names of ports: /etc/services.

use std::fs;

use nettop_common::abi::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP};

/// The number of a service, of any protocol if none is asked for.
pub fn port(name: &str, protocol: Option<u16>) -> Option<u16> {
    let text = fs::read_to_string("/etc/services").ok()?;
    entries(&text).find(|entry| entry.1 == name && protocol.is_none_or(|number| number == entry.2)).map(|entry| entry.0)
}

/// Port, name and protocol of each line.
pub fn entries(text: &str) -> impl Iterator<Item = (u16, &str, u16)> {
    text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, place) = (words.next()?, words.next()?);
        let (port, protocol) = place.split_once('/')?;
        let protocol = match protocol {
            "tcp" => IPPROTO_TCP,
            "udp" => IPPROTO_UDP,
            "sctp" => IPPROTO_SCTP,
            _ => return None,
        };
        Some((port.parse().ok()?, name, protocol))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn services_are_read_line_by_line() {
        let text = "# comment\nssh 22/tcp # Secure Shell\ndomain\t53/udp\nbroken\nx 1/ddp\n";
        let all: Vec<_> = super::entries(text).collect();
        assert_eq!(all, [(22, "ssh", 6), (53, "domain", 17)]);
    }
}
