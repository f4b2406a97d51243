//! What the kernel builds on sockets, or beside TCP and UDP: kTLS, sockmap, SCTP, UDP-Lite, its own servers.

mod sockmap;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nettop_tests::{
    FirstFin, Moved, Namespace, Nettopd, Process, Sniffer, app, assert_app, is_emulated,
    pairs::{check, finish, read_all, set_option, socket, tcp_pair},
    skip,
    sockets::wait_until_acknowledged,
    wire,
};
use nix::{
    errno::Errno,
    sys::socket::{Backlog, SockaddrIn, bind, connect, listen},
};

const SIZE: usize = 100_001;

/// Kprobes see TCP's stream and not what a layer makes of it: docs/coverage.md says so.
fn sees_layers() -> bool {
    backend().is_none_or(|backend| backend != "kprobe")
}

/// The back end that is forced.
fn backend() -> Option<String> {
    std::env::var("NETTOPD_BACKEND").ok()
}

/// Whether sockets of a protocol can be had.
fn has_protocol(kind: i32, protocol: i32) -> bool {
    // SAFETY: a plain system call; the descriptor is closed at once.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, protocol) };
    if fd >= 0 {
        // SAFETY: the descriptor is ours.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    fd >= 0
}

#[test]
fn udp_lite_is_counted() {
    if !has_protocol(libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) {
        return skip("no UDP-Lite");
    }
    let open = || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE);
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        UdpSocket::from(socket)
    };
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    let server = Process::start(Some(&alone), |parent| {
        let socket = open();
        parent.send_number(socket.local_addr().unwrap().port().into());
        Moved { sent: 0, received: (0..10).map(|_| socket.recv(&mut [0; 1000]).unwrap() as u64).sum() }
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |_| {
        let socket = open();
        let sent = (0..10).map(|_| socket.send_to(&[1; 333], ("127.0.0.1", port)).unwrap() as u64).sum();
        Moved { sent, received: 0 }
    });
    finish(&nettopd, &alone, [server, client], || sniffer.local(port));
}

#[test]
fn sctp_counts_what_programs_move() {
    const PORT: u16 = 5001;
    const WRITES: u64 = 200;
    if !has_protocol(libc::SOCK_STREAM, libc::IPPROTO_SCTP) {
        return skip("no SCTP");
    }
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    let server = Process::start(Some(&alone), |parent| {
        let listener = socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP);
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, PORT)).unwrap();
        listen(&listener, Backlog::new(5).unwrap()).unwrap();
        parent.signal_ready();
        read_all(TcpListener::from(listener).accept().unwrap().0)
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |_| {
        let stream = socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP);
        connect(stream.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, PORT)).unwrap();
        let mut stream = TcpStream::from(stream);
        for _ in 0..WRITES {
            stream.write_all(&[5; 1000]).unwrap();
        }
        Moved { sent: WRITES * 1000, received: 0 }
    });
    let pids = [server.pid(), client.pid()];
    let [served, moved] = [server, client].map(Process::finish);
    assert_eq!(served.received, moved.sent);
    let document = nettopd.settled();
    assert_app(&document, pids[1], moved);
    if sees_layers() {
        assert_app(&document, pids[0], served);
    }
    let passed = sniffer.local(PORT);
    assert_eq!(pids.map(|pid| wire(&document, pid)), [passed, passed.reversed()], "{:#?}", document.rows);
}

/// `struct tls12_crypto_info_aes_gcm_128`, linux/tls.h.
#[repr(C)]
struct Aes128 {
    version: u16,
    cipher: u16,
    iv: [u8; 8],
    key: [u8; 16],
    salt: [u8; 4],
    sequence: [u8; 8],
}

const AES_128: Aes128 =
    Aes128 { version: 0x0303, cipher: 51, iv: [1; 8], key: [2; 16], salt: [3; 4], sequence: [0; 8] };

/// Puts kTLS onto a connection, one way.
fn encrypt(fd: RawFd, direction: i32) {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls");
    set_option(fd, libc::SOL_TLS, direction, &AES_128);
}

fn has_tls() -> bool {
    let unconnected = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    // SAFETY: the kernel reads three bytes.
    unsafe { libc::setsockopt(unconnected.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, b"tls".as_ptr().cast(), 3) };
    Errno::last() != Errno::ENOENT
}

#[test]
fn ktls_counts_what_programs_move_and_not_its_records() {
    const TLS_TX: i32 = 1;
    const TLS_RX: i32 = 2;
    if !has_tls() {
        return skip("no kTLS");
    }
    if !sees_layers() {
        return skip("kprobes count records");
    }
    let take = |stream: TcpStream| {
        encrypt(stream.as_raw_fd(), TLS_RX);
        read_all(stream)
    };
    tcp_pair(take, |mut stream| {
        encrypt(stream.as_raw_fd(), TLS_TX);
        stream.write_all(&vec![9; SIZE]).unwrap();
        Moved { sent: SIZE as u64, received: 0 }
    });
}

#[test]
fn a_kernel_thread_that_serves_has_its_own_row() {
    // A server is the whole machine's.
    if !is_emulated() || !std::fs::read_to_string("/proc/filesystems").unwrap().contains("\tnfsd\n") {
        return skip("no NFS server, or no machine for it alone");
    }
    let nettopd = Nettopd::start(&[]);
    let sniffer = Sniffer::here();
    let control = tempfile::tempdir().unwrap();
    let none = None::<&str>;
    nix::mount::mount(Some("nfsd"), control.path(), Some("nfsd"), nix::mount::MsFlags::empty(), none).unwrap();
    let write = |file: &str, text: &str| std::fs::write(control.path().join(file), format!("{text}\n"));
    // Without a portmapper only version 4 can start.
    if let Err(error) = write("versions", "-3 +4").and_then(|()| write("threads", "1")) {
        return skip(&format!("the NFS server does not start: {error}"));
    }
    // RFC 5531: a call of procedure 0 of NFS 4, behind its length.
    let call: Vec<u8> =
        [0x8000_0028_u32, 7, 0, 2, 100_003, 4, 0, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut stream = TcpStream::connect("127.0.0.1:2049").unwrap();
    for _ in 0..10 {
        stream.write_all(&call).unwrap();
        stream.read_exact(&mut [0; 28]).unwrap();
    }
    let document = nettopd.settled();
    let [passed, asked] = [2049, 111].map(|port| sniffer.local(port));
    drop(stream);
    write("threads", "0").unwrap();
    nix::mount::umount(control.path()).unwrap();
    let rows = &document.rows;
    let row = rows.iter().find(|row| row.comm == "[nfsd]").unwrap_or_else(|| panic!("no such row: {rows:#?}"));
    assert_eq!(row.owner, "kernel", "{row:#?}");
    let pid = row.pid;
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or("nfsd\n".into()), "nfsd\n");
    assert_app(&document, pid, Moved { sent: 280, received: 440 });
    // The kernel's own sockets answered before a thread had the connection.
    let kernels = || rows.iter().filter(|row| row.owner == "kernel" && row.device.as_deref() == Some("lo"));
    let kernel = Moved {
        sent: kernels().map(|row| row.total.tx.bytes).sum(),
        received: kernels().map(|row| row.total.rx.bytes).sum(),
    };
    // It has asked for a portmapper, too, and itself answered: there is none.
    let both_ends = asked.sent + asked.received;
    let moved = Moved { sent: passed.sent + both_ends, received: passed.received + both_ends };
    assert_eq!(kernel, moved, "{rows:#?}");
    assert_eq!(wire(&document, std::process::id()), passed.reversed(), "{rows:#?}");
}
