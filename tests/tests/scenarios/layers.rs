//! What the kernel builds on sockets, or beside TCP and UDP: kTLS, sockmap, SCTP, UDP-Lite, its own servers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, app, assert_app,
    pairs::{check, finish, read_all, set_option, socket, tcp_pair},
    skip, wire,
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
    const IPPROTO_UDPLITE: i32 = 136;
    if !has_protocol(libc::SOCK_DGRAM, IPPROTO_UDPLITE) {
        return skip("no UDP-Lite");
    }
    let open = || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, IPPROTO_UDPLITE);
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        UdpSocket::from(socket)
    };
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let socket = open();
        parent.tell_number(socket.local_addr().unwrap().port().into());
        Moved { sent: 0, received: (0..10).map(|_| socket.recv(&mut [0; 1000]).unwrap() as u64).sum() }
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |_| {
        let socket = open();
        let sent = (0..10).map(|_| socket.send_to(&[1; 333], ("127.0.0.1", port)).unwrap() as u64).sum();
        Moved { sent, received: 0 }
    });
    finish(&nettopd, &alone, [server, client]);
}

#[test]
fn sctp_counts_what_programs_move() {
    const IPPROTO_SCTP: i32 = 132;
    if !has_protocol(libc::SOCK_STREAM, IPPROTO_SCTP) {
        return skip("no SCTP");
    }
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SCTP);
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5001)).unwrap();
        listen(&listener, Backlog::new(5).unwrap()).unwrap();
        parent.tell();
        read_all(TcpListener::from(listener).accept().unwrap().0)
    });
    server.wait_until_ready();
    let (pid, moved) = Process::run(Some(&alone), |_| {
        let stream = socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SCTP);
        connect(stream.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5001)).unwrap();
        let mut stream = TcpStream::from(stream);
        for _ in 0..20 {
            stream.write_all(&[5; 1000]).unwrap();
        }
        Moved { sent: 20_000, received: 0 }
    });
    let server_pid = server.pid();
    let served = server.finish();
    assert_eq!(served.received, 20_000);
    let document = nettopd.settled();
    assert_app(&document, pid, moved);
    assert!(wire(&document, pid).sent > 20_000, "{:#}", document["rows"]);
    if sees_layers() {
        assert_app(&document, server_pid, served);
    }
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
    const SOL_TLS: i32 = 282;
    const TCP_ULP: i32 = 31;
    set_option(fd, libc::IPPROTO_TCP, TCP_ULP, b"tls");
    set_option(fd, SOL_TLS, direction, &AES_128);
}

fn has_tls() -> bool {
    const TCP_ULP: i32 = 31;
    let unconnected = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    // SAFETY: the kernel reads three bytes.
    unsafe { libc::setsockopt(unconnected.as_raw_fd(), libc::IPPROTO_TCP, TCP_ULP, b"tls".as_ptr().cast(), 3) };
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

/// A sockmap of two places whose program sends all to the second.
struct Redirect {
    map: OwnedFd,
    _program: OwnedFd,
}

/// bpf(2), of a command whose attributes are `attributes`.
fn bpf<T>(command: i64, attributes: &T) -> u64 {
    // SAFETY: the kernel reads, and for these commands only reads, a live value of the size it is told.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) } as isize)
}

fn descriptor(fd: u64) -> OwnedFd {
    // SAFETY: a descriptor that bpf(2) has just returned.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap()) }
}

impl Redirect {
    const BPF_SK_SKB_STREAM_VERDICT: u32 = 5;
    const BPF_SK_MSG_VERDICT: u32 = 7;

    /// `helper` is `bpf_sk_redirect_map` or `bpf_msg_redirect_map`.
    fn new(program_type: u32, attach_type: u32, helper: u64, flags: u64) -> Self {
        const BPF_MAP_CREATE: i64 = 0;
        const BPF_PROG_LOAD: i64 = 5;
        const BPF_PROG_ATTACH: i64 = 8;
        const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
        #[repr(C)]
        struct Load {
            program_type: u32,
            len: u32,
            instructions: u64,
            license: u64,
            log: [u32; 4],
            version_and_flags: [u32; 2],
            name: [u8; 16],
            ifindex: u32,
            attach_type: u32,
        }
        let map = descriptor(bpf(BPF_MAP_CREATE, &[BPF_MAP_TYPE_SOCKMAP, 4, 4, 2]));
        let instruction =
            |code: u64, register: u64, source: u64, value: u64| code | register << 8 | source << 12 | value << 32;
        let fd = u64::try_from(map.as_raw_fd()).unwrap();
        let instructions = [
            // r2 = map; r3 = 1; r4 = flags; call helper; exit.
            instruction(0x18, 2, 1, fd),
            0,
            instruction(0xb7, 3, 0, 1),
            instruction(0xb7, 4, 0, flags),
            instruction(0x85, 0, 0, helper),
            instruction(0x95, 0, 0, 0),
        ];
        let load = Load {
            program_type,
            len: u32::try_from(instructions.len()).unwrap(),
            instructions: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log: [0; 4],
            version_and_flags: [0; 2],
            name: [0; 16],
            ifindex: 0,
            attach_type,
        };
        let program = descriptor(bpf(BPF_PROG_LOAD, &load));
        let [map_fd, program_fd] = [&map, &program].map(|fd| u32::try_from(fd.as_raw_fd()).unwrap());
        bpf(BPF_PROG_ATTACH, &[map_fd, program_fd, attach_type, 0]);
        Self { map, _program: program }
    }

    fn take(&self, place: u32) {
        const BPF_MAP_DELETE_ELEM: i64 = 3;
        let map = u64::try_from(self.map.as_raw_fd()).unwrap();
        bpf(BPF_MAP_DELETE_ELEM, &[map, &raw const place as u64]);
    }

    fn put(&self, place: u32, stream: &TcpStream) {
        const BPF_MAP_UPDATE_ELEM: i64 = 2;
        let value = u32::try_from(stream.as_fd().as_raw_fd()).unwrap();
        let map = u64::try_from(self.map.as_raw_fd()).unwrap();
        bpf(BPF_MAP_UPDATE_ELEM, &[map, &raw const place as u64, &raw const value as u64, 0]);
    }
}

#[test]
fn what_a_sockmap_forwards_is_the_proxys_on_the_wire_and_not_in_the_program() {
    const BPF_PROG_TYPE_SK_SKB: u32 = 14;
    const BPF_SK_REDIRECT_MAP: u64 = 52;
    const REST: usize = 777;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.tell_number(listener.local_addr().unwrap().port().into());
        let mut data = vec![0; SIZE];
        listener.accept().unwrap().0.read_exact(&mut data).unwrap();
        Moved { sent: 0, received: SIZE as u64 }
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let proxy = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.tell_number(listener.local_addr().unwrap().port().into());
        let from = listener.accept().unwrap().0;
        let to = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let redirect = Redirect::new(BPF_PROG_TYPE_SK_SKB, Redirect::BPF_SK_SKB_STREAM_VERDICT, BPF_SK_REDIRECT_MAP, 0);
        redirect.put(0, &from);
        redirect.put(1, &to);
        parent.tell();
        parent.wait_for_parent();
        // From here on the program reads itself: what was forwarded is not made up for.
        redirect.take(0);
        redirect.take(1);
        parent.tell();
        let mut rest = [0; REST];
        (&from).read_exact(&mut rest).unwrap();
        Moved { sent: 0, received: REST as u64 }
    });
    let port = u16::try_from(proxy.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |parent| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        parent.wait_for_parent();
        stream.write_all(&vec![4; SIZE]).unwrap();
        parent.wait_for_parent();
        stream.write_all(&[5; REST]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        Moved { sent: (SIZE + REST) as u64, received: 0 }
    });
    proxy.wait_until_ready();
    client.go();
    let pids = [server.pid(), proxy.pid(), client.pid()];
    let served = server.finish();
    proxy.go();
    proxy.wait_until_ready();
    client.go();
    let moved = [client.finish(), served];
    let proxied = proxy.finish();
    let document = nettopd.settled();
    assert_app(&document, pids[0], moved[1]);
    if backend().is_none_or(|backend| backend == "tracepoint") {
        assert_app(&document, pids[1], proxied);
    } else {
        // The others do not see sockmap take the data, but only that it is gone: docs/coverage.md says so.
        assert_eq!(app(&document, pids[1]).received, proxied.received + SIZE as u64);
    }
    assert_app(&document, pids[2], moved[0]);
    let passed = wire(&document, pids[1]);
    assert!(passed.received > SIZE as u64 && passed.sent > SIZE as u64, "{passed:?}");
}

#[test]
fn what_a_sockmap_hands_over_inside_the_machine_is_sent_and_received() {
    const BPF_PROG_TYPE_SK_MSG: u32 = 16;
    const BPF_MSG_REDIRECT_MAP: u64 = 60;
    const BPF_F_INGRESS: u64 = 1;
    if !sees_layers() {
        return skip("kprobes see TCP only");
    }
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let (pid, moved) = Process::run(Some(&alone), |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut to = listener.accept().unwrap().0;
        let redirect =
            Redirect::new(BPF_PROG_TYPE_SK_MSG, Redirect::BPF_SK_MSG_VERDICT, BPF_MSG_REDIRECT_MAP, BPF_F_INGRESS);
        redirect.put(0, &from);
        redirect.put(1, &to);
        for _ in 0..10 {
            from.write_all(&[6; 5001]).unwrap();
            to.read_exact(&mut [0; 5001]).unwrap();
        }
        Moved { sent: 50_010, received: 50_010 }
    });
    let document = nettopd.settled();
    assert_app(&document, pid, moved);
    assert!(wire(&document, pid).sent < 5000, "the data has not passed lo");
}

#[test]
fn a_kernel_thread_that_serves_has_its_own_row() {
    // A server is the whole machine's.
    let is_alone = std::env::var_os("NETTOP_VM").is_some();
    if !is_alone || !std::fs::read_to_string("/proc/filesystems").unwrap().contains("\tnfsd\n") {
        return skip("no NFS server, or no machine for it alone");
    }
    let nettopd = Nettopd::start(&[]);
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
    drop(stream);
    write("threads", "0").unwrap();
    nix::mount::umount(control.path()).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["comm"] == "[nfsd]").unwrap_or_else(|| panic!("no such row: {rows:#?}"));
    assert_eq!(row["owner"], "kernel", "{row:#}");
    let pid = u32::try_from(row["pid"].as_u64().unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or("nfsd\n".into()), "nfsd\n");
    assert_eq!(app(&document, pid), Moved { sent: 280, received: 440 }, "{row:#}");
}
