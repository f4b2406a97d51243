//! Sockets that have another connection than before: made again, restored, or accepted with what their listener had.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, app, assert_app,
    pairs::{assert_balanced, check, finish_at, set_option, socket},
};
use nix::sys::socket::{MsgFlags, SockaddrIn, bind, connect, recv, send};

#[test]
fn a_socket_that_connects_again_counts_both_connections() {
    const TO: [usize; 3] = [4_000, 120_000, 120_000];
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        for bytes in TO {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(&vec![1; bytes]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        Moved { sent: TO.iter().sum::<usize>() as u64, received: 0 }
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |_| {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let mut received = 0;
        for bytes in TO {
            connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4000)).unwrap();
            // In one go, so that no reading falls between: it is at least as much as the last connection had.
            received += recv(socket.as_raw_fd(), &mut vec![0; bytes], MsgFlags::MSG_WAITALL).unwrap() as u64;
            // SAFETY: all zero is an address of AF_UNSPEC.
            let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
            let size = libc::socklen_t::try_from(size_of_val(&nobody)).unwrap();
            // SAFETY: the address lives through the call.
            check(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size) } as isize);
        }
        Moved { sent: 0, received }
    });
    let (document, _) = finish_at(&nettopd, [server, client]);
    assert_balanced(&document, &alone);
}

#[test]
fn what_a_restored_connection_is_given_back_is_not_sent() {
    /// linux/tcp.h.
    const OFF_WITHOUT_PROBE: i32 = -1;
    const RECEIVED: i32 = 1;
    const SENT: i32 = 2;
    const QUEUED: usize = 700;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let process = Process::start(Some(&alone), |_| {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let set = |name: i32, value: i32| set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, name, &value);
        set(libc::TCP_REPAIR, 1);
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4001)).unwrap();
        for queue in [RECEIVED, SENT] {
            set(libc::TCP_REPAIR_QUEUE, queue);
            set(libc::TCP_QUEUE_SEQ, 123_456);
        }
        connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4002)).unwrap();
        set(libc::TCP_REPAIR_QUEUE, RECEIVED);
        assert_eq!(send(socket.as_raw_fd(), &[1; QUEUED], MsgFlags::empty()).unwrap(), QUEUED);
        set(libc::TCP_REPAIR, OFF_WITHOUT_PROBE);
        let received = recv(socket.as_raw_fd(), &mut [0; QUEUED], MsgFlags::empty()).unwrap() as u64;
        // Ends silently: nobody is there.
        set(libc::TCP_REPAIR, 1);
        Moved { sent: 0, received }
    });
    let pid = process.pid();
    let moved = process.finish();
    assert_eq!(moved.received, QUEUED as u64);
    let document = nettopd.settled();
    if std::env::var("NETTOPD_BACKEND").is_ok_and(|backend| backend == "kprobe") {
        // No packet has shown kprobes that the socket is new.
        assert_eq!(app(&document, pid).sent, 0);
    } else {
        assert_app(&document, pid, moved);
    }
}

#[test]
fn connections_that_are_accepted_are_no_loss() {
    const TIMES: u64 = 50;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        let mut received = 0;
        for _ in 0..TIMES {
            let mut data = Vec::new();
            received += listener.accept().unwrap().0.read_to_end(&mut data).unwrap() as u64;
        }
        Moved { sent: 0, received }
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |_| {
        for _ in 0..TIMES {
            let mut stream = TcpStream::connect("127.0.0.1:4000").unwrap();
            stream.write_all(&[1; 1000]).unwrap();
        }
        Moved { sent: TIMES * 1000, received: 0 }
    });
    let (document, _) = finish_at(&nettopd, [server, client]);
    assert_eq!(document.loss.shadows_lost, 0, "{:#?}", document.loss);
}
