//! The owner of a packet that somebody else lets pass, that others send through the same socket, that the kernel sends
//! later, or that is refused after it was counted.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nettop_model::Snapshot;
use nettop_tests::{
    FirstFin, Moved, Namespace, Nettopd, Process, amount, app, assert_app,
    cgroup::Cgroup,
    device, directions, egress,
    pairs::{assert_balanced, read_all},
    queue, rows_of, skip, wire,
};

/// A datagram of `size` bytes over IPv4.
const fn datagram(size: u64) -> u64 {
    size + 28
}

/// Runs and does nothing: what interrupts it is not its own.
fn spinner(namespace: &Namespace) -> Process {
    let spinner = Process::start(Some(namespace), |parent| {
        parent.signal_ready();
        // SAFETY: a plain system call.
        while unsafe { libc::getppid() } != 1 {
            std::hint::spin_loop();
        }
        Moved::default()
    });
    spinner.wait_until_ready();
    spinner
}

#[test]
fn what_a_queue_lets_pass_is_its_senders_and_not_the_daemons() {
    const SIZE: u64 = 1000;
    const UPLOAD: usize = 20 << 20;
    let datagrams = amount(300, 100);
    let upload = usize::try_from(amount(UPLOAD as u64, UPLOAD as u64 / 10)).unwrap();
    let alone = Namespace::new();
    if !queue::queue_output(&alone) {
        return skip("no NFQUEUE");
    }
    let nettopd = Nettopd::start(&[]);
    let daemon = Process::start(Some(&alone), |parent| queue::let_all_pass(parent));
    daemon.wait_until_ready();
    let echo = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:7000").unwrap();
        parent.signal_ready();
        let mut buffer = [0; 2000];
        for _ in 0..datagrams {
            let (size, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..size / 2], from).unwrap();
        }
        Moved { sent: datagrams * SIZE / 2, received: datagrams * SIZE }
    });
    echo.wait_until_ready();
    let asker = Process::start(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..datagrams {
            socket.send_to(&[1; SIZE as usize], "127.0.0.1:7000").unwrap();
            socket.recv(&mut [0; 2000]).unwrap();
        }
        Moved { sent: datagrams * SIZE, received: datagrams * SIZE / 2 }
    });
    let [asked, answered] = [asker.pid(), echo.pid()];
    let moved = [asker.finish(), echo.finish()];
    let document = nettopd.settled();
    let questions = datagrams * datagram(SIZE);
    let answers = datagrams * datagram(SIZE / 2);
    assert_eq!(wire(&document, asked), Moved { sent: questions, received: answers }, "{:#?}", document.rows);
    assert_eq!(wire(&document, answered), Moved { sent: answers, received: questions });
    assert_app(&document, asked, moved[0]);
    assert_app(&document, answered, moved[1]);

    let fin = FirstFin::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        fin.answer(listener.accept().unwrap().0, read_all)
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&vec![1; upload]).unwrap();
        // Closed after the server: what a connection in TIME_WAIT sends is the kernel's.
        fin.send(&stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent: upload as u64, received: 0 }
    });
    let [from, to] = [client.pid(), server.pid()];
    let moved = [client.finish(), server.finish()];
    let document = nettopd.settled();
    let (sent, received) = (wire(&document, from), wire(&document, to));
    assert_eq!((sent.sent, sent.received), (received.received, received.sent), "{:#?}", document.rows);
    assert!(sent.sent > upload as u64, "{sent:?}");
    assert_app(&document, from, moved[0]);
    assert_app(&document, to, moved[1]);
    assert!(rows_of(&document, daemon.pid()).is_empty(), "{:#?}", rows_of(&document, daemon.pid()));
    assert_balanced(&document, &alone);
}

#[test]
fn two_that_send_through_one_socket_at_a_time_are_billed_for_what_each_sent() {
    let datagrams = amount(20_000, 2000);
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    // Nobody listens: an answer would stop the senders.
    alone.run("nft", "add table ip t");
    alone.run("nft", "add chain ip t c { type filter hook input priority 0 ; }");
    alone.run("nft", "add rule ip t c udp dport 7000 drop");
    let socket = alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let senders = [100, 333].map(|size| {
        let socket = &socket;
        let sender = Process::start(Some(&alone), move |parent| {
            parent.signal_ready();
            parent.wait_for_parent();
            let data = vec![0; size];
            for _ in 0..datagrams {
                socket.send_to(&data, "127.0.0.1:7000").unwrap();
            }
            Moved { sent: datagrams * size as u64, received: 0 }
        });
        sender.wait_until_ready();
        sender
    });
    for sender in &senders {
        sender.go();
    }
    let pids = senders.each_ref().map(Process::pid);
    let moved = senders.map(Process::finish);
    let document = nettopd.settled();
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert_app(&document, pid, moved);
        assert_eq!(wire(&document, pid).sent, moved.sent + 28 * datagrams, "of process {pid}: {moved:?}");
    }
}

#[test]
fn sctp_is_its_ends_and_nothing_of_who_was_interrupted() {
    use nix::sys::socket::{Backlog, SockaddrIn, bind, connect, listen};
    use std::os::fd::AsRawFd as _;
    const SIZE: usize = 200_000;
    // SAFETY: a plain system call; the descriptor lives as long as the process.
    if unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP) } < 0 {
        return skip("no SCTP");
    }
    let open = || nettop_tests::pairs::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP);
    let address = SockaddrIn::new(127, 0, 0, 1, 5001);
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let spinners = [spinner(&alone), spinner(&alone)];
    let server = Process::start(Some(&alone), |parent| {
        let listener = open();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(5).unwrap()).unwrap();
        parent.signal_ready();
        let moved = read_all(TcpListener::from(listener).accept().unwrap().0);
        parent.signal_ready();
        parent.wait_for_parent();
        moved
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |parent| {
        let stream = open();
        connect(stream.as_raw_fd(), &address).unwrap();
        let mut stream = TcpStream::from(stream);
        for _ in 0..SIZE / 1000 {
            stream.write_all(&[5; 1000]).unwrap();
        }
        drop(stream);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved { sent: SIZE as u64, received: 0 }
    });
    client.wait_until_ready();
    server.wait_until_ready();
    let document = nettopd.settled();
    for spinner in &spinners {
        let rows = rows_of(&document, spinner.pid());
        assert!(rows.is_empty(), "{rows:#?}");
    }
    let (from, to) = (wire(&document, client.pid()), wire(&document, server.pid()));
    let balance = device(&document, alone.inode(), "lo");
    let rows = &document.rows;
    assert!(from.sent > SIZE as u64 && to.received > SIZE as u64, "{from:?} {to:?} {balance:#?} {rows:#?}");
    for ((direction, side), ends) in
        directions(balance).into_iter().zip([from.sent + to.sent, from.received + to.received])
    {
        // The rest is the kernel's, which sends for an association that has ended.
        assert_eq!(side.attributed_bytes, ends, "{direction}: {from:?} {to:?} {balance:#?} {rows:#?}");
        let others = side.bytes - ends;
        assert!(others < 200, "{direction}: {from:?} {to:?} {balance:#?} {rows:#?}");
    }
    assert_balanced(&document, &alone);
    drop(server);
    drop(client);
}

#[test]
fn what_is_refused_after_it_was_counted_is_not_sent() {
    const REFUSED: u64 = 200;
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = nettop_tests::veth_pair();
    // A reading may fall between a packet's count and its refusal: what it showed stays until as much more of its IP version
    // is sent.
    let early = amount(0, 2 * datagram(514) + 20);
    if early > 0 {
        nettopd.allow_negative_rest(&a, "v0", "a packet that was reported too early");
    }
    let cgroup = Cgroup::new("refused");
    a.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    a.ip("neigh add fd00::2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    let sender = Process::start(Some(&a), |parent| {
        cgroup.enter();
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let send = |size: usize| {
            ["[::ffff:10.0.0.2]:7000", "[fd00::2]:7000"].map(|to| socket.send_to(&vec![0; size], to).is_ok())
        };
        assert_eq!(send(100), [true, true]);
        let refusing = egress::refuse(&cgroup);
        for _ in 0..REFUSED {
            assert_eq!(send(514), [false, false]);
        }
        // In fragments, which are made after the hook.
        assert_eq!(send(4000), [false, false]);
        // A SYN, of which the caller does not learn.
        let listener = SocketAddr::from(([10, 0, 0, 2], 7000));
        assert!(TcpStream::connect_timeout(&listener, Duration::from_millis(300)).is_err());
        parent.signal_ready();
        parent.wait_for_parent();
        drop(refusing);
        assert_eq!(send(700), [true, true]);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    sender.wait_until_ready();
    let of = |document: &Snapshot| {
        let balance = device(document, a.inode(), "v0");
        let ethernet = amount(0, 14);
        assert!(balance.tx.pending_bytes <= early + ethernet, "{balance:#?}");
        (wire(document, sender.pid()).sent, app(document, sender.pid()).sent)
    };
    let both = |size| datagram(size) + datagram(size) + 20;
    let (sent, app_sent) = of(&nettopd.settled());
    let too_early = if early > 0 { vec![0, datagram(514), datagram(514) + 20, early] } else { vec![0] };
    assert!(too_early.iter().any(|early| sent == both(100) + early) && app_sent == 200, "{sent} {app_sent}");
    sender.go();
    sender.wait_until_ready();
    assert_eq!(of(&nettopd.settled()), (both(100) + both(700), 1600));
    drop(sender);
}

#[test]
fn what_the_kernel_answers_is_counted_in_the_namespace_it_was_asked_in() {
    use nix::{
        sched::{CpuSet, sched_setaffinity},
        unistd::Pid,
    };
    let nettopd = Nettopd::start(&[]);
    let namespaces = [Namespace::new(), Namespace::new()];
    for namespace in &namespaces {
        Process::run(Some(namespace), |_| {
            // The kernel has a socket for its answers on each CPU, and answers where it was asked.
            let mut cpu = CpuSet::new();
            cpu.set(0).unwrap();
            sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for size in 1..10 {
                socket.send_to(&vec![0; size], "127.0.0.1:1").unwrap();
            }
            TcpStream::connect("127.0.0.1:1").unwrap_err();
            Moved::default()
        });
    }
    let document = nettopd.settled();
    // What comes back are errors, which the kernel takes itself.
    for namespace in &namespaces {
        let sent = &device(&document, namespace.inode(), "lo").tx;
        assert_eq!(sent.unattributed_bytes, 0, "{sent:#?} {:#?}", document.rows);
    }
}
