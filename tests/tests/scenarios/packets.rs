//! `nettopd packets` against tcpdump on the same device, and against the processes that made the packets.

mod tcpdump;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nettop_model::packets::Record;
use nettop_tests::{
    Moved, Namespace, Process, Stream, amount, kernel, nettopd_command,
    pairs::{read_all, set_option},
    set_name, veth_pair, wait_until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What both show of a packet: ends, flags, length, and whether it goes out.
type Packet = (String, u16, String, u16, String, u64, bool);

fn direction_and_pid(event: &Record) -> (&str, Option<u32>) {
    (&event.direction, event.pid)
}

#[test]
fn what_a_connection_in_time_wait_gets_and_answers_is_the_kernels() {
    if kernel() < (6, 11) {
        return nettop_tests::skip("kfree_skb does not have the socket before 6.11");
    }
    let alone = Namespace::new();
    let stream = Stream::packets(&["--port", "4000"]);
    let pair = Process::start(Some(&alone), |_| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let client = TcpStream::connect("127.0.0.1:4000").unwrap();
        let (server, _) = listener.accept().unwrap();
        // Who closes first waits.
        client.shutdown(std::net::Shutdown::Both).unwrap();
        drop(client);
        const FIN_WAIT2: &str = "05";
        wait_until("its FIN is acknowledged", || {
            let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            sockets.lines().any(|line| line.split_whitespace().nth(3) == Some(FIN_WAIT2))
        });
        drop(server);
        Moved::default()
    });
    let pid = pair.pid();
    pair.finish();
    let is_late =
        |event: &&Record| event.source_port == Some(4000) && event.tcp_flags.as_deref().unwrap().contains('F');
    stream.wait_for(|event| is_late(&event) && event.direction == "rx");
    let result = stream.stop();
    let late: Vec<_> = result.events.iter().filter(is_late).map(direction_and_pid).collect();
    let kernel = 0;
    assert_eq!(late, [("tx", Some(pid)), ("rx", Some(kernel))]);
    let answers = result.events.iter().filter(|event| event.destination_port == Some(4000));
    let answers: Vec<_> = answers.map(direction_and_pid).collect();
    assert_eq!(answers[answers.len() - 2..], [("tx", Some(kernel)), ("rx", Some(pid))]);
}

#[test]
fn only_selected_packets_are_shown() {
    let alone = Namespace::new();
    let send = |name: &'static str, to: &'static [u16]| {
        Process::start(Some(&alone), move |parent| {
            set_name(name.as_bytes());
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            parent.wait_for_parent();
            for port in to {
                socket.send_to(b"x", ("127.0.0.1", *port)).unwrap();
            }
            Moved::default()
        })
    };
    let netns = alone.inode();
    let of = |args: &[&str], pid_of_first: bool| {
        let first = send("first", &[5001, 5002]);
        let second = send("second", &[5001, 5003]);
        let pid = first.pid().to_string();
        let mut all = args.to_vec();
        if pid_of_first {
            all.extend(["-p", &pid]);
        }
        let stream = Stream::packets(&all);
        first.go();
        first.finish();
        second.go();
        second.finish();
        let result = stream.stop();
        let is_sent = |event: &&Record| event.netns == netns && event.direction == "tx" && event.protocol == "udp";
        let mut counts: BTreeMap<(String, u16), u64> = BTreeMap::new();
        for event in result.events.iter().filter(is_sent) {
            let key = (event.comm.clone().unwrap(), event.destination_port.unwrap());
            *counts.entry(key).or_default() += 1;
        }
        counts.into_iter().map(|((comm, port), count)| format!("{comm} {port} {count}")).collect::<Vec<_>>()
    };
    assert_eq!(of(&[], true), ["first 5001 1", "first 5002 1"]);
    assert_eq!(of(&["--port", "5001"], false), ["first 5001 1", "second 5001 1"]);
    assert_eq!(of(&["--port", "5001", "--port", "5003"], false), ["first 5001 1", "second 5001 1", "second 5003 1"]);
    assert_eq!(of(&["-c", "sec"], false), ["second 5001 1", "second 5003 1"]);
    assert_eq!(of(&["--host", "10.9.9.9"], false), [""; 0]);
    assert_eq!(of(&["--host", "127.0.0.1", "-i", "lo", "--port", "5002"], false), ["first 5002 1"]);
    assert_eq!(of(&["-u", "65533", "--port", "5002"], false), [""; 0]);
    assert_eq!(of(&["-u", "0", "--port", "5002"], false), ["first 5002 1"]);
    assert_eq!(of(&["-i", "nosuch0", "--port", "5002"], false), [""; 0]);
}

#[test]
fn a_super_packet_has_its_segments() {
    let (a, b) = veth_pair();
    let stream = Stream::packets(&["-i", "v0"]);
    let receiver = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
        parent.signal_ready();
        let received = (0..10).map(|_| socket.recv(&mut [0; 4000]).unwrap() as u64).sum();
        Moved { sent: 0, received }
    });
    receiver.wait_until_ready();
    Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, &1000_i32);
        socket.send_to(&[1; 9_500], "10.0.0.2:4000").unwrap();
        Moved::default()
    });
    assert_eq!(receiver.finish().received, 9_500);
    let result = stream.stop();
    let sent = result.events.iter().filter(|event| event.protocol == "udp");
    let sent: Vec<_> = sent.map(|event| (event.segments, event.bytes)).collect();
    assert_eq!(sent, [(10, 20 + 8 + 9_500)]);
}

#[test]
fn of_fragments_the_first_has_ports() {
    for (host, any, headers) in [("10.0.0.2", "0.0.0.0:5000", 20), ("fd00::2", "[::]:5000", 48)] {
        let (a, b) = veth_pair();
        let stream = Stream::packets(&["-i", "v0"]);
        let receiver = Process::start(Some(&b), |parent| {
            let socket = UdpSocket::bind((host, 4000)).unwrap();
            parent.signal_ready();
            Moved { sent: 0, received: socket.recv(&mut [0; 4000]).unwrap() as u64 }
        });
        receiver.wait_until_ready();
        Process::run(Some(&a), |_| {
            // A later fragment has no ports, but its first bytes look like some.
            UdpSocket::bind(any).unwrap().send_to(&[1; 4000], (host, 4000)).unwrap();
            Moved::default()
        });
        assert_eq!(receiver.finish().received, 4000);
        let result = stream.stop();
        let sent: Vec<&Record> = result.events.iter().filter(|event| event.protocol == "udp").collect();
        let ports: Vec<_> = sent.iter().map(|event| (event.source_port, event.destination_port)).collect();
        assert_eq!(ports, [(Some(5000), Some(4000)), (None, None), (None, None)], "{sent:#?}");
        let bytes: u32 = sent.iter().map(|event| event.bytes - headers).sum();
        assert_eq!(bytes, 8 + 4000, "{sent:#?}");
    }
}

#[test]
fn a_flood_of_packets_loses_nothing_silently() {
    let times = amount(500_000, 10_000);
    let alone = Namespace::new();
    let stream = Stream::counting(&["packets", "--port", "4000"]);
    let before_kib = stream.rss_kib();
    let flood = || {
        let flood = Process::start(Some(&alone), move |_| {
            let receiver = UdpSocket::bind("127.0.0.1:4000").unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..times {
                sender.send_to(b"x", "127.0.0.1:4000").unwrap();
            }
            drop(receiver);
            Moved::default()
        });
        flood.finish();
    };
    flood();
    let after_kib = stream.rss_kib();
    stream.wait_for_count(times * 2);
    let result = stream.stop();
    result.misses(times * 2);
    assert_eq!(result.shown + result.lost, result.seen);
    assert_eq!(result.shown, result.count);
    assert_eq!(result.events_lost, result.lost);
    assert!(after_kib < before_kib + 48 * 1024, "{before_kib} KiB became {after_kib}");
}

#[test]
fn a_reader_that_is_stuck_holds_nothing_up() {
    let alone = Namespace::new();
    for again in [false, true] {
        let mut child = nettopd_command()
            .args(["packets", "--format", "ndjson", "--port", "4000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        Process::run(Some(&alone), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..2000 {
                socket.send_to(b"x", "127.0.0.1:4000").unwrap();
            }
            Moved::default()
        });
        let pid = Pid::from_raw(child.id().cast_signed());
        kill(pid, Signal::SIGINT).unwrap();
        if again {
            // Once it has taken the first, and waits for the reader.
            sleep(Duration::from_millis(300));
            kill(pid, Signal::SIGINT).unwrap();
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        if again {
            assert_eq!(status.signal(), Some(libc::SIGINT), "{said}");
        } else {
            let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            // The datagram, and that nobody was there.
            assert_eq!((numbers[0], numbers[1] + numbers[2]), (4000, 4000), "{said}");
            assert!(numbers[2] > 0 && status.code() == Some(0), "{said}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let alone = Namespace::new();
    for command in ["packets", "connections"] {
        let mut child = nettopd_command().arg(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        drop(output);
        Process::run(Some(&alone), |_| {
            assert!(TcpStream::connect("127.0.0.1:4000").is_err());
            Moved::default()
        });
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{command}");
    }
}

#[test]
fn a_forwarded_packet_is_nobodys() {
    let (a, router) = veth_pair();
    let b = Namespace::new();
    router.ip(&format!("link add w0 type veth peer name w1 netns {}", b.pid()));
    for (namespace, device, address) in [(&router, "w0", "10.0.1.1/24"), (&b, "w1", "10.0.1.2/24")] {
        namespace.ip(&format!("addr add {address} dev {device}"));
        namespace.ip(&format!("link set {device} up"));
    }
    router.wait_until_up("w0");
    b.wait_until_up("w1");
    router.write("/proc/sys/net/ipv4/ip_forward", "1");
    a.ip("route add 10.0.1.0/24 via 10.0.0.2");
    b.ip("route add 10.0.0.0/24 via 10.0.1.1");
    // Else the datagram waits for an answer, and may leave before or after the call that sends it has shown the user.
    router.ip("link set v1 address 02:00:00:00:00:02");
    a.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    let stream = Stream::packets(&["--port", "4000"]);
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"through", "10.0.1.2:4000").unwrap();
        Moved::default()
    });
    stream.wait_for(|event| event.device == "w1" && event.protocol == "udp");
    let result = stream.stop();
    let by = |device: &str, direction: &str| {
        let is = |event: &&Record| event.device == device && event.direction == direction && event.protocol == "udp";
        result.events.iter().filter(is).map(|event| (event.pid, event.owner.as_ref())).collect::<Vec<_>>()
    };
    assert_eq!(by("v0", "tx"), [(Some(pid), "creator")]);
    assert_eq!(by("w0", "tx"), [(None, "none")]);
    assert_eq!(by("w1", "rx"), [(Some(0), "kernel")]);
}

#[test]
fn a_device_that_is_renamed_goes_on_under_its_new_name() {
    let (a, b) = veth_pair();
    let device = "v0";
    let stream = Stream::packets(&["-i", device, "--port", "4000"]);
    let talker = Process::start(Some(&a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        loop {
            let _ = socket.send_to(b"x", "10.0.0.2:4000");
            sleep(Duration::from_millis(20));
        }
    });
    // Each until it is reported: names are read each second.
    stream.wait_for(|event| event.device == device);
    a.ip(&format!("link set {device} down"));
    a.ip(&format!("link set {device} name renamed0"));
    a.ip("link set renamed0 up");
    stream.wait_for(|event| event.device == "renamed0");
    drop((talker, b));
    stream.stop();
}

#[test]
fn the_connection_that_carries_the_output_is_left_out() {
    let alone = Namespace::new();
    let run = |session: &str| {
        let mut command = nettopd_command();
        command.args(["packets", "--format", "csv", "--port", "4000"]).env("SSH_CONNECTION", session);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        Process::run(Some(&alone), |_| {
            for port in [4001, 4002] {
                let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
                socket.send_to(b"x", "127.0.0.1:4000").unwrap();
            }
            Moved::default()
        });
        // The second is shown after the first.
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.contains(",4002,")) {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            lines.push(line);
        }
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        (lines.iter().any(|line| line.contains(",4001,")), said)
    };
    let (has_own, said) = run("127.0.0.1 4001 127.0.0.1 4000");
    assert!(!has_own);
    assert!(said.starts_with("nettopd: packets of 127.0.0.1:4001 and 127.0.0.1:4000, by which"), "{said}");
    let (has_other, _) = run("127.0.0.1 4009 127.0.0.1 4000");
    assert!(has_other);
}
