//! An independent count of what passes the devices of a namespace: a packet socket of our own.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{Arc, Condvar, Mutex, Weak},
    time::Duration,
};

use nix::{errno::Errno, sys::socket::setsockopt};

use crate::{Moved, Namespace, sockets::set_option};

/// Frames of the kinds that no IP socket sees, with their link header.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Frames {
    pub arp_tx_bytes: u64,
    pub arp_rx_bytes: u64,
    pub icmpv6_tx_bytes: u64,
    pub icmpv6_rx_bytes: u64,
    pub igmp_tx_bytes: u64,
    pub igmp_rx_bytes: u64,
}

/// Counts until dropped.
pub struct Sniffer {
    socket: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    frames: Frames,
    /// IP bytes on the wire of TCP, UDP and their like, by port.
    by_source: HashMap<u16, Moved>,
    by_destination: HashMap<u16, Moved>,
    /// Frames that the kernel could not describe.
    unreadable: u64,
    /// How often the socket's queue was found empty.
    emptied: u64,
}

const ETH_P_ALL_BE: u16 = 0x0003_u16.to_be();
const PACKET_OUTGOING: u8 = 4;
/// `struct virtio_net_hdr`: it has the size of a super-packet's segments.
const VNET_HEADER: usize = 10;
const GSO_SIZE: usize = 4;
const LINK_HEADER: usize = 14;

impl Sniffer {
    /// Listens to all devices of a namespace; scenarios have one that is not lo, or lo alone.
    pub fn start(namespace: &Namespace) -> Self {
        namespace.enter(Self::here)
    }

    /// The same for the namespace that the caller is in.
    pub fn here() -> Self {
        const PACKET_VNET_HDR: i32 = 15;
        // SAFETY: a plain system call; the descriptor is ours.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETH_P_ALL_BE));
            assert!(fd >= 0, "packet sockets need root");
            OwnedFd::from_raw_fd(fd)
        };
        // Before the first frame is there, or its header would be missing.
        set_option(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, &1_i32);
        setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20)).unwrap();
        let socket = Arc::new(socket);
        let shared = Arc::new(Shared::default());
        let (theirs, weak) = (Arc::clone(&socket), Arc::downgrade(&shared));
        std::thread::spawn(move || sniff(&theirs, &weak));
        Self { socket, shared }
    }

    /// All frames until now.
    pub fn frames(&self) -> Frames {
        self.all(|seen| seen.frames)
    }

    /// IP bytes on the wire to and from a port on this side. A super-packet counts as its segments.
    pub fn local(&self, port: u16) -> Moved {
        self.sides(port, |seen| (&seen.by_source, &seen.by_destination))
    }

    /// The same for a port on the other side.
    pub fn remote(&self, port: u16) -> Moved {
        self.sides(port, |seen| (&seen.by_destination, &seen.by_source))
    }

    fn sides(&self, port: u16, maps: impl Fn(&Seen) -> (&HashMap<u16, Moved>, &HashMap<u16, Moved>)) -> Moved {
        let (moved, unreadable) = self.all(|seen| {
            let (sending, receiving) = maps(seen);
            let of = |map: &HashMap<u16, Moved>| map.get(&port).copied().unwrap_or_default();
            (Moved { sent: of(sending).sent, received: of(receiving).received }, seen.unreadable)
        });
        assert_eq!(unreadable, 0, "frames could not be read");
        assert_eq!(self.dropped(), 0, "the sniffer was too slow");
        moved
    }

    /// Asks once everything up to now is counted.
    fn all<T>(&self, ask: impl FnOnce(&Seen) -> T) -> T {
        let seen = self.shared.seen.lock().unwrap();
        // The next report may be of a check that began before the call.
        let enough = seen.emptied + 2;
        ask(&self.shared.changed.wait_while(seen, |seen| seen.emptied < enough).unwrap())
    }

    fn dropped(&self) -> u32 {
        const PACKET_STATISTICS: i32 = 6;
        let mut packets_and_drops = [0_u32; 2];
        let mut size = libc::socklen_t::try_from(size_of_val(&packets_and_drops)).unwrap();
        let (fd, into) = (self.socket.as_raw_fd(), packets_and_drops.as_mut_ptr().cast());
        // SAFETY: the kernel writes at most `size` bytes into a live value.
        let result = unsafe { libc::getsockopt(fd, libc::SOL_PACKET, PACKET_STATISTICS, into, &raw mut size) };
        assert_eq!(result, 0);
        packets_and_drops[1]
    }
}

fn sniff(socket: &OwnedFd, shared: &Weak<Shared>) {
    let mut buffer = [0_u8; VNET_HEADER + 128];
    loop {
        // SAFETY: zero is a valid address; the call fills at most the lengths given.
        let (len, address) = unsafe {
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            let mut address_len = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
            let len = libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
                (&raw mut address).cast(),
                &raw mut address_len,
            );
            (len, address)
        };
        let error = Errno::last();
        let Some(shared) = shared.upgrade() else { return };
        let mut seen = shared.seen.lock().unwrap();
        if let Ok(len) = usize::try_from(len) {
            let (header, frame) = buffer.split_at(VNET_HEADER);
            let gso_size = u16::from_ne_bytes([header[GSO_SIZE], header[GSO_SIZE + 1]]);
            seen.add(frame, len - VNET_HEADER, gso_size.into(), &address);
        } else if error == Errno::EAGAIN {
            seen.emptied += 1;
            shared.changed.notify_all();
            drop(seen);
            std::thread::sleep(Duration::from_millis(1));
        } else {
            seen.unreadable += 1;
        }
    }
}

impl Seen {
    /// A frame of which the beginning is there.
    fn add(&mut self, frame: &[u8], len: usize, gso_size: usize, address: &libc::sockaddr_ll) {
        const ARP: u16 = 0x0806;
        const IPV4: u16 = 0x0800;
        const IPV6: u16 = 0x86dd;
        const IGMP: u8 = 2;
        const ICMPV6: u8 = 58;
        /// As MLD has it.
        const HOP_BY_HOP: u8 = 0;
        let is_tx = address.sll_pkttype == PACKET_OUTGOING;
        let kind = u16::from_be(address.sll_protocol);
        let (ip_header, protocol) = match kind {
            IPV4 => (usize::from(frame[LINK_HEADER] & 0x0f) * 4, frame[LINK_HEADER + 9]),
            IPV6 => (40, frame[LINK_HEADER + 6]),
            _ => (0, 0),
        };
        let frames = &mut self.frames;
        let counter = match (kind, protocol) {
            (ARP, _) if is_tx => &mut frames.arp_tx_bytes,
            (ARP, _) => &mut frames.arp_rx_bytes,
            (IPV4, IGMP) if is_tx => &mut frames.igmp_tx_bytes,
            (IPV4, IGMP) => &mut frames.igmp_rx_bytes,
            (IPV6, ICMPV6 | HOP_BY_HOP) if is_tx => &mut frames.icmpv6_tx_bytes,
            (IPV6, ICMPV6 | HOP_BY_HOP) => &mut frames.icmpv6_rx_bytes,
            (IPV4 | IPV6, _) => return self.add_transport(frame, len, gso_size, (ip_header, protocol), is_tx),
            _ => return,
        };
        *counter += len as u64;
    }

    /// A packet whose transport header begins with two ports.
    fn add_transport(&mut self, frame: &[u8], len: usize, gso_size: usize, ip: (usize, u8), is_tx: bool) {
        const TCP: u8 = 6;
        const OTHERS: [u8; 3] = [17, 132, 136];
        let (ip_header, protocol) = ip;
        let transport = &frame[LINK_HEADER + ip_header..];
        let header = match protocol {
            TCP => ip_header + usize::from(transport[12] >> 4) * 4,
            _ if OTHERS.contains(&protocol) => ip_header + 8,
            _ => return,
        };
        let bytes = len - LINK_HEADER;
        let repeats = (bytes - header).saturating_sub(1).checked_div(gso_size).unwrap_or(0);
        let bytes = (bytes + repeats * header) as u64;
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        for (map, port) in [(&mut self.by_source, port(0)), (&mut self.by_destination, port(2))] {
            let moved = map.entry(port).or_default();
            if is_tx {
                moved.sent += bytes;
            } else {
                moved.received += bytes;
            }
        }
    }
}
