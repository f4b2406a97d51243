//! Two processes that talk over lo and know what they moved.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Arc,
};

use nettop_model::Snapshot;

pub use crate::sockets::{check, send_until_sent_again, set_option, socket, tcp_info, tun};
use crate::{FirstFin, Moved, Namespace, Nettopd, Process, Sniffer, assert_app, device, directions, wire};

/// Every packet of lo was billed to somebody.
pub fn assert_balanced(document: &Snapshot, namespace: &Namespace) {
    let balance = device(document, namespace.inode(), "lo");
    for (direction, side) in directions(balance) {
        assert_eq!(side.unattributed_bytes, 0, "{direction}: {balance:#?} {:#?}", document.rows);
        assert_eq!(side.unattributed_packets, 0, "{direction}: {balance:#?}");
    }
}

/// Two processes joined by TCP over lo: nettopd must report what each moved.
pub fn tcp_pair(server: impl FnOnce(TcpStream) -> Moved, client: impl FnOnce(&TcpStream) -> Moved) {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let sniffer = Sniffer::start(&alone);
    let fin = FirstFin::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        fin.answer(listener.accept().unwrap().0, server)
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let client = Process::start(Some(&alone), |_| {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let moved = client(&stream);
        // Closed after the server: what a connection in TIME_WAIT sends is the kernel's.
        stream.set_nonblocking(false).unwrap();
        fin.send(&stream);
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
