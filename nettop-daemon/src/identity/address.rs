//! Addresses as people write them.

use std::net::{IpAddr, Ipv6Addr};

use nettop_common::ports;

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
    /// `10.0.0.1`, or `fe80::1%eth0`: an address of one link means nothing without the link's device.
    pub fn scoped(self, device: Option<&str>) -> String {
        match device {
            Some(device) if self.is_of_link() => format!("{self}%{device}"),
            _ => self.to_string(),
        }
    }

    /// `10.0.0.1:80`, `[fd00::1]:80` or `[fe80::1%eth0]:80`.
    pub fn with_port(self, device: Option<&str>, port: u16) -> String {
        let address = self.scoped(device);
        if self.0.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }

    /// Whether it is known on one link only: fe80::/10, and multicast of that scope.
    pub const fn is_of_link(self) -> bool {
        match self.0 {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] & 0xff0f == 0xff02,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_people_write_it() {
        for text in ["10.0.0.1", "fd00::1"] {
            let address = Address(text.parse().unwrap());
            assert_eq!(Address::from(ports::Address::from(address)).to_string(), text);
        }
    }
}
