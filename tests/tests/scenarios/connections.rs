//! `nettopd connections` against what scripted clients and servers did.

mod accepting;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use nettop_model::{connections::Record, sockets::Document};
use nettop_tests::{
    Moved, Namespace, Parent, Process, Stream, amount,
    cgroup::Cgroup,
    drops::{LOSSY, nft_drop},
    nettopd_command,
    pairs::{read_all, send_until_sent_again, set_option, socket, tcp_info},
    run_nettopd, set_name,
    sockets::wait_until_acknowledged,
    veth_pair,
};
use nix::sys::{
    signal::Signal,
    socket::{SockaddrIn, connect},
};

/// Closing will reset the connection.
fn reset_at_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// Answers each connection with twice what it got, to the end.
fn echo(listener: &TcpListener, times: u64) -> Moved {
    let mut moved = Moved::default();
    for _ in 0..times {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).unwrap();
        stream.write_all(&asked.repeat(2)).unwrap();
        moved.received += asked.len() as u64;
        moved.sent += asked.len() as u64 * 2;
    }
    moved
}

fn by_port<'a>(events: impl Iterator<Item = &'a Record>, port: fn(&Record) -> u16) -> BTreeMap<u64, &'a Record> {
    let mut found = BTreeMap::new();
    for event in events {
        let port = port(event).into();
        assert!(found.insert(port, event).is_none(), "port {port} is reported twice");
    }
    found
}

#[test]
fn what_is_sent_again_is_reported_while_a_connection_lasts_and_at_its_end() {
    let (a, b) = veth_pair();
    nft_drop(&b, "input", LOSSY);
    let stream = Stream::connections(&["--port", "4000"]);
    let server = Process::start(Some(&b), |parent| {
        let listener = TcpListener::bind("10.0.0.2:4000").unwrap();
        parent.signal_ready();
        read_all(listener.accept().unwrap().0)
    });
    server.wait_until_ready();
    let client = Process::start(Some(&a), |parent| {
        let mut stream = TcpStream::connect("10.0.0.2:4000").unwrap();
        let sent = send_until_sent_again(&mut stream);
        wait_until_acknowledged(&stream);
        parent.send_number(tcp_info(&stream).tcpi_total_retrans.into());
        parent.wait_for_parent();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent, received: 0 }
    });
    let again = u32::try_from(client.wait_until_ready()).unwrap();
    assert!(again > 0);
    let pid = client.pid();
    let listed = run_nettopd(&["sockets", "-n", "-p", &pid.to_string(), "--format", "ndjson"]);
    let listed: Document = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.sockets[0].tcp.as_ref().unwrap().retransmits, Some(again), "{listed:#?}");
    client.go();
    client.finish();
    server.finish();
    let result = stream.stop();
    let closed: Vec<&Record> = result.events.iter().filter(|event| event.event == "closed").collect();
    let ours = closed.iter().find(|event| event.pid == Some(pid)).unwrap();
    assert_eq!(ours.retransmits, Some(again), "{ours:#?}");
}

#[test]
fn what_comes_to_nothing_is_reported_with_its_reason() {
    let alone = Namespace::new();
    alone.write("/proc/sys/net/ipv4/tcp_syn_retries", "1");
    nft_drop(&alone, "output", "tcp dport 4002");
    let stream = Stream::connections(&[]);
    let client = Process::start(Some(&alone), |_| {
        assert!(TcpStream::connect("127.0.0.1:4001").is_err());
        assert!(TcpStream::connect("127.0.0.1:4002").is_err());
        let given_up = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        let _ = connect(given_up.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4002));
        drop(given_up);
        // One end resets what the other has not finished.
        let listener = TcpListener::bind("127.0.0.1:4003").unwrap();
        let client = TcpStream::connect("127.0.0.1:4003").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"unread").unwrap();
        reset_at_close(&client);
        drop(client);
        assert!(server.read(&mut [0]).is_err());
        Moved::default()
    });
    let pid = client.pid();
    client.finish();
    stream.wait_for(|event| event.pid == Some(pid) && event.outcome.as_deref() == Some("reset"));
    let result = stream.stop();
    let failed: Vec<_> = result.of("failed", pid).map(|event| (event.remote_port, event.outcome.as_deref())).collect();
    assert_eq!(failed, [(4001, Some("refused")), (4002, Some("timed out")), (4002, Some("given up"))]);
    let closed: Vec<_> = result.of("closed", pid).map(|event| (event.outcome.as_deref(), event.sent_bytes)).collect();
    assert_eq!(closed, [(Some("aborted"), Some(0)), (Some("reset"), Some(6))]);
    assert_eq!(result.of("opened", pid).count(), 1);
}

#[test]
fn a_connection_older_than_nettopd_is_reported_when_it_ends() {
    let alone = Namespace::new();
    let pair = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let client = TcpStream::connect("127.0.0.1:4000").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"before").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        server.write_all(b"since").unwrap();
        drop(server);
        assert_eq!(read_all(client).received, 11);
        Moved::default()
    });
    pair.wait_until_ready();
    let pid = pair.pid();
    let stream = Stream::connections(&[]);
    pair.go();
    pair.finish();
    (0..2).for_each(|_| stream.wait_for(|event| event.pid == Some(pid) && event.event == "closed"));
    let result = stream.stop();
    let closed: Vec<_> = result.of("closed", pid).collect();
    assert_eq!(closed.len(), 2, "{result:?}");
    assert!(closed.iter().all(|closed| closed.duration_us.is_none() && closed.outcome.as_deref() == Some("finished")));
    let server = closed.iter().find(|closed| closed.local_port == 4000).unwrap();
    assert_eq!((server.sent_bytes, server.received_bytes), (Some(11), Some(0)));
}

#[test]
fn no_more_lines_are_written_than_were_asked_for() {
    let alone = Namespace::new();
    let mut child =
        nettopd_command().args(["connections", "--udp", "--count", "2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.next().unwrap();
    Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 4000..4010 {
            socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
        }
        Moved::default()
    });
    // What the kernel skipped has a line of its own.
    let lines = lines.filter(|line| !line.starts_with('['));
    assert_eq!((lines.count(), child.wait().unwrap().code()), (2, Some(0)));
}

#[test]
fn conversations_of_udp_are_reported_with_their_bytes() {
    let alone = Namespace::new();
    let stream = Stream::connections(&["--udp"]);
    let server = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        let mut moved = Moved::default();
        for _ in 0..5 {
            let (size, from) = socket.recv_from(&mut [0; 100]).unwrap();
            moved.received += size as u64;
            moved.sent += socket.send_to(b"answer", from).unwrap() as u64;
        }
        moved
    });
    server.wait_until_ready();
    let client = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        parent.send_number(socket.local_addr().unwrap().port().into());
        for _ in 0..5 {
            socket.send_to(b"question", "127.0.0.1:4000").unwrap();
            socket.recv_from(&mut [0; 100]).unwrap();
        }
        Moved::default()
    });
    let port = u16::try_from(client.wait_until_ready()).unwrap();
    let (client_pid, server_pid) = (client.pid(), server.pid());
    client.finish();
    server.finish();
    let result = stream.stop();
    let only = |event: &str, pid: u32| {
        let found: Vec<_> = result.of(event, pid).collect();
        assert_eq!(found.len(), 1, "{event} of {pid}: {result:?}");
        found[0]
    };
    for (event, pid, local, remote, sent, received) in [
        ("sent", client_pid, port, 4000, 5 * (28 + 8), 5 * (28 + 6)),
        ("received", server_pid, 4000, port, 5 * (28 + 6), 5 * (28 + 8)),
    ] {
        let (begin, end) = (only(event, pid), only("closed", pid));
        for record in [begin, end] {
            assert_eq!((record.local_port, record.remote_port), (local, remote));
            assert_eq!(record.protocol, "udp");
        }
        assert_eq!((end.sent_bytes, end.received_bytes), (Some(sent), Some(received)));
        assert_eq!((end.sent_packets, end.received_packets), (Some(5), Some(5)));
        assert_eq!(end.outcome.as_deref(), Some("going on"));
    }
}

/// Connects, has the other end accept, and resets.
fn flood(alone: &Namespace, times: u64) {
    let flood = Process::start(Some(alone), move |_| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        for _ in 0..times {
            let client = TcpStream::connect("127.0.0.1:4000").unwrap();
            let server = listener.accept().unwrap();
            reset_at_close(&client);
            drop(client);
            drop(server);
        }
        Moved::default()
    });
    flood.finish();
}

#[test]
fn a_flood_of_connections_loses_nothing_silently() {
    let times = amount(100_000, 3000);
    let alone = Namespace::new();
    let stream = Stream::counting(&["connections", "--port", "4000"]);
    let before_kib = stream.rss_kib();
    flood(&alone, times);
    // With nobody to read it the ring fills.
    let asleep = amount(20_000, 15_000);
    stream.signal(Signal::SIGSTOP);
    flood(&alone, asleep);
    let after_kib = stream.rss_kib();
    stream.signal(Signal::SIGCONT);
    let made = (times + asleep) * 4;
    stream.wait_for_count(made);
    let result = stream.stop();
    result.misses(made);
    assert_eq!(result.shown + result.lost, result.seen);
    assert_eq!(result.shown, result.count);
    assert_eq!(result.events_lost, result.lost);
    assert!(result.lost > 0, "the ring takes more than this scenario can make");
    // The ring, which is mapped twice, and the tables come in as they are used; the events of the flood are more.
    assert!(after_kib < before_kib + 32 * 1024, "{before_kib} KiB became {after_kib}");
}

#[test]
fn a_hostile_name_stays_in_its_place() {
    let alone = Namespace::new();
    let mut child = nettopd_command()
        .args(["connections", "--accepted", "--count", "1", "--numeric"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "   UID              CMD    PID   PORT        IP_SOURCE");
    let (pid, _) = Process::run(Some(&alone), |_| {
        set_name(b"\x1b[31m\n\xffevil");
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let _client = TcpStream::connect("127.0.0.1:4000").unwrap();
        listener.accept().unwrap();
        Moved::default()
    });
    let expected = format!("{:>6} {:>16} {pid:>6} {:>6} {:>16}", 0, "\\x1b[31m\\x0a\\xffevil", 4000, "127.0.0.1");
    // From 7.0 on, where tracepoints are preemptible, the kernel skips runs of hooks, whoever's they are.
    let is_event = |line: &String| !line.ends_with(" runs of hooks skipped by the kernel]");
    assert_eq!(lines.filter(is_event).collect::<Vec<_>>(), [expected]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_end_of_a_connection_has_the_names_that_its_beginning_had() {
    let alone = Namespace::new();
    let stream = Stream::connections(&["--port", "4000"]);
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        read_all(listener.accept().unwrap().0)
    });
    server.wait_until_ready();
    let system = Cgroup::new("system.slice");
    let id = "0123456789abcdef".repeat(4);
    let group = system.child(&format!("docker-{id}.scope"));
    let procs = group.path().join("cgroup.procs");
    let client = Process::start(Some(&alone), |parent| {
        std::fs::write(procs, std::process::id().to_string()).unwrap();
        let stream = TcpStream::connect("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        // The socket ends with its process, and its end is reported later.
        std::mem::forget(stream);
        Moved::default()
    });
    client.wait_until_ready();
    // Known processes are checked each second.
    sleep(Duration::from_millis(2500));
    let pid = client.pid();
    client.go();
    client.finish();
    server.finish();
    let result = stream.stop();
    let exe = std::env::current_exe().unwrap();
    for event in ["opened", "closed"] {
        let found = result.of(event, pid).next();
        let Some(found) = found else {
            assert!(result.runs_skipped > 0, "{event}: {result:#?}");
            continue;
        };
        assert_eq!(found.process.exe.as_deref(), exe.to_str(), "{event}");
        assert_eq!(found.process.container.as_deref(), Some(id.as_str()), "{event}");
        assert_eq!(found.process.unit, Some(format!("docker-{id}.scope")), "{event}");
    }
}
