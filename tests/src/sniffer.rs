//! An independent count of what passes a device, by kind: a packet socket of our own.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use crate::Namespace;

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
    frames: Arc<Mutex<Frames>>,
}

const ETH_P_ALL_BE: u16 = 0x0003_u16.to_be();
const PACKET_OUTGOING: u8 = 4;

impl Sniffer {
    /// Listens to all devices of a namespace; scenarios have one that is not lo.
    pub fn start(namespace: &Namespace) -> Self {
        let socket = namespace.enter(|| {
            // SAFETY: a plain system call; the descriptor is ours.
            unsafe {
                let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETH_P_ALL_BE));
                assert!(fd >= 0, "packet sockets need root");
                OwnedFd::from_raw_fd(fd)
            }
        });
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20)).unwrap();
        let frames = Arc::new(Mutex::new(Frames::default()));
        let shared = Arc::downgrade(&frames);
        std::thread::spawn(move || sniff(&socket, &shared));
        Self { frames }
    }

    /// All frames until now.
    pub fn frames(&self) -> Frames {
        // What has passed the device is in the socket's queue; let the thread take it out.
        std::thread::sleep(Duration::from_millis(50));
        *self.frames.lock().unwrap()
    }
}

fn sniff(socket: &OwnedFd, shared: &Weak<Mutex<Frames>>) {
    let mut buffer = [0_u8; 128];
    loop {
        // SAFETY: zero is a valid address; the call fills at most what it is told to.
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
        let Ok(bytes) = u64::try_from(len) else {
            if shared.strong_count() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let Some(frames) = shared.upgrade() else { return };
        let mut frames = frames.lock().unwrap();
        let is_tx = address.sll_pkttype == PACKET_OUTGOING;
        let counter = match u16::from_be(address.sll_protocol) {
            0x0806 if is_tx => &mut frames.arp_tx_bytes,
            0x0806 => &mut frames.arp_rx_bytes,
            0x0800 if buffer[23] == 2 && is_tx => &mut frames.igmp_tx_bytes,
            0x0800 if buffer[23] == 2 => &mut frames.igmp_rx_bytes,
            // Next header of IPv6, or behind a hop-by-hop header as MLD has it.
            0x86dd if (buffer[20] == 58 || buffer[20] == 0) && is_tx => &mut frames.icmpv6_tx_bytes,
            0x86dd if buffer[20] == 58 || buffer[20] == 0 => &mut frames.icmpv6_rx_bytes,
            _ => continue,
        };
        *counter += bytes;
    }
}
