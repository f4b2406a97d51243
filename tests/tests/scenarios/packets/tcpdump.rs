//! What tcpdump sees of the same packets.

use super::*;

/// tcpdump, writing to a file.
struct Tcpdump {
    child: Child,
    /// Kept open: it prints more at its end.
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
        // It reads what waits in its socket: nothing shows when that was all.
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
    let file = fs::read(path).unwrap();
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

fn shown<'a>(events: impl Iterator<Item = &'a Record>) -> Vec<Packet> {
    let of = |event: &Record| {
        (
            event.source.clone(),
            event.source_port.unwrap(),
            event.destination.clone(),
            event.destination_port.unwrap(),
            event.tcp_flags.clone().unwrap_or_default(),
            event.bytes.into(),
            event.direction == "tx",
        )
    };
    let is_either = |event: &&Record| event.protocol == "tcp" || event.protocol == "udp";
    let mut packets: Vec<Packet> = events.filter(is_either).map(of).collect();
    packets.sort();
    packets
}

/// Takes a megabyte and answers; asks for it, and for ports where nobody is.
fn talk(here: &Namespace, there: &Namespace, host: &'static str) -> [u32; 2] {
    let server = Process::start(Some(there), move |parent| {
        let listener = TcpListener::bind((host, 4000)).unwrap();
        let udp = UdpSocket::bind((host, 4001)).unwrap();
        parent.signal_ready();
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
    // What remains is acknowledged, after 0.2 s at most (TCP_DELACK_MAX).
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
        let stream = Stream::packets(&["-i", "v0", "-i", "v1"]);
        let [client, server] = talk(&a, &b, host);
        for dump in dumps {
            dump.stop();
        }
        let told_all = stream.stop();
        assert_eq!((told_all.lost, told_all.code), (0, Some(0)));
        for (namespace, file, own) in [(&a, &files[0], ends[0]), (&b, &files[1], ends[1])] {
            let events = told_all.events.iter().filter(|event| event.netns == namespace.inode());
            let (shown, captured) = (shown(events), captured(file, &[own]));
            assert!(captured.len() > 20, "{captured:?}");
            assert_eq!(shown, captured);
        }
        for event in told_all.events.iter().filter(|event| event.protocol == "tcp" || event.protocol == "udp") {
            let ports = [event.source_port, event.destination_port];
            let at_server = event.netns == b.inode();
            let is_answered_by_kernel = ports.iter().any(|port| [Some(4002), Some(4003)].contains(port)) && at_server;
            let whose = if is_answered_by_kernel {
                0
            } else if at_server {
                server
            } else {
                client
            };
            assert_eq!(event.pid, Some(whose), "{event:?}");
        }
    }
}
