//! Sockets and ports that several processes use.

use super::*;
use nettop_tests::{pairs::finish_at, sockets::wait_until_acknowledged};

#[test]
fn prefork_workers_on_one_listener_are_billed_for_what_each_took() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let listener = alone.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let workers: Vec<Process> = (0..4).map(|_| Process::start(Some(&alone), |_| echo_one(&listener))).collect();
    for size in [10, 200, 3000, 40_000] {
        visit(&alone, port, size);
    }
    let pids: Vec<u32> = workers.iter().map(Process::pid).collect();
    let moved: Vec<Moved> = workers.into_iter().map(Process::finish).collect();
    let document = nettopd.settled();
    for (pid, moved) in pids.into_iter().zip(moved) {
        assert_app(&document, pid, moved);
    }
}

#[test]
fn workers_that_share_a_port_are_billed_for_what_each_took() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let workers: Vec<Process> = (0..4)
        .map(|_| {
            Process::start(Some(&alone), |parent| {
                let socket = shared_port(8080);
                parent.signal_ready();
                let mut moved = Moved::default();
                let mut buffer = [0; 2048];
                loop {
                    let received = socket.recv(&mut buffer).unwrap() as u64;
                    // The last datagram has one byte.
                    if received == 1 {
                        return moved;
                    }
                    moved.received += received;
                }
            })
        })
        .collect();
    for worker in &workers {
        worker.wait_until_ready();
    }
    let pids: Vec<u32> = workers.iter().map(Process::pid).collect();
    // Each sender's port is hashed to one worker: many senders reach all of them.
    Process::run(Some(&alone), |_| {
        for size in 2..200 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&vec![0; size], "127.0.0.1:8080").unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let billed: Vec<u64> = pids.iter().map(|pid| app(&document, *pid).received).collect();
    while pids.iter().any(|pid| !has_ended(*pid)) {
        Process::run(Some(&alone), |_| {
            let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0], "127.0.0.1:8080");
            Moved::default()
        });
    }
    let moved: Vec<u64> = workers.into_iter().map(|worker| worker.finish().received).collect();
    for (billed, moved) in billed.iter().zip(&moved) {
        assert_app_bytes(&document, *billed, *moved);
    }
    assert_eq!(moved.iter().sum::<u64>(), (2..200).sum::<u64>());
    assert!(moved.iter().filter(|received| **received > 0).count() > 1, "only one worker was chosen");
}

/// A UDP socket on a port that others have as well.
fn shared_port(port: u16) -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
    setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    socket.into()
}

#[test]
fn a_passed_socket_belongs_to_whoever_uses_it() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = sink(&alone);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (giver, _) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 11], "127.0.0.1:7000").unwrap();
        let fds = [socket.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None).unwrap();
        Moved::default()
    });
    let (taker, _) = Process::run(Some(&alone), |_| {
        let (mut byte, mut space) = ([0], nix::cmsg_space!([std::os::fd::RawFd; 1]));
        let mut buffer = [IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(theirs.as_raw_fd(), &mut buffer, Some(&mut space), MsgFlags::empty()).unwrap();
        let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else { panic!("no socket") };
        // SAFETY: the descriptor was just received and is nobody else's.
        let socket = unsafe { UdpSocket::from_raw_fd(fds[0]) };
        socket.send_to(&[0; 22], "127.0.0.1:7000").unwrap();
        Moved::default()
    });
    let document = nettopd.settled();
    for (pid, size) in [(giver, 11), (taker, 22)] {
        assert_app_bytes(&document, app(&document, pid).sent, size);
        assert_eq!(wire(&document, pid).sent, datagram(size), "from its first packet on");
    }
}

#[test]
fn parent_and_child_that_take_turns_are_each_billed_for_their_own() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    // Else a write may wait for the packet before it to leave the machine, and go with the next one's.
    alone.write("/proc/sys/net/ipv4/tcp_autocorking", "0");
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        Moved { sent: 0, received: received.len() as u64 }
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let one = Process::start(Some(&alone), move |parent| {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        // Nor does one wait for acknowledgements that a busy machine delays.
        let send = |mut stream: &TcpStream, size: usize| {
            stream.write_all(&vec![0; size]).unwrap();
            wait_until_acknowledged(stream);
        };
        let turns = |parent: &nettop_tests::Parent, size: usize| {
            for _ in 0..10 {
                parent.wait_for_parent();
                send(&stream, size);
                parent.signal_ready();
            }
            Moved::default()
        };
        let child = Process::start(None, |parent| turns(parent, 200));
        parent.send_number(child.pid().into());
        for _ in 0..10 {
            parent.wait_for_parent();
            send(&stream, 100);
            child.go();
            child.wait_until_ready();
            parent.signal_ready();
        }
        child.finish();
        Moved::default()
    });
    let other = u32::try_from(one.wait_until_ready()).unwrap();
    for _ in 0..10 {
        one.go();
        one.wait_until_ready();
    }
    let first = one.pid();
    one.finish();
    assert_eq!(server.finish().received, 3000);
    let document = nettopd.settled();
    assert_app_bytes(&document, app(&document, first).sent, 1000);
    assert_app_bytes(&document, app(&document, other).sent, 2000);
    // Its own writes and nobody else's; a slow machine sends one again before the answer comes.
    let tx = &rows_of(&document, other)[0].total.tx;
    let data = tx.bytes - 52 * tx.packets;
    assert!(data >= 2000 && data.is_multiple_of(200), "{tx:#?}");
}

/// Kprobes remember as many sockets as there may be rows. Each socket is used again after all the others.
#[test]
fn more_sockets_than_kprobes_remember_are_billed_to_who_uses_them() {
    const SOCKETS: u16 = 400;
    let rounds = amount(10, 5);
    let nettopd = Nettopd::start(&["--rows", "256"]);
    let alone = Namespace::new();
    let user = |ports: u16, to: u16, begins: bool| {
        let user = Process::start(Some(&alone), move |parent| {
            let bind = |number| UdpSocket::bind(("127.0.0.1", ports + number)).unwrap();
            let sockets: Vec<_> = (0..SOCKETS).map(bind).collect();
            parent.signal_ready();
            parent.wait_for_parent();
            let mut moved = Moved::default();
            for (number, socket) in (0..rounds).flat_map(|_| (0..SOCKETS).zip(&sockets)) {
                let receive = || socket.recv(&mut [0; 200]).unwrap() as u64;
                let send = || socket.send_to(&[1; 100], ("127.0.0.1", to + number)).unwrap() as u64;
                if begins {
                    moved.sent += send();
                    moved.received += receive();
                } else {
                    moved.received += receive();
                    moved.sent += send();
                }
            }
            moved
        });
        user.wait_until_ready();
        user
    };
    let users = [user(10_000, 20_000, true), user(20_000, 10_000, false)];
    users.iter().for_each(Process::go);
    let (document, pids) = finish_at(&nettopd, users);
    let on_the_wire = u64::from(SOCKETS) * rounds * datagram(100);
    for pid in pids {
        assert_eq!(wire(&document, pid), Moved { sent: on_the_wire, received: on_the_wire }, "{:#?}", document.rows);
    }
}
