//! Addresses that mean different things in different places: those of one link, and those of IPv4 that an IPv6 socket has.

use std::{
    io::Read as _,
    net::{SocketAddrV6, TcpListener, TcpStream, UdpSocket},
};

use nettop_model::sockets::{Document, SocketReport};
use nettop_tests::{Moved, Namespace, Process, Stream, run_nettopd};
use nix::net::if_::if_nametoindex;

fn sockets(args: &[&str]) -> Vec<SocketReport> {
    let output = run_nettopd(&[&["sockets", "-n", "--format", "json"], args].concat());
    serde_json::from_slice::<Document>(&output.stdout).unwrap().sockets
}

#[test]
fn an_address_of_one_link_has_its_device_everywhere() {
    let alone = Namespace::new();
    alone.ip("link add d0 type veth peer name d1");
    alone.ip("link set d0 up");
    alone.ip("link set d1 up");
    alone.ip("addr add fe80::1/64 dev d0 nodad");
    let connections = Stream::connections(&["--udp", "--port", "4000"]);
    let packets = Stream::packets(&["--port", "4000"]);
    let talker = Process::start(Some(&alone), |parent| {
        let here = |port| SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, if_nametoindex("d0").unwrap());
        let listener = TcpListener::bind(here(4000)).unwrap();
        let mut from = TcpStream::connect(here(4000)).unwrap();
        let (to, _) = listener.accept().unwrap();
        let socket = UdpSocket::bind(here(4000)).unwrap();
        socket.send_to(b"x", here(4000)).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        drop(to);
        assert_eq!(from.read(&mut [0]).unwrap(), 0);
        Moved::default()
    });
    talker.wait_until_ready();
    let listed = sockets(&["-p", &talker.pid().to_string()]);
    assert!(listed.iter().any(|socket| socket.local == "[fe80::1%d0]:4000"), "{listed:#?}");
    let remote = |socket: &&SocketReport| socket.state == "established";
    assert!(
        listed.iter().filter(remote).all(|socket| socket.remote_address.as_deref() == Some("fe80::1%d0")),
        "{listed:#?}"
    );
    let pid = talker.pid();
    talker.go();
    talker.finish();
    let result = connections.stop();
    for event in ["accepted", "opened", "sent", "closed"] {
        assert!(result.of(event, pid).next().is_some() || result.runs_skipped > 0, "{event}: {result:#?}");
    }
    for event in result.events.iter().filter(|event| event.pid == Some(pid)) {
        // A datagram's device is the one that it takes: to the machine's own address, lo.
        let device = if event.protocol == "udp" { "lo" } else { "d0" };
        let address = format!("fe80::1%{device}");
        assert!(event.local == address && event.remote == address, "{event:#?}");
    }
    let result = packets.stop();
    assert!(!result.events.is_empty());
    // The kernel sends them through lo, where d0 is not to be seen.
    assert!(result.events.iter().all(|event| event.source.starts_with("fe80::1%")), "{result:#?}");
}

#[test]
fn a_mapped_address_is_one_of_version_4_everywhere() {
    let alone = Namespace::new();
    let connections = Stream::connections(&["--opened"]);
    let talker = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("[::]:4000").unwrap();
        let _from = TcpStream::connect("[::ffff:127.0.0.1]:4000").unwrap();
        let _to = listener.accept().unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    talker.wait_until_ready();
    let pid = talker.pid();
    let of = |args: &[&str]| -> Vec<(String, u8)> {
        let listed = sockets(&[&["-p", &pid.to_string()], args].concat());
        let mut found: Vec<_> =
            listed.iter().map(|socket| (socket.state.to_string(), socket.ip_version.unwrap())).collect();
        found.sort();
        found
    };
    let established = || ("established".to_owned(), 4);
    let listener = || ("listen".to_owned(), 6);
    assert_eq!(of(&[]), [established(), established(), listener()]);
    assert_eq!(of(&["-i", "4tcp"]), [established(), established()]);
    assert_eq!(of(&["-i", "6tcp"]), [listener()]);
    talker.go();
    talker.finish();
    let result = connections.stop();
    assert!(result.of("opened", pid).all(|event| event.ip_version == 4), "{result:#?}");
}
