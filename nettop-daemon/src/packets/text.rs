//! Packets in lines for people: tcpdumplike.stp's columns, and what it did not know behind them.

use std::fmt::Write as _;

use nettop_common::{Direction, PacketEvent, packet::found};

use super::record::protocol;
use crate::{clock::Clock, identity::escape::escape_c, sockets::Address};

/// U, A, P, R, S and F: bits of the TCP header.
pub const FLAGS: [u8; 6] = [0x20, 0x10, 0x08, 0x04, 0x02, 0x01];

pub fn header(text: &mut String) {
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        " {:>15} {:>15}  {:>5}  {:>5}  U  A  P  R  S  F  {:<15} DIR {:>6} {:>4} {:<8} {:>7} COMMAND",
        "Source IP", "Dest IP", "SPort", "DPort", "TIME", "BYTES", "SEGS", "DEVICE", "PID"
    );
}

pub fn line(text: &mut String, event: &PacketEvent, device: &str, clock: &Clock) {
    let [source, destination] = [event.source, event.destination].map(|end| Address::from(end).to_string());
    let _ = write!(text, " {source:>15} {destination:>15}  {:>5}  {:>5}  ", event.source_port, event.destination_port);
    if event.protocol == 6 {
        for flag in FLAGS {
            let _ = write!(text, "{}  ", u8::from(event.tcp_flags & flag != 0));
        }
    } else {
        let _ = write!(text, "{:<18}", protocol(event.protocol).to_uppercase());
    }
    let way = if event.direction == Direction::Tx as u8 { "out" } else { "in" };
    let (pid, command) = match event.found {
        found::NOBODY => ("-".into(), "-".into()),
        found::KERNEL => ("0".into(), "[kernel]".into()),
        _ => (event.owner.tgid.to_string(), escape_c(&event.comm)),
    };
    let time = clock.of_day(event.time_ns);
    let (bytes, segments) = (event.bytes, event.segments);
    let _ = writeln!(text, "{time} {way:<3} {bytes:>6} {segments:>4} {device:<8} {pid:>7} {command}");
}
