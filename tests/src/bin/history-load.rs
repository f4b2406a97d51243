//! Writes slots to a history as fast as it can, and reports each that is written, until it is killed.

#![forbid(unsafe_code)]

use std::io::Write as _;

use anyhow::Context as _;
use nettop_history::{Limits, SLOT_S, Store};
use nettop_tests::history::{RESTART_MS, origin, slot};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("no path")?;
    let mut ts: i64 = args.next().context("no time to begin at")?.parse()?;
    let mut store = Store::open(path.as_ref(), Limits::default(), &origin(), ts)?;
    // Started again in the slot where it was killed: of that, the last seven seconds are measured.
    let mut late_ms = RESTART_MS;
    loop {
        let mut slot = slot(ts);
        slot.begin_ms += std::mem::take(&mut late_ms);
        store.write(&[slot])?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{ts}")?;
        out.flush()?;
        ts += SLOT_S;
    }
}
