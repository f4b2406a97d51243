//! The balance of one device for ten seconds: whether what nettopd takes its counters to count explains them.

use std::{ops::Range, thread::sleep, time::Duration};

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
/// Seconds whose readings show what was pending early: the balance has settled then, and the device counts for some
/// seconds more.
const EARLY: Range<usize> = 5..8;
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
    let netns = sampler.host();
    let is_it = |device: &DeviceReport| device.netns == netns.inode && device.device == name;
    let mut read_after = |pause| {
        sleep(pause);
        sampler.sample(0)?.devices.into_iter().find(is_it).ok_or_else(|| is_absent().into())
    };
    // Each second may show what it counts.
    let seconds = (0..WATCHED_S).map(|_| read_after(Duration::from_secs(1))).collect::<anyhow::Result<Vec<_>>>()?;
    let early = seconds.get(EARLY).unwrap_or_default();
    let readings = (0..LAST_READINGS).map(|_| read_after(BETWEEN_LAST_READINGS)).collect::<anyhow::Result<Vec<_>>>()?;
    let unexplained = |side: &DirectionBalance, basis: &BasisReport| {
        let pending = (side.pending_packets, side.pending_bytes);
        (!basis.is_decided(), pending, side.unattributed_packets, side.unattributed_bytes)
    };
    let best_by = |side_of: fn(&DeviceReport) -> (&DirectionBalance, &BasisReport)| {
        let key = |device: &&DeviceReport| {
            let (side, basis) = side_of(device);
            unexplained(side, basis)
        };
        let best = readings.iter().min_by_key(key).ok_or_else(is_absent)?;
        let (side, basis) = side_of(best);
        let before = early.iter().map(side_of).filter(|(_, before)| *before == basis);
        anyhow::Ok((best, is_explained(side, before.map(|(side, _)| side))))
    };
    let (sent, explains_sent) = best_by(|device| (&device.total.tx, &device.tx_basis))?;
    let (received, explains_received) = best_by(|device| (&device.total.rx, &device.rx_basis))?;
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
    let known_by = |measured| format!("{source}{}", observed(measured));
    let of = |what, side, basis, holds, measured| proof(what, name, (side, basis), holds, &known_by(measured));
    Ok(vec![
        of("device sent", &sent.total.tx, &sent.tx_basis, explains_sent, sent_measured),
        of("device received", &received.total.rx, &received.rx_basis, explains_received, received_measured),
    ])
}

/// Whether the device counted all that passed. Rows are read before the device, and packets pass in between: if fewer did
/// than when the balance began or settled, some are pending for ever. They were pending `before` as well; what the device
/// does not count grows.
fn is_explained<'a>(now: &DirectionBalance, mut before: impl Iterator<Item = &'a DirectionBalance>) -> bool {
    let was_as_much = |before: &DirectionBalance| {
        before.pending_packets >= now.pending_packets && before.pending_bytes >= now.pending_bytes
    };
    !is_pending(now) || before.any(was_as_much)
}

const fn is_pending(side: &DirectionBalance) -> bool {
    side.pending_packets > 0 || side.pending_bytes > 0
}

fn proof(
    what: &'static str,
    name: &str,
    (side, basis): (&DirectionBalance, &BasisReport),
    holds: bool,
    known_by: &str,
) -> Proof {
    if !basis.is_decided() {
        let reason = basis.reason.as_deref().unwrap_or_default();
        let found = format!("{name}: {} B in {} packets, undecided: {reason} ({known_by})", side.bytes, side.packets);
        return Proof { what: what.into(), holds: true, found };
    }
    let counts = format!("{}, {:+} B each, by {known_by}", basis.packets, basis.link_header_bytes);
    let verdict = if !holds {
        format!("; {} B in {} packets that the device did not count", side.pending_bytes, side.pending_packets)
    } else if side.packets < MIN_PACKETS {
        "; too little passed to prove it".to_owned()
    } else if is_pending(side) {
        let (bytes, packets) = (side.pending_bytes, side.pending_packets);
        format!("; {bytes} B in {packets} packets are pending, and no more than early on")
    } else {
        String::new()
    };
    let found = format!(
        "{name}: {} B in {} packets, {} of them super-packets' segments not counted, {} B unattributed ({counts}){verdict}",
        side.bytes, side.packets, side.offload_packets, side.unattributed_bytes
    );
    Proof { what: what.into(), holds, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(packets: u64) -> DirectionBalance {
        DirectionBalance { pending_packets: packets, pending_bytes: 100 * packets, ..DirectionBalance::default() }
    }

    #[test]
    fn what_was_pending_early_proves_nothing_and_what_grows_does() {
        let early = [pending(0), pending(2), pending(1)];
        assert!(is_explained(&pending(0), [].into_iter()) && !is_explained(&pending(1), [].into_iter()));
        assert!(is_explained(&pending(2), early.iter()));
        assert!(!is_explained(&pending(3), early.iter()));
    }
}
