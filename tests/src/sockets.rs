//! Sockets and devices beyond what the standard library opens.

use std::{
    fs::File,
    io::Write as _,
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::net::if_::if_nametoindex;

use crate::wait_until;

/// Checks the result of a system call.
pub fn check(result: isize) -> u64 {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result.cast_unsigned() as u64
}

pub fn set_option<T>(fd: RawFd, level: i32, name: i32, value: &T) {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap();
    // SAFETY: the kernel reads `size` bytes of a live value.
    check(unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), size) } as isize);
}

/// Number of a socket, as `ss -e` shows it.
pub fn cookie(fd: RawFd) -> u64 {
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap();
    let into = (&raw mut cookie).cast();
    // SAFETY: the kernel writes at most `size` bytes into a live value.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, into, &raw mut size) } as isize);
    cookie
}

/// Sends from a device to an address of its link, by a packet socket that makes the frame.
pub fn send_frame(link: &OwnedFd, device: &str, to: [u8; 6], protocol: u16, packet: &[u8]) {
    // SAFETY: all zero is an address without a device.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = if_nametoindex(device).unwrap().cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to);
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap();
    let (bytes, address) = (packet.as_ptr().cast(), (&raw const address).cast());
    // SAFETY: the packet and the address live through the call.
    check(unsafe { libc::sendto(link.as_raw_fd(), bytes, packet.len(), 0, address, size) });
}

/// `TCP_INFO` of a connection.
pub fn tcp_info(stream: &TcpStream) -> libc::tcp_info {
    // SAFETY: all zeros are one.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).unwrap();
    let (fd, to) = (stream.as_raw_fd(), (&raw mut info).cast());
    // SAFETY: the kernel writes at most `len` bytes into `info`.
    check(unsafe { libc::getsockopt(fd, libc::SOL_TCP, libc::TCP_INFO, to, &raw mut len) } as isize);
    info
}

/// Waits until the other end has acknowledged all that was sent.
pub fn wait_until_acknowledged(stream: &impl AsRawFd) {
    wait_until("all that was sent is acknowledged", || {
        let mut queued: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which is TIOCOUTQ by number, writes one int.
        check(unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) } as isize);
        queued == 0
    });
}

/// Sends until a retransmission. Returns how much.
pub fn send_until_sent_again(stream: &mut TcpStream) -> u64 {
    const BLOCK: u64 = 1 << 20;
    let mut sent = 0;
    // Packets may be large and few, and all arrive.
    while sent < 64 * BLOCK && tcp_info(stream).tcpi_total_retrans == 0 {
        stream.write_all(&vec![1; BLOCK as usize]).unwrap();
        sent += BLOCK;
    }
    sent
}

/// A socket of any type and protocol.
pub fn socket(family: i32, kind: i32, protocol: i32) -> OwnedFd {
    // SAFETY: a plain system call; the descriptor is ours.
    unsafe {
        let fd = libc::socket(family, kind, protocol);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    }
}

/// A new tun device of the calling thread's namespace, as long as the file is open.
pub fn tun(name: &str) -> File {
    /// linux/if_tun.h.
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let tun = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: all zero is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
    // SAFETY: the request is a live ifreq, which is what TUNSETIFF takes.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw mut request) } as isize);
    tun
}
