//! Two processes that talk over lo and know what they moved, and sockets beyond what the standard library opens.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::Arc,
};

use nettop_model::Snapshot;

use crate::{Moved, Namespace, Nettopd, Process, Sniffer, assert_app, device, ways, wire};

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

/// Every packet of lo was billed to somebody.
pub fn assert_balanced(document: &Snapshot, namespace: &Namespace) {
    let books = device(document, namespace.inode(), "lo");
    for (way, side) in ways(books) {
        assert_eq!(side.unattributed_bytes, 0, "{way}: {books:#?} {:#?}", document.rows);
        assert_eq!(side.unattributed_packets, 0, "{way}: {books:#?}");
    }
}

/// Two processes joined by TCP over lo: nettopd must report what each moved.
pub fn tcp_pair(server: impl FnOnce(TcpStream) -> Moved, client: impl FnOnce(&TcpStream) -> Moved) {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        server(listener.accept().unwrap().0)
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), move |_| {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let moved = client(&stream);
        // Closed after the server: what a connection in TIME_WAIT sends is the kernel's.
        stream.set_nonblocking(false).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        moved
    });
    finish(&nettopd, &alone, [server, client], || sniffer.local(port));
}

/// The same by UDP; the client's socket is connected.
pub fn udp_pair(server: impl FnOnce(UdpSocket) -> Moved, client: impl FnOnce(UdpSocket) -> Moved) {
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    udp_pair_in(&alone, server, client, |port| sniffer.local(port));
}

/// The same; the caller gives what the server has on the wire.
pub fn udp_pair_in(
    alone: &Namespace,
    server: impl FnOnce(UdpSocket) -> Moved,
    client: impl FnOnce(UdpSocket) -> Moved,
    passed: impl FnOnce(u16) -> Moved,
) {
    let nettopd = Nettopd::start(&[]);
    let server = Process::start(Some(alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        parent.send_number(socket.local_addr().unwrap().port().into());
        server(socket)
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(alone), move |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        client(socket)
    });
    finish(&nettopd, alone, [server, client], || passed(port));
}

/// Waits for both, which talk over lo. Compares nettopd with what they moved and what of the first `passed`: what one sent
/// the other received.
pub fn finish(nettopd: &Nettopd, namespace: &Namespace, processes: [Process; 2], passed: impl FnOnce() -> Moved) {
    let (document, pids) = finish_at(nettopd, processes);
    let passed = passed();
    assert!(passed.sent + passed.received > 0, "a scenario that moves nothing proves nothing");
    assert_eq!(pids.map(|pid| wire(&document, pid)), [passed, passed.reversed()], "{:#?}", document.rows);
    assert_balanced(&document, namespace);
}

/// Waits for both and compares nettopd with what they moved. Returns its document and their pids.
pub fn finish_at(nettopd: &Nettopd, processes: [Process; 2]) -> (Arc<Snapshot>, [u32; 2]) {
    let pids = processes.each_ref().map(Process::pid);
    let moved = processes.map(Process::finish);
    let document = nettopd.settled();
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert!(moved != Moved::default(), "a scenario that moves nothing proves nothing");
        assert_app(&document, pid, moved);
    }
    (document, pids)
}

pub fn read_all(mut stream: TcpStream) -> Moved {
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return Moved { sent: 0, received },
            n => received += n as u64,
        }
    }
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
