//! The balance of one device for ten seconds: whether what nettopd takes its counters to count explains them.

use std::{thread::sleep, time::Duration};

use nettop_kernel::Kernel;
use nettop_model::{
    Filter, Sort,
    check::Proof,
    snapshot::{BasisReport, DeviceReport, DirectionBalance},
};

use super::proof::LIMITS;
use crate::{
    error::Usage,
    identity::devices::{Measured, source_of_driver},
    measure::{View, sampler::Sampler},
    sys::clock,
};

const WATCHED_S: u32 = 10;
/// A packet that passes while counters and rows are read is in only one of them. So the last reading is repeated at
/// other moments, and the one with the fewest such packets counts.
const LAST_READINGS: usize = 10;
const BETWEEN_LAST_READINGS: Duration = Duration::from_millis(97);
/// Fewer packets than these prove nothing.
const MIN_PACKETS: u64 = 100;

/// Watches a device of the own namespace: what do its counters count, and does that explain them?
///
/// # Errors
///
/// [`Usage`] if there is no such device, or no longer; [`nettop_kernel::Refusal`] if a capability or something in the
/// kernel is missing, which its message names; else if programs cannot be loaded, or rtnetlink does not list the devices.
pub(super) fn prove(kernel: &Kernel, name: &str) -> anyhow::Result<Vec<Proof>> {
    let is_absent = || Usage::new(format!("no device is named '{name}'"));
    let ifindex = nix::net::if_::if_nametoindex(name).map_err(|_| is_absent())?;
    let view = View {
        filter: Filter { devices: vec![name.to_owned()], ..Filter::default() },
        sort: Sort::Packets,
        only_busy: true,
        users: None,
        with_arguments: false,
        names_timeout: Duration::ZERO,
        since: clock::now(),
    };
    let programs = kernel.start(LIMITS, None)?;
    let mut sampler = Sampler::start(kernel, programs, view, false)?;
    // Each second may show what it counts.
    for _ in 0..WATCHED_S {
        sleep(Duration::from_secs(1));
        sampler.sample(0)?;
    }
    let netns = sampler.host();
    let is_it = |device: &DeviceReport| device.netns == netns.inode && device.device == name;
    let mut readings = Vec::new();
    for _ in 0..LAST_READINGS {
        sleep(BETWEEN_LAST_READINGS);
        readings.push(sampler.sample(0)?.devices.into_iter().find(is_it).ok_or_else(is_absent)?);
    }
    let unexplained = |side: &DirectionBalance, basis: &BasisReport| {
        let pending = (side.pending_packets, side.pending_bytes);
        (!basis.is_decided(), pending, side.unattributed_packets, side.unattributed_bytes)
    };
    let best_by = |side_of: fn(&DeviceReport) -> (&DirectionBalance, &BasisReport)| {
        let key = |device: &&DeviceReport| {
            let (side, basis) = side_of(device);
            unexplained(side, basis)
        };
        readings.iter().min_by_key(key).ok_or_else(is_absent)
    };
    let sent = best_by(|device| (&device.total.tx, &device.tx_basis))?;
    let received = best_by(|device| (&device.total.rx, &device.rx_basis))?;
    let source = match sent.driver.as_deref() {
        Some(driver) => source_of_driver(driver).unwrap_or("what was observed"),
        None => "its kind",
    };
    let [sent_measured, received_measured] = sampler.measured((netns, ifindex)).unwrap_or_default();
    let observed = |measured: Option<Measured>| match measured {
        Some(measured) => format!("; observed: {}", measured.words()),
        None if sent.driver.is_some() => "; what passed does not show it".to_owned(),
        None => String::new(),
    };
    Ok(vec![
        proof("device sent", name, &sent.total.tx, &sent.tx_basis, &format!("{source}{}", observed(sent_measured))),
        proof(
            "device received",
            name,
            &received.total.rx,
            &received.rx_basis,
            &format!("{source}{}", observed(received_measured)),
        ),
    ])
}

fn proof(what: &'static str, name: &str, side: &DirectionBalance, basis: &BasisReport, known_by: &str) -> Proof {
    if !basis.is_decided() {
        let reason = basis.reason.as_deref().unwrap_or_default();
        let found = format!("{name}: {} B in {} packets, undecided: {reason} ({known_by})", side.bytes, side.packets);
        return Proof { what: what.into(), holds: true, found };
    }
    let counts = format!("{}, {:+} B each, by {known_by}", basis.packets, basis.link_header_bytes);
    let holds = side.pending_bytes == 0 && side.pending_packets == 0;
    let verdict = if !holds {
        format!("; {} B in {} packets that the device did not count", side.pending_bytes, side.pending_packets)
    } else if side.packets < MIN_PACKETS {
        "; too little passed to prove it".to_owned()
    } else {
        String::new()
    };
    let found = format!(
        "{name}: {} B in {} packets, {} of them super-packets' segments not counted, {} B unattributed ({counts}){verdict}",
        side.bytes, side.packets, side.offload_packets, side.unattributed_bytes
    );
    Proof { what: what.into(), holds, found }
}
