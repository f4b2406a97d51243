//! Drops: counts, reasons, places and owners, against the kernel's own statistics of the same namespace.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process::Command,
    time::Duration,
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process,
    drops::{drops, function, lost, netstat, nft_counted, nft_drop, packets, snmp},
    kernel,
    pairs::{socket, tun},
};
use nix::sys::socket::{SockaddrIn, bind, setsockopt, sockopt};
use serde_json::Value;

/// Before 6.11 the kernel does not say whose socket was to receive.
fn tells_receivers() -> bool {
    kernel() >= (6, 11)
}

#[test]
fn datagrams_that_find_the_buffer_full_are_the_receivers() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let receiver = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &2048).unwrap();
        parent.tell();
        parent.wait_for_parent();
        Moved::default()
    });
    receiver.wait_until_ready();
    alone.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..50 {
            socket.send_to(&[0; 500], "127.0.0.1:4000").unwrap();
        }
    });
    let document = nettopd.settled();
    let full = drops(&document, &alone, "SOCKET_RCVBUFF");
    let lost = snmp(&alone, "Udp", "RcvbufErrors");
    assert!(lost > 30, "{lost}");
    assert_eq!(packets(&full), lost, "{full:#?}");
    let drop = full[0];
    assert_eq!((drop["class"].as_str(), drop["protocol"].as_str()), (Some("capacity"), Some("UDP")), "{drop:#}");
    assert_eq!(drop["device"], "lo", "{drop:#}");
    assert!(function(drop).starts_with("udp_") || function(drop).starts_with("__udp_"), "{drop:#}");
    if tells_receivers() {
        assert_eq!((&drop["pid"], &drop["owner"]), (&receiver.pid().into(), &"receiver".into()), "{drop:#}");
    }
    receiver.go();
    receiver.finish();
}

#[test]
fn packets_to_closed_ports_are_nobodys() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    alone.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..7 {
            socket.send_to(&[0; 10], "127.0.0.1:9").unwrap();
            assert!(TcpStream::connect("127.0.0.1:9").is_err());
        }
    });
    let document = nettopd.settled();
    let closed = drops(&document, &alone, "NO_SOCKET");
    for protocol in ["UDP", "TCP"] {
        let of: Vec<&Value> = closed.iter().copied().filter(|drop| drop["protocol"] == protocol).collect();
        assert_eq!(packets(&of), 7, "{protocol}: {closed:#?}");
        let drop = of[0];
        assert_eq!((&drop["class"], &drop["device"]), (&"routing".into(), &"lo".into()), "{drop:#}");
        assert_eq!((&drop["pid"], &drop["owner"]), (&Value::Null, &"none".into()), "{drop:#}");
    }
    assert_eq!(snmp(&alone, "Udp", "NoPorts"), 7);
}

#[test]
fn what_a_firewall_drops_on_output_is_the_senders() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 4000");
    let (pid, _) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..11 {
            // EPERM, which the kernel tells the sender as well.
            assert!(socket.send_to(&[0; 10], "127.0.0.1:4000").is_err());
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let dropped = drops(&document, &alone, "NETFILTER_DROP");
    assert_eq!(packets(&dropped), 11, "{dropped:#?}");
    let drop = dropped[0];
    assert_eq!((&drop["pid"], &drop["owner"]), (&pid.into(), &"packet".into()), "{drop:#}");
    assert_eq!((&drop["class"], &drop["protocol"]), (&"policy".into(), &"UDP".into()), "{drop:#}");
}

#[test]
fn what_a_full_queue_drops_is_the_senders_though_send_succeeded() {
    const SENT: u64 = 20;
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = nettop_tests::veth_pair();
    // Room for the first datagrams only, and then nothing for seconds.
    a.run("tc", "qdisc add dev v0 root tbf rate 8kbit burst 1600 limit 3200");
    a.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(&[0; 1000], "10.0.0.2:4000").unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let reported: Vec<&Value> = document["drops"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|drop| drop["netns"] == a.inode() && drop["class"] == "capacity")
        .collect();
    let mut tc = Command::new("tc");
    tc.args(["-s", "-j", "qdisc", "show", "dev", "v0"]);
    let qdiscs: Value = serde_json::from_slice(&a.inside(tc).output().unwrap().stdout).unwrap();
    let lost = qdiscs.as_array().unwrap().iter().map(|qdisc| qdisc["drops"].as_u64().unwrap()).max().unwrap();
    assert!(lost > 10, "{lost}");
    assert_eq!(packets(&reported), lost, "{reported:#?}");
    let drop = reported[0];
    assert_eq!((&drop["pid"], &drop["device"]), (&pid.into(), &"v0".into()), "{drop:#}");
}

#[test]
fn a_neighbour_that_does_not_answer_costs_the_sender_its_packets() {
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = nettop_tests::veth_pair();
    a.write("/proc/sys/net/ipv4/neigh/v0/retrans_time_ms", "100");
    let (pid, _) = Process::run(Some(&a), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..3 {
            let _ = socket.send_to(&[0; 10], "10.0.0.99:4000");
        }
        std::thread::sleep(Duration::from_millis(1500));
        Moved::default()
    });
    let document = nettopd.settled();
    let failed = drops(&document, &a, "NEIGH_FAILED");
    assert_eq!(packets(&failed), 3, "{:#}", document["drops"]);
    let drop = failed[0];
    assert_eq!(
        (&drop["pid"], &drop["device"], &drop["class"]),
        (&pid.into(), &"v0".into(), &"routing".into()),
        "{drop:#}"
    );
}

#[test]
fn ordinary_connections_lose_nothing() {
    const CONNECTIONS: u64 = 200;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.tell();
        for _ in 0..CONNECTIONS {
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut [0; 2]).unwrap();
            stream.write_all(b"ok").unwrap();
        }
        Moved::default()
    });
    server.wait_until_ready();
    alone.enter(|| {
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect("127.0.0.1:4000").unwrap();
            stream.write_all(b"hi").unwrap();
            stream.read_exact(&mut [0; 2]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
    server.finish();
    let document = nettopd.settled();
    let here = document["drops"].as_array().unwrap().iter().filter(|drop| drop["netns"] == alone.inode());
    let (lifecycle, lost): (Vec<&Value>, Vec<&Value>) = here.partition(|drop| drop["class"] == "lifecycle");
    assert!(lost.is_empty(), "{lost:#?}");
    if kernel() >= (6, 2) {
        // On a slow machine some segments are sent twice.
        let ends: Vec<&Value> = lifecycle.into_iter().filter(|drop| drop["reason"] != "TCP_OLD_DATA").collect();
        assert_eq!(packets(&ends), CONNECTIONS, "{ends:#?}");
    }
}

/// Runs something that starts processes, none of which has CAP_SYSLOG.
fn without_syslog<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const CAP_SYSLOG: libc::c_ulong = 34;
    let inside = || {
        // SAFETY: takes no pointers, and concerns this thread and those it starts.
        assert_eq!(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYSLOG, 0, 0, 0) }, 0);
        work()
    };
    std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
}

#[test]
fn names_of_functions_need_neither_open_kallsyms_nor_cap_syslog() {
    const RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";
    struct Restored(String);
    impl Drop for Restored {
        fn drop(&mut self) {
            std::fs::write(RESTRICT, &self.0).unwrap();
        }
    }
    let _before = Restored(std::fs::read_to_string(RESTRICT).unwrap());
    std::fs::write(RESTRICT, "2").unwrap();
    assert!(std::fs::read_to_string("/proc/kallsyms").unwrap().starts_with("0000000000000000 "));
    let nettopd = without_syslog(|| Nettopd::start(&[]));
    let alone = Namespace::new();
    alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:9").unwrap());
    let document = nettopd.settled();
    let drop = drops(&document, &alone, "NO_SOCKET")[0];
    assert!(function(drop).contains("udp"), "{drop:#}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", nettopd.pid())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    assert_eq!(u64::from_str_radix(effective.trim(), 16).unwrap() >> 34 & 1, 0, "{status}");
}

/// A process that binds UDP sockets to these addresses, and then waits.
fn holder(namespace: &Namespace, addresses: &[&str]) -> Process {
    let holder = Process::start(Some(namespace), |parent| {
        let _sockets: Vec<UdpSocket> = addresses.iter().map(|address| UdpSocket::bind(address).unwrap()).collect();
        parent.tell();
        parent.wait_for_parent();
        Moved::default()
    });
    holder.wait_until_ready();
    holder
}

#[test]
fn what_a_firewall_drops_on_input_is_whose_port_it_was_for() {
    let alone = Namespace::new();
    let before = holder(&alone, &["0.0.0.0:4000"]);
    let nettopd = Nettopd::start(&[]);
    let one = holder(&alone, &["127.0.0.2:4001"]);
    let both = holder(&alone, &["[::]:4002", "127.0.0.3:4001"]);
    nft_drop(&alone, "input", "udp dport 4000-4009");
    let send = |to: &[(&str, usize)]| {
        alone.enter(|| {
            for (address, packets) in to {
                let socket = UdpSocket::bind(if address.contains('[') { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
                (0..*packets).for_each(|_| assert_eq!(socket.send_to(&[0; 10], address).unwrap(), 10));
            }
        });
    };
    send(&[("127.0.0.1:4000", 3), ("127.0.0.2:4001", 5), ("127.0.0.3:4001", 7), ("127.0.0.4:4001", 2)]);
    send(&[("127.0.0.1:4002", 11), ("[::1]:4002", 13), ("127.0.0.1:4009", 17)]);
    let document = nettopd.settled();
    let dropped = drops(&document, &alone, "NETFILTER_DROP");
    let of = |pid: &Value| packets(&dropped.iter().copied().filter(|drop| &drop["pid"] == pid).collect::<Vec<_>>());
    assert_eq!(of(&before.pid().into()), 3, "{dropped:#?}");
    assert_eq!(of(&one.pid().into()), 5, "{dropped:#?}");
    assert_eq!(of(&both.pid().into()), 7 + 11 + 13, "{dropped:#?}");
    assert_eq!(of(&Value::Null), 2 + 17, "{dropped:#?}");
    assert_eq!(packets(&dropped), nft_counted(&alone));
    for drop in &dropped {
        let owner = if drop["pid"].is_null() { "none" } else { "address" };
        assert_eq!((&drop["owner"], &drop["device"], &drop["class"]), (&owner.into(), &"lo".into(), &"policy".into()));
    }
    // What is closed is nobody's any more.
    both.go();
    both.finish();
    send(&[("127.0.0.1:4002", 1)]);
    let document = nettopd.settled();
    let dropped = drops(&document, &alone, "NETFILTER_DROP");
    let nobodys: Vec<&Value> = dropped.iter().copied().filter(|drop| drop["pid"].is_null()).collect();
    assert_eq!(packets(&nobodys), 2 + 17 + 1, "{dropped:#?}");
}

#[test]
fn a_port_that_several_share_is_the_lasts_to_bind_it() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let worker = || {
        let worker = Process::start(Some(&alone), |parent| {
            let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
            bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4000)).unwrap();
            parent.tell();
            parent.wait_for_parent();
            Moved::default()
        });
        worker.wait_until_ready();
        worker
    };
    let (old, new) = (worker(), worker());
    old.go();
    old.finish();
    nft_drop(&alone, "input", "udp dport 4000");
    alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 10], "127.0.0.1:4000").unwrap());
    let document = nettopd.settled();
    let dropped = drops(&document, &alone, "NETFILTER_DROP");
    assert_eq!((packets(&dropped), &dropped[0]["pid"]), (1, &new.pid().into()), "{dropped:#?}");
}

/// Two namespaces with a router between: 10.1.0.2 behind `v0` and 10.2.0.2 behind `v1` of the router.
fn routed() -> (Namespace, Namespace, Namespace) {
    let (a, router, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (number, (host, device)) in [(&a, "v0"), (&b, "v1")].into_iter().enumerate() {
        let network = format!("10.{}.0", number + 1);
        router.ip(&format!("link add {device} type veth peer name v netns {}", host.pid()));
        router.ip(&format!("addr add {network}.1/24 dev {device}"));
        router.ip(&format!("link set {device} up"));
        host.ip(&format!("addr add {network}.2/24 dev v"));
        host.ip("link set v up");
        host.wait_until_up("v");
        host.ip(&format!("route add default via {network}.1"));
    }
    router.write("/proc/sys/net/ipv4/ip_forward", "1");
    (a, router, b)
}

#[test]
fn what_a_router_cannot_pass_on_is_nobodys_and_on_its_device() {
    let (a, router, _b) = routed();
    // A server of the router's on the same port has nothing to do with it.
    let _bystander = holder(&router, &["0.0.0.0:4000"]);
    let nettopd = Nettopd::start(&[]);
    a.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // Answers come back as errors, which the next call returns.
        let send = |to: &str| while socket.send_to(&[0; 10], to).is_err() {};
        socket.set_ttl(1).unwrap();
        (0..5).for_each(|_| send("10.2.0.2:4000"));
        socket.set_ttl(64).unwrap();
        (0..7).for_each(|_| send("192.0.2.1:4000"));
    });
    let document = nettopd.settled();
    let lost = lost(&document, &router);
    for drop in &lost {
        assert_eq!((&drop["pid"], &drop["device"]), (&Value::Null, &"v0".into()), "{drop:#}");
    }
    let (expired, unroutable): (Vec<&Value>, Vec<&Value>) =
        lost.into_iter().partition(|drop| function(drop) == "ip_forward");
    assert_eq!(packets(&expired), snmp(&router, "Ip", "InHdrErrors"), "{expired:#?}");
    assert_eq!(packets(&expired), 5);
    assert_eq!((&expired[0]["reason"], &expired[0]["class"]), (&"IP_INHDR".into(), &"routing".into()));
    assert_eq!(packets(&unroutable), netstat(&router, "IpExt", "InNoRoutes"), "{unroutable:#?}");
    assert_eq!(packets(&unroutable), 7);
}

#[test]
fn a_bad_checksum_is_found_on_the_device_and_told_to_whom_it_was_for() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    alone.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let mut tun = alone.enter(|| tun("tun0"));
    alone.ip("addr add 10.3.0.1/24 dev tun0");
    alone.ip("link set tun0 up");
    let server = holder(&alone, &["10.3.0.1:4000"]);
    for _ in 0..9 {
        // Of 10.3.0.2 to 10.3.0.1, port 4000, with 4 bytes, and a checksum that is none.
        let mut packet =
            *b"\x45\0\0\x20\0\0\0\0\x40\x11\0\0\x0a\x03\0\x02\x0a\x03\0\x01\x30\x39\x0f\xa0\0\x0c\xba\xdeabcd";
        let sum: u32 = packet[..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
        tun.write_all(&packet).unwrap();
    }
    let document = nettopd.settled();
    let damaged = drops(&document, &alone, "UDP_CSUM");
    assert_eq!(packets(&damaged), 9, "{:#?}", lost(&document, &alone));
    assert_eq!(snmp(&alone, "Udp", "InCsumErrors"), 9);
    let drop = damaged[0];
    assert_eq!((&drop["pid"], &drop["class"]), (&server.pid().into(), &"corruption".into()), "{drop:#}");
    assert_eq!((&drop["device"], &drop["owner"]), (&"tun0".into(), &"address".into()), "{drop:#}");
}
