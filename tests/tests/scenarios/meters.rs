//! `nettopd sockets SECONDS`: what each socket moved, against what was sent and what TCP itself counts.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::{Child, Stdio},
    time::Instant,
};

use nettop_model::sockets::{self, Document, SocketReport};
use nettop_tests::{Moved, Namespace, Process, kernel, nettopd_command};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A `nettopd sockets` that watches until a signal.
struct Watch(Child);

impl Watch {
    /// Every packet from here on is counted.
    fn start() -> Self {
        let mut command = nettopd_command();
        command.args(["sockets", "60", "--verbose", "--numeric", "--format", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("counting the packets of each socket"), "{line}");
        Self(child)
    }

    fn finish(self) -> Document {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success());
        let document: Document = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document.packets_uncounted, Some(0));
        document
    }
}

/// The only socket of a namespace at these ports.
fn socket_at<'a>(document: &'a Document, namespace: &Namespace, local: u16, remote: u16) -> &'a SocketReport {
    let at = (namespace.inode(), Some(local), Some(remote));
    let found = document.sockets.iter().filter(|socket| (socket.netns, socket.local_port, socket.remote_port) == at);
    let found: Vec<&SocketReport> = found.collect();
    assert_eq!(found.len(), 1, "{local} {remote}: {document:#?}");
    found[0]
}

/// Packets and bytes, sent and received.
fn moved(socket: &SocketReport) -> [u64; 4] {
    let sockets::Moved { tx, rx } = socket.interval.unwrap();
    [tx.packets, tx.bytes, rx.packets, rx.bytes]
}

#[test]
fn datagrams_stand_at_their_sockets_whoever_sends_them() {
    let alone = Namespace::new();
    for (address, headers) in [("127.0.0.1", 28), ("::1", 48)] {
        let address: IpAddr = address.parse().unwrap();
        let pair = Process::start(Some(&alone), |parent| {
            let server = UdpSocket::bind((address, 4000)).unwrap();
            let client = UdpSocket::bind((address, 4001)).unwrap();
            client.connect((address, 4000)).unwrap();
            // Before anybody watches.
            client.send(&[0; 1000]).unwrap();
            parent.signal_ready();
            parent.wait_for_parent();
            let late = UdpSocket::bind((address, 4002)).unwrap();
            for _ in 0..10 {
                client.send(&[1; 100]).unwrap();
            }
            // SAFETY: the process has one thread.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => {
                    client.send(&[2; 7]).unwrap();
                    // SAFETY: ends the child without the test harness's own exit handlers.
                    unsafe { libc::_exit(0) }
                }
                nix::unistd::ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None).unwrap()),
            }
            for _ in 0..3 {
                server.send_to(&[3; 50], (address, 4001)).unwrap();
            }
            parent.signal_ready();
            parent.wait_for_parent();
            drop((server, client, late));
            Moved::default()
        });
        pair.wait_until_ready();
        let watch = Watch::start();
        let begun = Instant::now();
        pair.go();
        pair.wait_until_ready();
        let done = begun.elapsed();
        let document = watch.finish();
        let ended = begun.elapsed();
        let [to_server, to_client] = [10 * (100 + headers) + 7 + headers, 3 * (50 + headers)];
        let client = socket_at(&document, &alone, 4001, 4000);
        assert_eq!(moved(client), [11, to_server, 3, to_client], "{client:#?}");
        assert!(client.age_ms.is_none(), "it is older than the listing: {client:#?}");
        assert_eq!(moved(socket_at(&document, &alone, 4000, 0)), [3, to_client, 11, to_server]);
        let late = socket_at(&document, &alone, 4002, 0);
        assert_eq!(moved(late), [0; 4]);
        // Born between the beginning and `done`, listed between `done` and the end.
        let age = u128::from(late.age_ms.unwrap());
        assert!(age <= ended.as_millis(), "{age} of {ended:?}");
        assert!(document.interval_ms.unwrap() >= u64::try_from(done.as_millis()).unwrap());
    }
}

/// TCP's own counters of a connection, linux/tcp.h: segments sent and received, bytes of data sent (again as well), and
/// reports that something arrived twice. A slow machine does send again.
fn counters(stream: &TcpStream) -> [u64; 4] {
    const SEGS_OUT: usize = 136;
    const SEGS_IN: usize = 140;
    const BYTES_SENT: usize = 200;
    const DSACK_DUPS: usize = 216;
    let mut info = [0_u8; 232];
    let mut len = libc::socklen_t::try_from(info.len()).unwrap();
    let (fd, to) = (stream.as_raw_fd(), info.as_mut_ptr().cast());
    // SAFETY: the kernel writes at most `len` bytes, which are there.
    let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut len) };
    assert_eq!(result, 0);
    let word = |at: usize| u64::from(u32::from_ne_bytes(info[at..at + 4].try_into().unwrap()));
    let bytes_sent = u64::from_ne_bytes(info[BYTES_SENT..BYTES_SENT + 8].try_into().unwrap());
    [word(SEGS_OUT), word(SEGS_IN), bytes_sent, word(DSACK_DUPS)]
}

#[test]
fn a_connection_has_what_tcp_says_and_its_listener_the_handshake() {
    const SENT: u64 = 1_000_003;
    const ANSWER: u64 = 70_001;
    let alone = Namespace::new();
    for (address, headers) in [("127.0.0.1", 52), ("::1", 72)] {
        let address: IpAddr = address.parse().unwrap();
        let pair = Process::start(Some(&alone), |parent| {
            let listener = TcpListener::bind((address, 4000)).unwrap();
            // Older than the listing: only what it moves later counts.
            let mut old = TcpStream::connect((address, 4000)).unwrap();
            let mut old_server = listener.accept().unwrap().0;
            old.write_all(&[0; 5000]).unwrap();
            old_server.read_exact(&mut [0; 5000]).unwrap();
            parent.send_number(old.local_addr().unwrap().port().into());
            parent.wait_for_parent();
            let mut client = TcpStream::connect((address, 4000)).unwrap();
            let mut server = listener.accept().unwrap().0;
            let silent = TcpStream::connect((address, 4000)).unwrap();
            let _silent_server = listener.accept().unwrap().0;
            let before = [counters(&old), counters(&old_server)];
            old.write_all(b"x").unwrap();
            old_server.read_exact(&mut [0]).unwrap();
            let mut twin = client.try_clone().unwrap();
            let sender = std::thread::spawn(move || twin.write_all(&vec![1; SENT as usize]).unwrap());
            server.read_exact(&mut vec![0; SENT as usize]).unwrap();
            server.write_all(&vec![2; ANSWER as usize]).unwrap();
            client.read_exact(&mut vec![0; ANSWER as usize]).unwrap();
            sender.join().unwrap();
            // Delayed acknowledgements.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let after = [counters(&old), counters(&old_server)];
            parent.send_number(client.local_addr().unwrap().port().into());
            parent.send_number(silent.local_addr().unwrap().port().into());
            let differences =
                after.as_flattened().iter().zip(before.as_flattened()).map(|(after, before)| after - before);
            for count in counters(&client).into_iter().chain(counters(&server)).chain(differences) {
                parent.send_number(count);
            }
            parent.wait_for_parent();
            drop(listener);
            Moved::default()
        });
        let old = pair.wait_until_ready();
        let watch = Watch::start();
        let begun = Instant::now();
        pair.go();
        let [client, silent] = [(); 2].map(|()| pair.wait_until_ready());
        let [new, old_told] = [(); 2].map(|()| [(); 2].map(|()| [(); 4].map(|()| pair.wait_until_ready())));
        let document = watch.finish();
        let ended = begun.elapsed();
        let at = |local: u64, remote: u64| {
            socket_at(&document, &alone, u16::try_from(local).unwrap(), u16::try_from(remote).unwrap())
        };
        // What a client moved, by both ends' counters. A report of what came twice takes 12 bytes.
        let truth = |[ours, theirs]: [[u64; 4]; 2]| {
            let [sent, received, bytes, reports] = ours;
            [sent, bytes + sent * headers + theirs[3] * 12, received, theirs[2] + received * headers + reports * 12]
        };
        let [out, out_bytes, back, back_bytes] = moved(at(client, 4000));
        assert!(new[0][2] >= SENT && new[1][2] >= ANSWER);
        // A SYN has 8 bytes more of options.
        assert_eq!([out, out_bytes - 8, back, back_bytes - 8], truth(new));
        // The listener got what came before the connection was there: SYN and ACK, also of the silent one.
        let syn = headers + 8;
        assert_eq!(moved(at(4000, client)), [back - 1, back_bytes - syn, out - 2, out_bytes - syn - headers]);
        let listener = at(4000, 0);
        let answers = moved(listener);
        // Those of IPv6 met no hook in 6.1, see docs/coverage.md.
        let has_answers = address.is_ipv4() || kernel() != (6, 1);
        assert_eq!(answers[2..], [4, 2 * (syn + headers)], "{listener:#?}");
        assert_eq!(moved(at(4000, silent)), [0; 4]);
        assert_eq!(answers[..2], if has_answers { [2, 2 * syn] } else { [0; 2] }, "{listener:#?}");
        assert_eq!(moved(at(silent, 4000)), [2, syn + headers, 1, syn]);
        assert_eq!(moved(at(old, 4000)), truth(old_told));
        assert_eq!(at(client, 4000).tcp.as_ref().unwrap().segments_sent.map(u64::from), Some(out));
        // The connection that moved nothing of its own has an age as well.
        for (local, remote, is_known) in
            [(client, 4000, true), (4000, client, true), (4000, silent, true), (4000, 0, false), (old, 4000, false)]
        {
            let age = at(local, remote).age_ms;
            assert_eq!(age.is_some(), is_known, "{local} {remote}");
            assert!(age.is_none_or(|age| (300..=ended.as_millis()).contains(&age.into())), "{age:?} of {ended:?}");
        }
    }
}
