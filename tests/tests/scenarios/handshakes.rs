//! Packets that complete a handshake on two CPUs at once: one makes the connection, and the other's passes the hook twice,
//! for the listener and for the connection (`req_stolen`).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Barrier,
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, amount,
    pairs::{assert_balanced, tun},
    wire,
};

const SYN: u8 = 2;
const ACK: u8 = 16;
const PORT: u16 = 4000;

/// A segment without data from the other end of the tun device.
struct Segment {
    is_v6: bool,
    port: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u8,
}

impl Segment {
    fn packet(&self) -> Vec<u8> {
        let (server, client): (&[u8], &[u8]) = if self.is_v6 {
            (b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02")
        } else {
            (&[10, 3, 0, 1], &[10, 3, 0, 2])
        };
        let mut tcp = [self.port.to_be_bytes(), PORT.to_be_bytes()].concat();
        tcp.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
        tcp.extend([0x50, self.flags, self.window, 0, 0, 0, 0, 0]);
        let pseudo_header = [client, server, &[0, 6, 0, 20]].concat();
        let sum = checksum(&[&pseudo_header[..], &tcp].concat());
        tcp[16..18].copy_from_slice(&sum);
        let mut ip = if self.is_v6 {
            b"\x60\0\0\0\0\x14\x06\x40".to_vec()
        } else {
            // All have the same identification, as those of a client that never fragments may.
            b"\x45\0\0\x28\0\0\0\0\x40\x06\0\0".to_vec()
        };
        ip.extend([client, server].concat());
        if !self.is_v6 {
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum);
        }
        [ip, tcp].concat()
    }
}

/// Of the Internet protocols.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()).to_be_bytes()
}

/// The sequence number that the server's answer to this port's SYN has.
fn answer_to(tun: &mut File, is_v6: bool, port: u16) -> u32 {
    let tcp = if is_v6 { 40 } else { 20 };
    let mut packet = [0; 2000];
    loop {
        let len = tun.read(&mut packet).unwrap();
        if len >= tcp + 20 && packet[tcp + 2..tcp + 4] == port.to_be_bytes() && packet[tcp + 13] == SYN | ACK {
            return u32::from_be_bytes(packet[tcp + 4..tcp + 8].try_into().unwrap());
        }
    }
}

#[test]
fn a_packet_that_completes_a_handshake_is_counted_once() {
    let connections = u16::try_from(amount(500, 100)).unwrap();
    for is_v6 in [false, true] {
        let nettopd = Nettopd::start(&[]);
        let alone = Namespace::new();
        let mut tun = alone.enter(|| tun("tun0"));
        alone.ip(if is_v6 { "addr add fd00::1/64 dev tun0 nodad" } else { "addr add 10.3.0.1/24 dev tun0" });
        alone.ip("link set tun0 up");
        let server = Process::start(Some(&alone), move |parent| {
            let listener = TcpListener::bind((if is_v6 { "fd00::1" } else { "10.3.0.1" }, PORT)).unwrap();
            parent.signal_ready();
            let accepted: Vec<_> = (0..connections).map(|_| listener.accept().unwrap()).collect();
            parent.signal_ready();
            parent.wait_for_parent();
            drop(accepted);
            Moved::default()
        });
        server.wait_until_ready();
        for port in 5000..5000 + connections {
            let syn = Segment { is_v6, port, flags: SYN, seq: 1, ack: 0, window: 32 };
            tun.write_all(&syn.packet()).unwrap();
            let seq = answer_to(&mut tun, is_v6, port);
            let both = Barrier::new(2);
            std::thread::scope(|scope| {
                for window in [32, 33] {
                    let ack = Segment { is_v6, port, flags: ACK, seq: 2, ack: seq.wrapping_add(1), window };
                    let (packet, tun, both) = (ack.packet(), &tun, &both);
                    scope.spawn(move || {
                        both.wait();
                        (&*tun).write_all(&packet).unwrap();
                    });
                }
            });
        }
        server.wait_until_ready();
        let document = nettopd.settled();
        let bytes = if is_v6 { 60 } else { 40 };
        assert_eq!(wire(&document, server.pid()).received, 3 * bytes * u64::from(connections));
        assert_balanced(&document, &alone);
    }
}
