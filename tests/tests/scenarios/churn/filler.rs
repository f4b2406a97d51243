//! An unprivileged user who tries to fill each table from namespaces of his own.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
};

use nettop_tests::{
    Moved, Process, netns_cookie,
    sockets::{send_frame, socket},
    unshare_as_nobody,
};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
    unistd::{ForkResult, fork, pause},
};

use super::{devices::pairs, size::amount};
use crate::handshakes::checksum;

/// Between so many devices, packets take more pairs than there is room for.
const ROUTED: u8 = 65;

/// Starts him with devices in pairs. Once he has filled what he can, he sends his namespace's cookie, and keeps all.
pub fn filler(devices: u64) -> Process {
    Process::start(None, move |parent| {
        let batch = tempfile::NamedTempFile::new().unwrap();
        fs::write(batch.path(), pairs(devices / 2) + &routes()).unwrap();
        let batch = fs::File::open(batch.path()).unwrap();
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, files, files).unwrap();
        unshare_as_nobody().unwrap();
        let ip = |args: &[&str], input: Stdio| {
            assert!(Command::new("ip").args(args).stdin(input).status().unwrap().success(), "{args:?}");
        };
        ip(&["link", "set", "lo", "up"], Stdio::null());
        ip(&["-batch", "-"], batch.into());
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        take_rows();
        let _pairs = associate();
        take_ports();
        let link = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
        drop_kinds(&link);
        forward(&link);
        parent.send_number(netns_cookie().into());
        parent.wait_for_parent();
        Moved::default()
    })
}

/// Rows and owners, by processes, and kinds of drops, by datagrams that nobody takes.
fn take_rows() {
    start_children(amount(3600, 200), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in 1..5 {
            // Refused with an error, or not.
            let _ = socket.send_to(&[0; 10], (Ipv4Addr::LOCALHOST, port));
        }
    });
}

/// Has processes that stay each do something, one after the other.
fn start_children<T>(number: u64, work: impl Fn(u64) -> T) {
    for number in 0..number {
        let (mut done, theirs) = UnixStream::pair().unwrap();
        // SAFETY: this process has one thread, and its child never returns.
        if let ForkResult::Child = unsafe { fork() }.unwrap() {
            set_pdeathsig(Signal::SIGKILL).unwrap();
            let _kept = work(number);
            (&theirs).write_all(&[1]).unwrap();
            loop {
                pause();
            }
        }
        drop(theirs);
        done.read_exact(&mut [0]).unwrap();
    }
}

/// Associations, by addresses and by pairs of sockets.
fn associate() -> Vec<UdpSocket> {
    let addresses = ["0.0.0.0:0", "[::]:0"].into_iter().cycle();
    let bound: Vec<_> = addresses.take(400).map(|address| UdpSocket::bind(address).unwrap()).collect();
    for pair in bound.windows(3) {
        let host = if pair[0].local_addr().unwrap().is_ipv4() { "127.0.0.1" } else { "::1" };
        let _ = pair[0].send_to(&[0; 10], (host, pair[2].local_addr().unwrap().port()));
    }
    for host in 0..u32::try_from(amount(70_000, 2000)).unwrap() {
        let _ = bound[0].send_to(&[0; 10], (Ipv4Addr::from(0x7f01_0000 + host), 9));
    }
    bound
}

/// Bound ports and listeners, from several processes: one may have too few files for all.
fn take_ports() {
    start_children(amount(9, 1), |number| {
        let addresses = |network| {
            let host = Ipv4Addr::new(127, network, 0, 1 + u8::try_from(number).unwrap());
            let ports = 2000..2000 + u16::try_from(amount(6000, 300)).unwrap();
            ports.map(move |port| SocketAddrV4::new(host, port))
        };
        let bound: Vec<_> = addresses(2).map(|address| UdpSocket::bind(address).unwrap()).collect();
        // Known is a listener that got a packet.
        let connected = |address| (TcpListener::bind(address).unwrap(), TcpStream::connect(address).unwrap());
        (bound, addresses(3).map(connected).collect::<Vec<_>>())
    });
}

/// Kinds of drops, by protocols that nobody knows.
fn drop_kinds(link: &OwnedFd) {
    const FIRST: u16 = 0x1000;
    for protocol in FIRST..FIRST + u16::try_from(amount(8192, 500)).unwrap() {
        send_frame(link, "b1", mac(1), protocol, &[0; 46]);
    }
}

const fn mac(device: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, device]
}

/// Commands of `ip -batch` for networks that packets are routed between.
fn routes() -> String {
    (1..=ROUTED).fold(String::new(), |mut text, number| {
        writeln!(
            text,
            "link set a{number} address 02:00:00:00:00:{number:02x}\naddr add 10.0.{number}.1/24 dev a{number}\n\
             neigh add 10.0.{number}.2 lladdr 02:00:00:00:01:{number:02x} dev a{number} nud permanent"
        )
        .unwrap();
        text
    })
}

/// Pairs of devices, by packets from each to each other.
fn forward(link: &OwnedFd) {
    for from in 1..=ROUTED {
        for to in (1..=ROUTED).filter(|to| *to != from) {
            // A header of IPv4 and nothing behind it.
            let mut packet = *b"\x45\0\0\x14\0\0\0\0\x40\xfd\0\0\x0a\0\0\x02\x0a\0\0\x02";
            (packet[14], packet[18]) = (from, to);
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum);
            send_frame(link, &format!("b{from}"), mac(from), 0x0800, &packet);
        }
    }
}
