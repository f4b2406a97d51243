//! The live proof: a connection of nettopd's own over loopback, whose every figure is known, looked up in the ledger.
//! An offset that is wrong shows here.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::Context as _;
use nettop_common::{Direction, owner};
use nettop_kernel::{
    Limits, boot,
    ledger::{Flows, Ledger, Presence, RowReading, accumulate},
    netns,
};
use nettop_model::{Word, check::Proof};
use procfs::process::Process;

use crate::sys::escape::escape;

/// Rows are needed for one process only, but all that hold a socket have been given an owner before.
pub(super) const LIMITS: Limits = Limits { rows: 8192, drops: 64 };

const STREAM_BYTES: usize = 10_000;
const DATAGRAM_BYTES: usize = 123;

/// Moves known bytes and compares.
///
/// # Errors
///
/// If loopback cannot be used.
pub(super) fn prove(mut ledger: Ledger) -> anyhow::Result<Vec<Proof>> {
    ledger.read(|_| false, |_| Presence::Present);
    exchange().context("cannot make a connection over loopback for the proof; is lo up?")?;
    let me = std::process::id();
    let reading = ledger.read(|row| row.key.owner >= owner::FIRST && row.owner.key.tgid == me, |_| Presence::Present);
    let Some(row) = reading.rows.first() else {
        return Ok(vec![Proof { what: "pid".into(), holds: false, found: format!("no row for pid {me}") }]);
    };
    let mut sum = Flows::default();
    for row in &reading.rows {
        accumulate(&mut sum, &row.total);
    }
    Ok(compare(row, &sum))
}

fn exchange() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut from = TcpStream::connect(listener.local_addr()?)?;
    let (mut to, _) = listener.accept()?;
    to.set_read_timeout(Some(Duration::from_secs(5)))?;
    from.write_all(&[0; STREAM_BYTES])?;
    to.read_exact(&mut [0; STREAM_BYTES])?;
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    to.set_read_timeout(Some(Duration::from_secs(5)))?;
    from.send_to(&[0; DATAGRAM_BYTES], to.local_addr()?)?;
    to.recv(&mut [0; DATAGRAM_BYTES])?;
    Ok(())
}

fn compare(row: &RowReading, sum: &Flows) -> Vec<Proof> {
    let process = Process::myself().ok();
    let start_ticks = process.as_ref().and_then(|process| process.stat().ok()).map(|stat| stat.starttime);
    let uid = process.as_ref().and_then(|process| process.uid().ok());
    let netns = netns::current().ok();
    let lo = nix::net::if_::if_nametoindex("lo").ok();
    let comm = std::fs::read("/proc/self/comm").unwrap_or_default();
    let name: Vec<u8> = row.owner.comm.iter().copied().take_while(|byte| *byte != 0).collect();
    let key = &row.owner.key;
    let bytes = (STREAM_BYTES + DATAGRAM_BYTES) as u64;
    let proof = |what, holds, found: String| Proof { what: Word::Borrowed(what), holds, found };
    let side = |what, direction: Direction| {
        let flow = &sum[direction as usize];
        let expected = flow.app_bytes == bytes && flow.skb_bytes > bytes;
        proof(what, expected, format!("{} app bytes of {bytes}, {} on the wire", flow.app_bytes, flow.skb_bytes))
    };
    vec![
        proof("pid", key.tgid == std::process::id(), key.tgid.to_string()),
        proof("uid", Some(key.uid) == uid, key.uid.to_string()),
        proof(
            "start time",
            Some(boot::start_ticks(key.start_time_ns)) == start_ticks,
            format!("{} ns since boot", key.start_time_ns),
        ),
        proof("name", name == comm.trim_ascii_end(), escape(&name)),
        proof(
            "namespace",
            Some(row.key.netns) == netns,
            format!("{} with cookie {}", row.key.netns.inode, row.key.netns.cookie),
        ),
        proof("device", Some(row.key.ifindex) == lo, format!("interface {}", row.key.ifindex)),
        side("sent", Direction::Tx),
        side("received", Direction::Rx),
    ]
}
