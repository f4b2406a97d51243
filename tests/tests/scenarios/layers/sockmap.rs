//! Data that a sockmap takes from one socket to another.

use super::*;

/// A sockmap of two places whose program sends all to the second.
struct Redirect {
    map: OwnedFd,
    _program: OwnedFd,
}

/// bpf(2), a command with its attributes.
fn bpf<T>(command: i64, attributes: &T) -> u64 {
    // SAFETY: the kernel reads, and for these commands only reads, a live value of the given size.
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
    let sniffer = Sniffer::start(&alone);
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        let mut data = vec![0; SIZE];
        let mut stream = listener.accept().unwrap().0;
        stream.read_exact(&mut data).unwrap();
        parent.signal_ready();
        // Open until the proxy has closed: what a connection in TIME_WAIT sends is the kernel's.
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent: 0, received: SIZE as u64 }
    });
    let server_port = u16::try_from(server.wait_until_ready()).unwrap();
    let fin = FirstFin::new();
    let proxy = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        let from = listener.accept().unwrap().0;
        let to = TcpStream::connect(("127.0.0.1", server_port)).unwrap();
        let redirect = Redirect::new(BPF_PROG_TYPE_SK_SKB, Redirect::BPF_SK_SKB_STREAM_VERDICT, BPF_SK_REDIRECT_MAP, 0);
        redirect.put(0, &from);
        redirect.put(1, &to);
        parent.signal_ready();
        parent.wait_for_parent();
        // From here on the program reads itself: what was forwarded is not made up for.
        redirect.take(0);
        redirect.take(1);
        parent.signal_ready();
        // The last to close is never in TIME_WAIT.
        fin.answer(&from, |mut from| {
            from.read_exact(&mut [0; REST]).unwrap();
            assert_eq!(from.read(&mut [0]).unwrap(), 0);
        });
        Moved { sent: 0, received: REST as u64 }
    });
    let port = u16::try_from(proxy.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |parent| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        parent.wait_for_parent();
        stream.write_all(&vec![4; SIZE]).unwrap();
        parent.wait_for_parent();
        stream.write_all(&[5; REST]).unwrap();
        fin.send(&stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent: (SIZE + REST) as u64, received: 0 }
    });
    proxy.wait_until_ready();
    client.go();
    let pids = [server.pid(), proxy.pid(), client.pid()];
    server.wait_until_ready();
    proxy.go();
    proxy.wait_until_ready();
    client.go();
    let moved = [client.finish(), server.finish()];
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
    let [served, proxied] = [server_port, port].map(|port| sniffer.local(port));
    let proxy = Moved { sent: proxied.sent + served.received, received: proxied.received + served.sent };
    let rows = pids.map(|pid| wire(&document, pid));
    assert_eq!(rows, [served, proxy, proxied.reversed()], "{:#?}", document.rows);
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
        // Open until the other has closed: what comes to TIME_WAIT, and its answer, are the kernel's.
        to.shutdown(Shutdown::Write).unwrap();
        wait_until_acknowledged(&to);
        assert_eq!(from.read(&mut [0]).unwrap(), 0);
        drop(from);
        assert_eq!(to.read(&mut [0]).unwrap(), 0);
        Moved { sent: 50_010, received: 50_010 }
    });
    let document = nettopd.settled();
    let passed = alone.counters("lo");
    assert_app(&document, pid, moved);
    assert_eq!(wire(&document, pid), Moved { sent: passed.tx_bytes, received: passed.rx_bytes });
    assert!(passed.tx_bytes < 5000, "the data has passed lo");
}
