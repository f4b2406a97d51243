//! `nettopd connections` against what scripted clients and servers did.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use nettop_tests::{
    Moved, Namespace, Parent, Process, Stream, amount,
    drops::{LOSSY, nft_drop},
    nettopd_command,
    pairs::{read_all, send_until_sent_again, set_option, socket, tcp_info},
    run_nettopd, set_name, veth_pair,
};
use nix::sys::{
    signal::Signal,
    socket::{SockaddrIn, connect},
};
use serde_json::Value;

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

fn by_port<'a>(events: impl Iterator<Item = &'a Value>, which: &str) -> BTreeMap<u64, &'a Value> {
    let mut found = BTreeMap::new();
    for event in events {
        let port = event[which].as_u64().unwrap();
        assert!(found.insert(port, event).is_none(), "port {port} is told twice");
    }
    found
}

#[test]
fn what_is_sent_again_is_told_while_a_connection_lasts_and_at_its_end() {
    let (a, b) = veth_pair();
    nft_drop(&b, "input", LOSSY);
    let stream = Stream::start(&["connections", "--port", "4000"]);
    let server = Process::start(Some(&b), |parent| {
        let listener = TcpListener::bind("10.0.0.2:4000").unwrap();
        parent.tell();
        read_all(listener.accept().unwrap().0)
    });
    server.wait_until_ready();
    let client = Process::start(Some(&a), |parent| {
        let mut stream = TcpStream::connect("10.0.0.2:4000").unwrap();
        let sent = send_until_sent_again(&mut stream);
        while tcp_info(&stream).tcpi_unacked > 0 {
            sleep(Duration::from_millis(10));
        }
        parent.tell_number(tcp_info(&stream).tcpi_total_retrans.into());
        parent.wait_for_parent();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        Moved { sent, received: 0 }
    });
    let again = client.wait_until_ready();
    assert!(again > 0);
    let pid = client.pid();
    let listed = run_nettopd(&["sockets", "-n", "-p", &pid.to_string(), "--format", "ndjson"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["sockets"][0]["tcp"]["retransmits"], again, "{listed:#}");
    client.go();
    client.finish();
    server.finish();
    let told = stream.stop();
    let closed: Vec<&Value> = told.events.iter().filter(|event| event["event"] == "closed").collect();
    let ours = closed.iter().find(|event| event["pid"] == pid).unwrap();
    assert_eq!(ours["retransmits"], again, "{ours:#}");
}

#[test]
fn each_connection_is_told_once_with_its_process_and_bytes() {
    let times = amount(1000, 100);
    for (host, shown) in [("10.0.0.2:4000", "10.0.0.2"), ("[fd00::2]:4000", "fd00::2")] {
        let (a, b) = veth_pair();
        let stream = Stream::start(&["connections", "--port", "4000"]);
        let server = Process::start(Some(&b), |parent| {
            let listener = TcpListener::bind(host).unwrap();
            parent.tell();
            echo(&listener, times)
        });
        server.wait_until_ready();
        let client = Process::start(Some(&a), |parent| {
            let mut moved = Moved::default();
            for n in 1..=times {
                let mut stream = TcpStream::connect(host).unwrap();
                parent.tell_number(stream.local_addr().unwrap().port().into());
                stream.write_all(&vec![0; usize::try_from(n).unwrap()]).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                moved.sent += n;
                moved.received += stream.read_to_end(&mut Vec::new()).unwrap() as u64;
            }
            moved
        });
        let ports: Vec<u64> = (0..times).map(|_| client.wait_until_ready()).collect();
        let (client_pid, server_pid) = (client.pid(), server.pid());
        let (at_client, at_server) = (client.finish(), server.finish());
        sleep(Duration::from_millis(200));
        let told = stream.stop();
        assert_eq!((told.lost, told.code), (0, Some(0)), "{told:?}");
        if told.misses(times * 4) {
            continue;
        }
        assert_eq!(told.events.len() as u64, times * 4);
        let opened = by_port(told.of("opened", client_pid), "local_port");
        let accepted = by_port(told.of("accepted", server_pid), "remote_port");
        let client_closed = by_port(told.of("closed", client_pid), "local_port");
        let server_closed = by_port(told.of("closed", server_pid), "remote_port");
        for (n, port) in (1..=times).zip(&ports) {
            assert_eq!(opened[port]["remote"], shown);
            assert_eq!(opened[port]["netns"], a.inode());
            assert_eq!(accepted[port]["local"], shown);
            assert_eq!(accepted[port]["netns"], b.inode());
            for (closed, sent, received) in [(client_closed[port], n, n * 2), (server_closed[port], n * 2, n)] {
                assert_eq!(closed["sent_bytes"], sent, "{closed}");
                assert_eq!(closed["received_bytes"], received, "{closed}");
                assert_eq!(closed["outcome"], "finished", "{closed}");
                // Where the kernel skipped the run that would have noted the beginning, there is none.
                assert!(closed["duration_us"].as_u64().map_or(told.runs_skipped > 0, |us| us > 0), "{closed}");
            }
        }
        let sum = |what: &str| client_closed.values().map(|closed| closed[what].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("sent_bytes"), sum("received_bytes")), (at_client.sent, at_client.received));
        assert_eq!((at_server.sent, at_server.received), (at_client.received, at_client.sent));
    }
}

#[test]
fn what_comes_to_nothing_is_told_with_its_reason() {
    let alone = Namespace::new();
    alone.write("/proc/sys/net/ipv4/tcp_syn_retries", "1");
    nft_drop(&alone, "output", "tcp dport 4002");
    let stream = Stream::start(&["connections"]);
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
    sleep(Duration::from_millis(200));
    let told = stream.stop();
    let failed: Vec<_> = told.of("failed", pid).map(|event| (&event["remote_port"], &event["outcome"])).collect();
    assert_eq!(
        format!("{failed:?}"),
        format!(
            "{:?}",
            [
                (&Value::from(4001), &Value::from("refused")),
                (&Value::from(4002), &Value::from("timed out")),
                (&Value::from(4002), &Value::from("given up")),
            ]
        )
    );
    let closed: Vec<_> = told.of("closed", pid).map(|event| (&event["outcome"], &event["sent_bytes"])).collect();
    assert_eq!(closed, [(&Value::from("aborted"), &Value::from(0)), (&Value::from("reset"), &Value::from(6))]);
    assert_eq!(told.of("opened", pid).count(), 1);
}

#[test]
fn a_shared_listeners_connection_is_its_acceptors_and_a_passed_one_its_users() {
    let alone = Namespace::new();
    let stream = Stream::start(&["connections", "--accepted", "--closed"]);
    let parent = Process::start(Some(&alone), |told| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        for passes_on in [false, true] {
            let acceptor = Process::start(None, |_| {
                let (stream, _) = listener.accept().unwrap();
                let serve = |parent: &Parent| {
                    parent.wait_for_parent();
                    (&stream).write_all(b"served").unwrap();
                    Moved::default()
                };
                if passes_on {
                    let user = Process::start(None, serve);
                    drop(stream);
                    user.go();
                    let pid = user.pid();
                    user.finish();
                    Moved { sent: pid.into(), received: 0 }
                } else {
                    (&stream).write_all(b"served").unwrap();
                    Moved { sent: std::process::id().into(), received: 0 }
                }
            });
            told.tell_number(acceptor.pid().into());
            let mut client = TcpStream::connect("127.0.0.1:4000").unwrap();
            assert_eq!(client.read(&mut [0; 16]).unwrap(), 6);
            told.tell_number(client.local_addr().unwrap().port().into());
            told.tell_number(acceptor.finish().sent);
        }
        Moved::default()
    });
    let numbers: Vec<u64> = (0..6).map(|_| parent.wait_until_ready()).collect();
    parent.finish();
    sleep(Duration::from_millis(200));
    let told = stream.stop();
    for expected in numbers.chunks(3) {
        let [acceptor, port, user] = expected else { unreachable!() };
        let of = |event: &str| {
            let of =
                |told: &&Value| told["event"] == event && told["local_port"] == 4000 && told["remote_port"] == *port;
            let found: Vec<_> = told.events.iter().filter(of).map(|told| told["pid"].as_u64().unwrap()).collect();
            found
        };
        assert_eq!((of("accepted"), of("closed")), (vec![*acceptor], vec![*user]));
    }
}

#[test]
fn a_connection_older_than_nettopd_is_told_when_it_ends() {
    let alone = Namespace::new();
    let pair = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let client = TcpStream::connect("127.0.0.1:4000").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"before").unwrap();
        parent.tell();
        parent.wait_for_parent();
        server.write_all(b"since").unwrap();
        drop(server);
        assert_eq!(read_all(client).received, 11);
        Moved::default()
    });
    pair.wait_until_ready();
    let pid = pair.pid();
    let stream = Stream::start(&["connections"]);
    pair.go();
    pair.finish();
    sleep(Duration::from_millis(200));
    let told = stream.stop();
    let closed: Vec<_> = told.of("closed", pid).collect();
    assert_eq!(closed.len(), 2, "{told:?}");
    assert!(closed.iter().all(|closed| closed["duration_us"].is_null() && closed["outcome"] == "finished"));
    let server = closed.iter().find(|closed| closed["local_port"] == 4000).unwrap();
    assert_eq!((&server["sent_bytes"], &server["received_bytes"]), (&Value::from(11), &Value::from(0)));
}

#[test]
fn a_call_that_waits_already_is_seen_to_accept() {
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.tell();
        listener.accept().unwrap();
        Moved::default()
    });
    server.wait_until_ready();
    // Until it waits.
    sleep(Duration::from_millis(300));
    let stream = Stream::start(&["connections", "--accepted"]);
    alone.enter(|| TcpStream::connect("127.0.0.1:4000").unwrap());
    let pid = server.pid();
    server.finish();
    sleep(Duration::from_millis(200));
    assert_eq!(stream.stop().of("accepted", pid).count(), 1);
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
    assert_eq!((lines.count(), child.wait().unwrap().code()), (2, Some(0)));
}

#[test]
fn conversations_of_udp_are_told_with_what_was_said() {
    let alone = Namespace::new();
    let stream = Stream::start(&["connections", "--udp"]);
    let server = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        parent.tell();
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
        parent.tell_number(socket.local_addr().unwrap().port().into());
        for _ in 0..5 {
            socket.send_to(b"question", "127.0.0.1:4000").unwrap();
            socket.recv_from(&mut [0; 100]).unwrap();
        }
        Moved::default()
    });
    let port = client.wait_until_ready();
    let (client_pid, server_pid) = (client.pid(), server.pid());
    client.finish();
    server.finish();
    let told = stream.stop();
    let only = |event: &str, pid: u32| {
        let found: Vec<_> = told.of(event, pid).collect();
        assert_eq!(found.len(), 1, "{event} of {pid}: {told:?}");
        found[0].clone()
    };
    for (event, pid, local, remote, sent, received) in [
        ("sent", client_pid, port, 4000, 5 * (28 + 8), 5 * (28 + 6)),
        ("received", server_pid, 4000, port, 5 * (28 + 6), 5 * (28 + 8)),
    ] {
        let (begin, end) = (only(event, pid), only("closed", pid));
        for told in [&begin, &end] {
            assert_eq!((&told["local_port"], &told["remote_port"]), (&Value::from(local), &Value::from(remote)));
            assert_eq!(told["protocol"], "udp");
        }
        assert_eq!((&end["sent_bytes"], &end["received_bytes"]), (&Value::from(sent), &Value::from(received)));
        assert_eq!((&end["sent_packets"], &end["received_packets"]), (&Value::from(5), &Value::from(5)));
        assert_eq!(end["outcome"], "going on");
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
    let stream = Stream::start_counting(&["connections", "--port", "4000"]);
    let before_kib = stream.rss_kib();
    flood(&alone, times);
    // With nobody to read it the ring fills.
    let asleep = amount(20_000, 15_000);
    stream.signal(Signal::SIGSTOP);
    flood(&alone, asleep);
    let after_kib = stream.rss_kib();
    stream.signal(Signal::SIGCONT);
    sleep(Duration::from_millis(1500));
    let told = stream.stop();
    let made = (times + asleep) * 4;
    told.misses(made);
    assert_eq!(told.shown + told.lost, told.seen);
    assert_eq!(told.shown, told.count);
    assert_eq!(told.events_lost, told.lost);
    assert!(told.lost > 0, "the ring takes more than this scenario can make");
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
    assert_eq!(lines.collect::<Vec<_>>(), [expected]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
