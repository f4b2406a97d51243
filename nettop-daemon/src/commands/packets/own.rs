//! The connection by which the output travels: lines about its packets would make more packets, without end.
//!
//! Standard output may be that connection, or a terminal or a pipe of sshd(8), which sets `SSH_CONNECTION` to the
//! connection's ends. sudo(8) clears that, but not in the shell that called it: parents are checked, too.

use std::{fs, io, net::IpAddr, os::fd::AsRawFd as _};

use nettop_common::ports;
use nix::{
    sys::{
        socket::{SockaddrStorage, getpeername, getsockname},
        stat::{SFlag, fstat},
    },
    unistd::isatty,
};
use procfs::process::Process;

use crate::identity::address::Address;

/// Between two ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection([(IpAddr, u16); 2]);

impl std::fmt::Display for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [one, other] = self.0.map(|(address, port)| Address(address).with_port(None, port));
        write!(f, "{one} and {other}")
    }
}

impl Connection {
    /// Whether a packet between these ends belongs to it.
    pub fn has(&self, ends: [(ports::Address, u16); 2]) -> bool {
        let [from, to] = ends.map(|(address, port)| (Address::from(address).0, port));
        self.0 == [from, to] || self.0 == [to, from]
    }
}

/// Those by which standard output leaves this machine: none for a file.
pub fn connections() -> Vec<Connection> {
    let stdout = io::stdout();
    let Ok(stat) = fstat(&stdout) else { return Vec::new() };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let is_socket = kind == SFlag::S_IFSOCK;
    if is_socket && let Some(own) = of_socket(stdout.as_raw_fd()) {
        return vec![own];
    }
    let leads_on = is_socket || kind == SFlag::S_IFIFO || isatty(&stdout).unwrap_or(false);
    if leads_on { of_session().into_iter().collect() } else { Vec::new() }
}

fn of_socket(fd: i32) -> Option<Connection> {
    let ends = [getsockname::<SockaddrStorage>(fd).ok()?, getpeername::<SockaddrStorage>(fd).ok()?];
    let [one, other] = ends.map(|end| {
        let v4 = end.as_sockaddr_in().map(|end| (IpAddr::V4(end.ip()), end.port()));
        v4.or_else(|| end.as_sockaddr_in6().map(|end| (end.ip().to_canonical(), end.port())))
    });
    Some(Connection([one?, other?]))
}

/// From `SSH_CONNECTION` of this process, or of its nearest parent.
fn of_session() -> Option<Connection> {
    let mut pid = i32::try_from(std::process::id()).ok()?;
    // A longer chain of parents is not a user's.
    for _ in 0..64 {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        if let Some(value) = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION=")) {
            return parse(std::str::from_utf8(value).ok()?);
        }
        pid = Process::new(pid).ok()?.stat().ok()?.ppid;
        if pid == 0 {
            return None;
        }
    }
    None
}

/// `client port server port`.
fn parse(text: &str) -> Option<Connection> {
    let mut words = text.split(' ');
    let mut end = || {
        let address = words.next()?.split('%').next()?.parse::<IpAddr>().ok()?;
        Some((address.to_canonical(), words.next()?.parse().ok()?))
    };
    Some(Connection([end()?, end()?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_ends_whichever_way() {
        let own = parse("fe80::2%eth0 50000 fe80::1%eth0 22").unwrap();
        let end = |text: &str, port| (Address(text.parse().unwrap()).into(), port);
        assert!(
            own.has([end("fe80::1", 22), end("fe80::2", 50000)])
                && own.has([end("fe80::2", 50000), end("fe80::1", 22)])
        );
        assert!(!own.has([end("fe80::1", 22), end("fe80::2", 50001)]));
        assert_eq!(parse("::ffff:10.0.0.1 5 10.0.0.2 22").unwrap().to_string(), "10.0.0.1:5 and 10.0.0.2:22");
        for none in ["", "10.0.0.1", "10.0.0.1 5 10.0.0.2", "a b c d", "10.0.0.1 70000 10.0.0.2 22"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }
}
