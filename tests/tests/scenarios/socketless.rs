//! What TCP sends without a full socket: SYN-ACKs with a cookie, which nothing shows, and answers from TIME_WAIT.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, Sniffer, amount, assert_app, device, drops::netstat, kernel, wait_until, wire,
};

const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

fn connect(address: &str, port: u16) -> TcpStream {
    TcpStream::connect((address, port)).unwrap()
}

#[test]
fn of_connections_by_cookies_the_syn_acks_alone_are_unattributed() {
    let connections = amount(500, 100);
    let nettopd = Nettopd::start(&[]);
    for (address, syn_ack) in ADDRESSES.into_iter().zip([60, 80]) {
        let alone = Namespace::new();
        alone.write("/proc/sys/net/ipv4/tcp_syncookies", "2");
        let sniffer = Sniffer::start(&alone);
        let server = Process::start(Some(&alone), |parent| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            parent.send_number(listener.local_addr().unwrap().port().into());
            let mut open = Vec::new();
            for _ in 0..connections {
                let mut stream = listener.accept().unwrap().0;
                stream.read_exact(&mut [0; 16]).unwrap();
                stream.write_all(b"done").unwrap();
                open.push(stream);
            }
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        });
        let port = u16::try_from(server.wait_until_ready()).unwrap();
        let client = Process::start(Some(&alone), |parent| {
            let mut open = Vec::new();
            for _ in 0..connections {
                let mut stream = connect(address, port);
                stream.write_all(b"data of a client").unwrap();
                // One after the other: the listener turns none away.
                stream.read_exact(&mut [0; 4]).unwrap();
                open.push(stream);
            }
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        });
        server.wait_until_ready();
        client.wait_until_ready();
        let document = nettopd.settled();
        let pids = [server.pid(), client.pid()];
        let moved = Moved { sent: 4 * connections, received: 16 * connections };
        assert_app(&document, pids[0], moved);
        assert_app(&document, pids[1], moved.reversed());
        let cookies = netstat(&alone, "TcpExt", "SyncookiesSent");
        assert!(cookies >= connections, "{cookies}");
        let unseen = cookies * syn_ack;
        let passed = sniffer.local(port);
        let seen = Moved { sent: passed.sent - unseen, ..passed };
        assert_eq!(pids.map(|pid| wire(&document, pid)), [seen, passed.reversed()], "{:#?}", document.rows);
        let balance = device(&document, alone.inode(), "lo");
        let unattributed = [balance.tx, balance.rx].map(|side| (side.unattributed_bytes, side.unattributed_packets));
        assert_eq!(unattributed, [(unseen, cookies), (0, 0)], "{balance:#?}");
    }
}

/// Waits until the calling process's namespace has a connection whose other end has acknowledged the FIN.
fn wait_for_fin_wait2() {
    let has_one = |file: &str| {
        let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap();
        text.lines().any(|line| line.split_whitespace().nth(3) == Some("05"))
    };
    wait_until("a FIN is acknowledged", || ["tcp", "tcp6"].into_iter().any(has_one));
}

#[test]
fn what_a_killed_processs_connection_answers_in_time_wait_is_the_kernels() {
    let nettopd = Nettopd::start(&[]);
    for (address, answer) in ADDRESSES.into_iter().zip([52, 72]) {
        let alone = Namespace::new();
        let sniffer = Sniffer::start(&alone);
        let server = Process::start(Some(&alone), |parent| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            parent.send_number(listener.local_addr().unwrap().port().into());
            let mut stream = listener.accept().unwrap().0;
            parent.wait_for_parent();
            let received = stream.read_to_end(&mut Vec::new()).unwrap() as u64;
            // The other end is in TIME_WAIT then, as nobody holds its socket.
            wait_for_fin_wait2();
            Moved { sent: 0, received }
        });
        let port = u16::try_from(server.wait_until_ready()).unwrap();
        let client = Process::start(Some(&alone), |parent| {
            let mut stream = connect(address, port);
            stream.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while let Ok(bytes) = stream.write(&[1; 65_536]) {
                sent += bytes as u64;
            }
            parent.send_number(sent);
            parent.wait_for_parent();
            Moved::default()
        });
        let pids = [server.pid(), client.pid()];
        let sent = Moved { sent: client.wait_until_ready(), received: 0 };
        // Killed, with most of that in its socket.
        drop(client);
        server.go();
        let received = server.finish();
        assert_eq!(received, sent.reversed());
        let document = nettopd.settled();
        assert_app(&document, pids[0], received);
        assert_app(&document, pids[1], sent);
        let passed = sniffer.remote(port);
        let [served, sent] = pids.map(|pid| wire(&document, pid));
        // On 6.1 no hook sees the SYN-ACK of IPv6.
        let syn_ack = if kernel() < (6, 12) && address == "::1" { 80 } else { 0 };
        assert_eq!(Moved { sent: served.sent + syn_ack, ..served }, passed.reversed(), "{:#?}", document.rows);
        let balance = device(&document, alone.inode(), "lo");
        let [tx, rx] = [balance.tx, balance.rx].map(|side| (side.kernel_bytes, side.unattributed_bytes));
        // Before 6.13 the answer is of a socket of the kernel's, and over IPv6 of none.
        let seen = if kernel() < (6, 13) && address == "::1" { (0, answer + syn_ack) } else { (answer, 0) };
        assert_eq!((passed.sent - sent.sent, tx), (answer, seen), "{balance:#?} {:#?}", document.rows);
        // The FIN that it answers.
        let seen = if kernel() < (6, 11) { (0, answer) } else { (answer, 0) };
        assert_eq!((passed.received - sent.received, rx), (answer, seen), "{balance:#?} {:#?}", document.rows);
    }
}
