//! Forwarded traffic: whose it is of the devices on its way, and what reports show of each pair.
//!
//! The kernel counts a packet for the topmost device that received it and each that sends it: a bridge, then its port. All
//! of these sent it; it was received once.

use std::collections::{BTreeMap, HashMap, HashSet};

use nettop_common::{Forwarded, row::GSO_MAX_SIZE};
use nettop_kernel::ledger::{DeviceKey, DeviceReading, PairReading};
use nettop_model::{
    Filter,
    snapshot::{ForwardedAmount, ForwardedReport},
};

use crate::identity::devices::{Device, Devices, RX, TX};

/// Adds the interval of all pairs to the readings of their devices.
pub fn add(pairs: &[PairReading], devices: &Devices, readings: &mut BTreeMap<DeviceKey, DeviceReading>) {
    let known: HashSet<(DeviceKey, u32)> = pairs.iter().map(|pair| (received(pair), pair.key.sent_on)).collect();
    let uppers = uppers(devices);
    for pair in pairs.iter().filter(|pair| pair.interval != Forwarded::default()) {
        let (from, to) = (received(pair), sent(pair));
        let [from_device, to_device] = [from, to].map(|key| devices.get(key));
        // An ifb hands packets back: they pass a second time.
        if [from_device, to_device].into_iter().flatten().any(|device| device.identity.kind == "ifb") {
            continue;
        }
        let family = pair.key.family as usize & 1;
        let is_part = |device: Option<&Device>| device.is_some_and(|device| device.setup.master.is_some());
        let sent_above = uppers.get(&to).into_iter().flatten().any(|upper| known.contains(&(from, *upper)));
        let reading = readings.entry(to).or_default();
        reading.forwarded[family][TX].add(&pair.interval);
        if is_part(to_device) || sent_above {
            reading.forwarded_tagged[TX] += pair.interval.skbs;
        }
        let (Some(from_device), Some(to_device)) = (from_device, to_device) else { continue };
        if sent_above || is_part_of_another(from_device, to, to_device, devices) {
            continue;
        }
        let reading = readings.entry(from).or_default();
        reading.forwarded[family][RX].add(&pair.interval);
        if is_part(Some(from_device)) {
            reading.forwarded_tagged[RX] += pair.interval.skbs;
        }
        let cuts = cuts(from_device, to_device, family);
        let cut = pair.interval.ordinary.iter().zip(cuts).filter(|(_, cuts)| *cuts);
        reading.forwarded_cut += cut.map(|(packets, _)| packets).sum::<u64>();
    }
}

/// The pairs, the busiest first.
pub fn reports(pairs: &[PairReading], devices: &Devices, filter: &Filter) -> Vec<ForwardedReport> {
    let mut joined = BTreeMap::<(DeviceKey, u32), ForwardedReport>::new();
    for pair in pairs.iter().filter(|pair| !filter.hidden_families[pair.key.family as usize & 1]) {
        let report = joined.entry((received(pair), pair.key.sent_on)).or_insert_with(|| ForwardedReport {
            netns: pair.key.netns.inode,
            netns_cookie: pair.key.netns.cookie,
            received_on: devices.get(received(pair)).map(|device| device.name.clone()),
            received_on_ifindex: (pair.key.received_on != 0).then_some(pair.key.received_on),
            sent_on: devices.get(sent(pair)).map(|device| device.name.clone()),
            sent_on_ifindex: pair.key.sent_on,
            interval: ForwardedAmount::default(),
            total: ForwardedAmount::default(),
        });
        for (amount, more) in [(&mut report.interval, &pair.interval), (&mut report.total, &pair.total)] {
            amount.packets += more.skbs + more.gso_packets;
            amount.bytes += more.skb_bytes + more.gso_bytes;
        }
    }
    let mut reports: Vec<ForwardedReport> = joined.into_values().filter(|report| filter.admits_pair(report)).collect();
    reports.sort_by_key(|report| std::cmp::Reverse((report.interval.bytes, report.total.bytes)));
    reports
}

/// All devices that are named.
pub fn named(pairs: &[PairReading]) -> HashSet<DeviceKey> {
    pairs.iter().flat_map(|pair| [received(pair), sent(pair)]).collect()
}

const fn received(pair: &PairReading) -> DeviceKey {
    (pair.key.netns, pair.key.received_on)
}

const fn sent(pair: &PairReading) -> DeviceKey {
    (pair.key.netns, pair.key.sent_on)
}

/// Whether a bridge, bond or team has sent the packets before, so that they were received for that, and not passed from one
/// port of a bridge to another.
fn is_part_of_another(from: &Device, to: DeviceKey, to_device: &Device, devices: &Devices) -> bool {
    let Some(master) = to_device.setup.master else { return false };
    let is_vrf = || devices.get((to.0, master)).is_some_and(|device| device.identity.kind == "vrf");
    from.setup.master != Some(master) && !is_vrf()
}

/// Devices that send through another, by that.
fn uppers(devices: &Devices) -> HashMap<DeviceKey, Vec<u32>> {
    let mut uppers = HashMap::<_, Vec<u32>>::new();
    for ((netns, ifindex), device) in devices.iter() {
        if let Some(lower) = device.lower() {
            uppers.entry((*netns, lower)).or_default().push(*ifindex);
        }
    }
    uppers
}

/// Whether the stack segments super-packets that one received before the other sends them: of TCP, of UDP.
fn cuts(from: &Device, to: &Device, family: usize) -> [bool; 2] {
    let limit = |device: &Device| device.setup.gso_max_bytes[family];
    let is_limited = limit(to) < limit(from).max(GSO_MAX_SIZE);
    [!to.whole.tcp[family] || is_limited, !to.whole.udp || is_limited]
}

#[cfg(test)]
mod tests;
