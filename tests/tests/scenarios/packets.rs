//! `nettopd packets` against tcpdump on the same device, and against the processes that made the packets.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd as _, unix::process::ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use nettop_tests::{
    Moved, Namespace, Process, Stream, amount, kernel, nettopd_command,
    pairs::{read_all, set_option},
    set_name, veth_pair,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// What both must say of a packet: ends, flags, length, and whether it goes out.
type Packet = (String, u16, String, u16, String, u64, bool);

/// tcpdump, writing to a file.
struct Tcpdump {
    child: Child,
    /// Kept open: it says more when it ends.
    _said: BufReader<ChildStderr>,
}

impl Tcpdump {
    fn start(namespace: &Namespace, device: &str, to: &Path) -> Self {
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", device, "-U", "--immediate-mode", "-Z", "root", "-s", "200", "-w"])
            .arg(to)
            .args(["tcp", "or", "udp"]);
        let mut child = namespace.inside(command).stderr(Stdio::piped()).spawn().expect("tcpdump does not start");
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
        }
        Self { child, _said: said }
    }

    fn stop(mut self) {
        sleep(Duration::from_millis(300));
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
    }
}

/// Packets of a capture file, from Ethernet on; what leaves comes from one of `own`.
fn captured(path: &Path, own: &[&str]) -> Vec<Packet> {
    const FILE_HEADER: usize = 24;
    const PACKET_HEADER: usize = 16;
    const ETHERNET_HEADER: usize = 14;
    let file = std::fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(word(0), 0xa1b2_c3d4);
    let mut packets = Vec::new();
    let mut at = FILE_HEADER;
    while at < file.len() {
        let (kept, bytes) = (word(at + 8), word(at + 12));
        let frame = &file[at + PACKET_HEADER..at + PACKET_HEADER + kept];
        at += PACKET_HEADER + kept;
        let ip = &frame[ETHERNET_HEADER..];
        let (protocol, source, destination, transport) = if ip[0] >> 4 == 4 {
            let address = |at: usize| IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap()));
            (ip[9], address(12), address(16), &ip[usize::from(ip[0] & 15) * 4..])
        } else {
            let address = |at: usize| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap()));
            (ip[6], address(8), address(24), &ip[40..])
        };
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        let letters = [(0x20, 'U'), (0x10, 'A'), (0x08, 'P'), (0x04, 'R'), (0x02, 'S'), (0x01, 'F')];
        let flags = if protocol == 6 { transport[13] } else { 0 };
        let flags = letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect();
        let is_out = own.contains(&source.to_string().as_str());
        let bytes = (bytes - ETHERNET_HEADER) as u64;
        packets.push((source.to_string(), port(0), destination.to_string(), port(2), flags, bytes, is_out));
    }
    packets.sort();
    packets
}

fn told(events: &[Value]) -> Vec<Packet> {
    let of = |event: &Value| {
        let text = |what: &str| event[what].as_str().unwrap_or_default().to_owned();
        let port = |what: &str| u16::try_from(event[what].as_u64().unwrap()).unwrap();
        (
            text("source"),
            port("source_port"),
            text("destination"),
            port("destination_port"),
            text("tcp_flags"),
            event["bytes"].as_u64().unwrap(),
            event["direction"] == "tx",
        )
    };
    let is_either = |event: &&Value| event["protocol"] == "tcp" || event["protocol"] == "udp";
    let mut packets: Vec<Packet> = events.iter().filter(is_either).map(of).collect();
    packets.sort();
    packets
}

/// Takes a megabyte and answers; asks for it, and for ports where nobody is.
fn talk(here: &Namespace, there: &Namespace, host: &'static str) -> [u32; 2] {
    let server = Process::start(Some(there), move |parent| {
        let listener = TcpListener::bind((host, 4000)).unwrap();
        let udp = UdpSocket::bind((host, 4001)).unwrap();
        parent.tell();
        let (stream, _) = listener.accept().unwrap();
        let moved = read_all(stream);
        let (_, from) = udp.recv_from(&mut [0; 2000]).unwrap();
        udp.send_to(&[1; 100], from).unwrap();
        moved
    });
    server.wait_until_ready();
    let client = Process::start(Some(here), move |_| {
        let mut stream = TcpStream::connect((host, 4000)).unwrap();
        stream.write_all(&vec![7; 1 << 20]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let udp = UdpSocket::bind(if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        udp.send_to(&[0; 1200], (host, 4001)).unwrap();
        udp.recv_from(&mut [0; 2000]).unwrap();
        // Nobody is there.
        assert!(TcpStream::connect((host, 4002)).is_err());
        udp.send_to(&[0; 50], (host, 4003)).unwrap();
        Moved::default()
    });
    let pids = [client.pid(), server.pid()];
    client.finish();
    server.finish();
    // What remains is acknowledged.
    sleep(Duration::from_millis(300));
    pids
}

#[test]
fn packets_are_those_that_tcpdump_sees_with_their_owners() {
    for (host, ends) in [("10.0.0.2", ["10.0.0.1", "10.0.0.2"]), ("fd00::2", ["fd00::1", "fd00::2"])] {
        let (a, b) = veth_pair();
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let dumps = [Tcpdump::start(&a, "v0", &files[0]), Tcpdump::start(&b, "v1", &files[1])];
        let stream = Stream::start(&["packets", "-i", "v0", "-i", "v1"]);
        let [client, server] = talk(&a, &b, host);
        for dump in dumps {
            dump.stop();
        }
        let told_all = stream.stop();
        assert_eq!((told_all.lost, told_all.code), (0, Some(0)));
        for (namespace, file, own) in [(&a, &files[0], ends[0]), (&b, &files[1], ends[1])] {
            let events: Vec<Value> =
                told_all.events.iter().filter(|event| event["netns"] == namespace.inode()).cloned().collect();
            let (told, captured) = (told(&events), captured(file, &[own]));
            assert!(captured.len() > 20, "{captured:?}");
            assert_eq!(told, captured);
        }
        for event in told_all.events.iter().filter(|event| event["protocol"] == "tcp" || event["protocol"] == "udp") {
            let ports = [&event["source_port"], &event["destination_port"]].map(|port| port.as_u64().unwrap());
            let at_server = event["netns"] == b.inode();
            let is_answered_by_kernel = ports.iter().any(|port| [4002, 4003].contains(port)) && at_server;
            let whose = if is_answered_by_kernel {
                0
            } else if at_server {
                server
            } else {
                client
            };
            assert_eq!(event["pid"], whose, "{event}");
        }
    }
}

#[test]
fn what_a_connection_in_time_wait_gets_and_answers_is_the_kernels() {
    if kernel() < (6, 11) {
        return nettop_tests::skip("kfree_skb does not tell the socket before 6.11");
    }
    let alone = Namespace::new();
    let stream = Stream::start(&["packets", "--port", "4000"]);
    let pair = Process::start(Some(&alone), |_| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let client = TcpStream::connect("127.0.0.1:4000").unwrap();
        let (server, _) = listener.accept().unwrap();
        // Who closes first waits.
        client.shutdown(std::net::Shutdown::Both).unwrap();
        drop(client);
        sleep(Duration::from_millis(200));
        drop(server);
        Moved::default()
    });
    let pid = pair.pid();
    pair.finish();
    sleep(Duration::from_millis(300));
    let told = stream.stop();
    let is_late = |event: &&Value| event["source_port"] == 4000 && event["tcp_flags"].as_str().unwrap().contains('F');
    let late: Vec<_> = told.events.iter().filter(is_late).map(|event| (&event["direction"], &event["pid"])).collect();
    let [tx, rx] = ["tx", "rx"].map(Value::from);
    let [owner, kernel] = [pid, 0].map(Value::from);
    assert_eq!(late, [(&tx, &owner), (&rx, &kernel)]);
    let answers = told.events.iter().filter(|event| event["destination_port"] == 4000);
    let answers: Vec<_> = answers.map(|event| (&event["direction"], &event["pid"])).collect();
    assert_eq!(answers[answers.len() - 2..], [(&tx, &kernel), (&rx, &owner)]);
}

#[test]
fn only_packets_that_are_asked_for_are_told() {
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
        let mut all = vec!["packets"];
        all.extend_from_slice(args);
        if pid_of_first {
            all.extend_from_slice(&["-p", &pid]);
        }
        let stream = Stream::start(&all);
        first.go();
        first.finish();
        second.go();
        second.finish();
        sleep(Duration::from_millis(200));
        let told = stream.stop();
        let is_sent =
            |event: &&Value| event["netns"] == netns && event["direction"] == "tx" && event["protocol"] == "udp";
        let mut counts: BTreeMap<(String, u64), u64> = BTreeMap::new();
        for event in told.events.iter().filter(is_sent) {
            let key = (event["comm"].as_str().unwrap().to_owned(), event["destination_port"].as_u64().unwrap());
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
    const UDP_SEGMENT: i32 = 103;
    let (a, b) = veth_pair();
    let stream = Stream::start(&["packets", "-i", "v0"]);
    let receiver = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
        parent.tell();
        let received = (0..10).map(|_| socket.recv(&mut [0; 4000]).unwrap() as u64).sum();
        Moved { sent: 0, received }
    });
    receiver.wait_until_ready();
    Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        set_option(socket.as_raw_fd(), libc::SOL_UDP, UDP_SEGMENT, &1000_i32);
        socket.send_to(&[1; 9_500], "10.0.0.2:4000").unwrap();
        Moved::default()
    });
    assert_eq!(receiver.finish().received, 9_500);
    let told = stream.stop();
    let sent = told.events.iter().filter(|event| event["protocol"] == "udp");
    let sent: Vec<_> = sent.map(|event| (event["segments"].as_u64(), event["bytes"].as_u64())).collect();
    assert_eq!(sent, [(Some(10), Some(20 + 8 + 9_500))]);
}

#[test]
fn of_fragments_the_first_has_ports() {
    for (host, any, headers) in [("10.0.0.2", "0.0.0.0:5000", 20), ("fd00::2", "[::]:5000", 48)] {
        let (a, b) = veth_pair();
        let stream = Stream::start(&["packets", "-i", "v0"]);
        let receiver = Process::start(Some(&b), |parent| {
            let socket = UdpSocket::bind((host, 4000)).unwrap();
            parent.tell();
            Moved { sent: 0, received: socket.recv(&mut [0; 4000]).unwrap() as u64 }
        });
        receiver.wait_until_ready();
        Process::run(Some(&a), |_| {
            // What a later fragment begins with are no ports, and would pass for some.
            UdpSocket::bind(any).unwrap().send_to(&[1; 4000], (host, 4000)).unwrap();
            Moved::default()
        });
        assert_eq!(receiver.finish().received, 4000);
        let told = stream.stop();
        let sent: Vec<&Value> = told.events.iter().filter(|event| event["protocol"] == "udp").collect();
        let ports: Vec<_> =
            sent.iter().map(|event| (event["source_port"].as_u64(), event["destination_port"].as_u64())).collect();
        assert_eq!(ports, [(Some(5000), Some(4000)), (None, None), (None, None)], "{sent:#?}");
        let bytes: u64 = sent.iter().map(|event| event["bytes"].as_u64().unwrap() - headers).sum();
        assert_eq!(bytes, 8 + 4000, "{sent:#?}");
    }
}

#[test]
fn a_flood_of_packets_loses_nothing_silently() {
    let times = amount(500_000, 10_000);
    let alone = Namespace::new();
    let stream = Stream::start_counting(&["packets", "--port", "4000"]);
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
    sleep(Duration::from_secs(2));
    let told = stream.stop();
    told.misses(times * 2);
    assert_eq!(told.shown + told.lost, told.seen);
    assert_eq!(told.shown, told.count);
    assert_eq!(told.events_lost, told.lost);
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
    let stream = Stream::start(&["packets", "--port", "4000"]);
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"through", "10.0.1.2:4000").unwrap();
        Moved::default()
    });
    sleep(Duration::from_millis(300));
    let told = stream.stop();
    let by = |device: &str, direction: &str| {
        let is =
            |event: &&Value| event["device"] == device && event["direction"] == direction && event["protocol"] == "udp";
        told.events.iter().filter(is).map(|event| (event["pid"].clone(), event["owner"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(by("v0", "tx"), [(Value::from(pid), Value::from("creator"))]);
    assert_eq!(by("w0", "tx"), [(Value::Null, Value::from("none"))]);
    assert_eq!(by("w1", "rx"), [(Value::from(0), Value::from("kernel"))]);
}
