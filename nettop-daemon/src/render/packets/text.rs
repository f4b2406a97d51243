//! Packets in lines for people: tcpdumplike.stp's columns, and what it did not know behind them.

use std::fmt::Write as _;

use nettop_common::{Direction, PacketEvent, abi::IPPROTO_TCP, packet::unowned};

use nettop_model::ProcessNames;

use super::{FLAGS, protocol};
use crate::{
    identity::address::Address,
    render::ancestry::ancestry,
    sys::{clock::Clock, escape::escape_c},
};

pub fn header(text: &mut String) {
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        " {:>15} {:>15}  {:>5}  {:>5}  U  A  P  R  S  F  {:<15} DIR {:>6} {:>4} {:<15} {:>7} COMMAND",
        "Source IP", "Dest IP", "SPort", "DPort", "TIME", "BYTES", "SEGS", "DEVICE", "PID"
    );
}

/// One packet, with what its process is if that is wanted.
pub fn line(text: &mut String, event: &PacketEvent, device: &str, process: Option<&ProcessNames>, clock: &Clock) {
    let [source, destination] = [event.source, event.destination].map(|end| Address::from(end).scoped(Some(device)));
    let _ = write!(text, " {source:>15} {destination:>15}  {:>5}  {:>5}  ", event.source_port, event.destination_port);
    if u16::from(event.protocol) == IPPROTO_TCP {
        for flag in FLAGS {
            let _ = write!(text, "{}  ", u8::from(event.tcp_flags & flag != 0));
        }
    } else {
        let _ = write!(text, "{:<18}", protocol(event.protocol).to_uppercase());
    }
    let direction = if event.direction == Direction::Tx as u8 { "tx" } else { "rx" };
    let (pid, command) = match event.attribution {
        unowned::NOBODY => ("-".into(), "-".into()),
        unowned::KERNEL => ("0".into(), "[kernel]".into()),
        _ => {
            let comm = escape_c(&event.comm);
            (event.owner.tgid.to_string(), process.map_or_else(|| comm.clone(), |process| ancestry(&comm, process)))
        }
    };
    let time = clock.of_day(event.time_ns);
    let (bytes, segments) = (event.bytes, event.segments);
    let _ = writeln!(text, "{time} {direction:<3} {bytes:>6} {segments:>4} {device:<15} {pid:>7} {command}");
}
