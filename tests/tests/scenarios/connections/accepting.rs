//! Who owns accepted connections.

use super::*;

#[test]
fn each_connection_is_reported_once_with_its_process_and_bytes() {
    let times = amount(1000, 100);
    for (host, shown) in [("10.0.0.2:4000", "10.0.0.2"), ("[fd00::2]:4000", "fd00::2")] {
        let (a, b) = veth_pair();
        let stream = Stream::connections(&["--port", "4000"]);
        let server = Process::start(Some(&b), |parent| {
            let listener = TcpListener::bind(host).unwrap();
            parent.signal_ready();
            echo(&listener, times)
        });
        server.wait_until_ready();
        let client = Process::start(Some(&a), |parent| {
            let mut moved = Moved::default();
            for n in 1..=times {
                let mut stream = TcpStream::connect(host).unwrap();
                parent.send_number(stream.local_addr().unwrap().port().into());
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
        stream.wait_for_count(times * 4);
        let result = stream.stop();
        assert_eq!((result.lost, result.code), (0, Some(0)), "{result:?}");
        if result.misses(times * 4) {
            continue;
        }
        assert_eq!(result.events.len() as u64, times * 4);
        let opened = by_port(result.of("opened", client_pid), |event| event.local_port);
        let accepted = by_port(result.of("accepted", server_pid), |event| event.remote_port);
        let client_closed = by_port(result.of("closed", client_pid), |event| event.local_port);
        let server_closed = by_port(result.of("closed", server_pid), |event| event.remote_port);
        for (n, port) in (1..=times).zip(&ports) {
            assert_eq!(opened[port].remote, shown);
            assert_eq!(opened[port].netns, a.inode());
            assert_eq!(accepted[port].local, shown);
            assert_eq!(accepted[port].netns, b.inode());
            for (closed, sent, received) in [(client_closed[port], n, n * 2), (server_closed[port], n * 2, n)] {
                assert_eq!(closed.sent_bytes, Some(sent), "{closed:?}");
                assert_eq!(closed.received_bytes, Some(received), "{closed:?}");
                assert_eq!(closed.outcome.as_deref(), Some("finished"), "{closed:?}");
                // There is none where the kernel skipped the run that would note the beginning.
                assert!(closed.duration_us.map_or(result.runs_skipped > 0, |us| us > 0), "{closed:?}");
            }
        }
        let sum =
            |what: fn(&Record) -> Option<u64>| client_closed.values().map(|closed| what(closed).unwrap()).sum::<u64>();
        assert_eq!(
            (sum(|closed| closed.sent_bytes), sum(|closed| closed.received_bytes)),
            (at_client.sent, at_client.received)
        );
        assert_eq!((at_server.sent, at_server.received), (at_client.received, at_client.sent));
    }
}

#[test]
fn a_shared_listeners_connection_is_its_acceptors_and_a_passed_one_its_users() {
    let alone = Namespace::new();
    let stream = Stream::connections(&["--accepted", "--closed"]);
    let parent = Process::start(Some(&alone), |parent| {
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
            parent.send_number(acceptor.pid().into());
            let mut client = TcpStream::connect("127.0.0.1:4000").unwrap();
            assert_eq!(client.read(&mut [0; 16]).unwrap(), 6);
            parent.send_number(client.local_addr().unwrap().port().into());
            parent.send_number(acceptor.finish().sent);
        }
        Moved::default()
    });
    let numbers: Vec<u64> = (0..6).map(|_| parent.wait_until_ready()).collect();
    parent.finish();
    let closed = |event: &Record| event.event == "closed" && [event.local_port, event.remote_port].contains(&4000);
    // Both ends of each.
    (0..2 * numbers.len() / 3).for_each(|_| stream.wait_for(closed));
    let result = stream.stop();
    for expected in numbers.chunks(3) {
        let [acceptor, port, user] = expected else { unreachable!() };
        let of = |event: &str| {
            let of = |record: &&Record| {
                record.event == event && record.local_port == 4000 && u64::from(record.remote_port) == *port
            };
            let found: Vec<_> = result.events.iter().filter(of).map(|record| u64::from(record.pid.unwrap())).collect();
            found
        };
        assert_eq!((of("accepted"), of("closed")), (vec![*acceptor], vec![*user]));
    }
}

#[test]
fn a_call_that_waits_already_is_seen_to_accept() {
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
        listener.accept().unwrap();
        Moved::default()
    });
    server.wait_until_ready();
    server.wait_until_inside(libc::SYS_accept4);
    let stream = Stream::connections(&["--accepted"]);
    alone.enter(|| TcpStream::connect("127.0.0.1:4000").unwrap());
    let pid = server.pid();
    server.finish();
    stream.wait_for(|record| record.pid == Some(pid));
    assert_eq!(stream.stop().of("accepted", pid).count(), 1);
}
