//! A daemon that decides about packets (NFQUEUE), as firewalls in user space are.

use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::{Namespace, Parent, sockets::check};

const NETLINK_NETFILTER: i32 = 12;
/// Messages of linux/netfilter/nfnetlink_queue.h, of subsystem 3.
const NFQNL_MSG_CONFIG: u16 = 3 << 8 | 2;
const NFQNL_MSG_VERDICT: u16 = 3 << 8 | 1;
const NFQNL_MSG_PACKET: u16 = 3 << 8;
const HEADER: usize = 20;

/// Has every IPv4 packet that leaves a namespace wait for a verdict. `false` if the kernel has no such queue.
pub fn queue_output(namespace: &Namespace) -> bool {
    let tried = |program: &str, args: &str| {
        let mut command = std::process::Command::new(program);
        command.args(args.split_whitespace()).stderr(std::process::Stdio::null());
        namespace.inside(command).status().is_ok_and(|status| status.success())
    };
    tried("nft", "add table ip q")
        && tried("nft", "add chain ip q c { type filter hook output priority 0 ; }")
        && tried("nft", "add rule ip q c queue num 0")
        // Where nftables has no such expression, the older way.
        || tried("iptables", "-A OUTPUT -j NFQUEUE --queue-num 0")
}

/// Lets every packet of queue 0 pass, forever. Signals that it is ready.
pub fn let_all_pass(parent: &Parent) -> ! {
    let socket = crate::sockets::socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER);
    crate::sockets::set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16_i32 << 20));
    // Bind; then copy nothing of the packets but what is known about them.
    send(&socket, NFQNL_MSG_CONFIG, 1, &[1, 0, 0, 0]);
    send(&socket, NFQNL_MSG_CONFIG, 2, &[0, 0, 0, 0, 1]);
    parent.signal_ready();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let into = buffer.as_mut_ptr().cast();
        // SAFETY: the kernel writes no more than the buffer holds.
        let received = check(unsafe { libc::recv(socket.as_raw_fd(), into, buffer.len(), 0) });
        let mut message = &buffer[..usize::try_from(received).unwrap()];
        while message.len() > HEADER {
            let len = u32::from_ne_bytes(message[..4].try_into().unwrap()) as usize;
            if u16::from_ne_bytes(message[4..6].try_into().unwrap()) == NFQNL_MSG_PACKET {
                // The first attribute begins with the packet's number.
                let verdict = [&1_u32.to_be_bytes()[..], &message[HEADER + 4..HEADER + 8]].concat();
                send(&socket, NFQNL_MSG_VERDICT, 2, &verdict);
            }
            message = &message[len.next_multiple_of(4).min(message.len())..];
        }
    }
}

/// Sends a message about queue 0 with one attribute.
fn send(socket: &OwnedFd, kind: u16, attribute: u16, value: &[u8]) {
    const NLM_F_REQUEST: u16 = 1;
    let value_len = u16::try_from(4 + value.len()).unwrap();
    let mut message = vec![0; 4];
    message.extend([kind.to_ne_bytes(), NLM_F_REQUEST.to_ne_bytes()].concat());
    // Number and sender, family and version, number of the queue.
    message.extend([0; 12]);
    message.extend([value_len.to_ne_bytes(), attribute.to_ne_bytes()].concat());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let len = u32::try_from(message.len()).unwrap().to_ne_bytes();
    message[..4].copy_from_slice(&len);
    // SAFETY: the kernel reads the message.
    check(unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) });
}
