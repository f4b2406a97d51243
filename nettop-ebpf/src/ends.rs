//! The two ends of a socket.

use nettop_common::{
    abi::{AF_INET, AF_INET6},
    ports::{Address, MAPPED},
};

use crate::{
    kernel::{self, probe},
    ports::mapped,
};

/// Addresses, and ports as numbers.
pub struct Ends {
    pub family: u16,
    pub local: Address,
    pub remote: Address,
    pub local_port: u16,
    pub remote_port: u16,
}

impl Ends {
    /// `None` for a socket that is not of an IP family.
    #[inline(always)]
    pub fn from_socket(sk: u64) -> Option<Self> {
        let family: u16 = probe(sk, &kernel::SOCK_FAMILY);
        let (local, remote) = match family {
            AF_INET => (mapped(probe(sk, &kernel::SOCK_RCV_SADDR)), mapped(probe(sk, &kernel::SOCK_DADDR))),
            AF_INET6 => (probe(sk, &kernel::SOCK_V6_RCV_SADDR), probe(sk, &kernel::SOCK_V6_DADDR)),
            _ => return None,
        };
        let is_mapped = local[0] | local[1] == 0 && local[2] == MAPPED;
        let family = if is_mapped { AF_INET } else { family };
        // `tcp_set_state` zeroes `inet_num` (the port is free again) before it reports that a connection is closed.
        let local_port = u16::from_be(probe(sk, &kernel::INET_SPORT));
        let remote_port = u16::from_be(probe(sk, &kernel::SOCK_DPORT));
        Some(Self { family, local, remote, local_port, remote_port })
    }
}
