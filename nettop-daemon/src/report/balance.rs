//! The devices' books: what rows say against what the interface's own counters say, on the interface's basis.

use std::collections::BTreeMap;

use nettop_common::{Direction, Netns};

use super::model::{Books, DeviceReport, Side, Word};
use crate::{
    identity::devices::{Basis, Counters, Device, DeviceKey, Devices},
    ledger::{DeviceReading, Flows, Reading, accumulate},
};

/// Accumulates from the first reading on.
#[derive(Default)]
pub struct Balance {
    last: BTreeMap<DeviceKey, Counters>,
    totals: BTreeMap<DeviceKey, Books>,
    /// What rows counted on devices that could not be read yet: their counters hold it already.
    waiting: BTreeMap<DeviceKey, DeviceReading>,
}

impl Balance {
    /// Starts from the devices' counters as they are.
    pub fn new(devices: &Devices) -> Self {
        let last = devices.iter().map(|(key, device)| (*key, device.counters)).collect();
        Self { last, totals: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// The books of the interval, for the host's devices and those of every namespace that had traffic.
    pub fn update(&mut self, reading: &Reading, devices: &Devices) -> Vec<DeviceReport> {
        for (key, more) in &reading.devices {
            let rows = self.waiting.entry(*key).or_default();
            accumulate(&mut rows.processes, &more.processes);
            accumulate(&mut rows.kernel, &more.kernel);
            accumulate(&mut rows.copies, &more.copies);
        }
        self.waiting.retain(|(netns, _), _| reading.namespaces.contains_key(netns));
        self.last.retain(|key, _| devices.get(*key).is_some());
        self.totals.retain(|key, _| devices.get(*key).is_some());
        let is_wanted = |netns: &Netns| devices.host() == *netns || reading.namespaces.contains_key(netns);
        let reports = devices.iter().filter(|((netns, _), _)| is_wanted(netns)).map(|(key, device)| {
            let total = self.totals.entry(*key).or_default();
            let mut interval = Books::default();
            if devices.is_fresh(key.0) {
                let rows = self.waiting.remove(key).unwrap_or_default();
                // A device that was not there at the start began at zero.
                let before = self.last.insert(*key, device.counters).unwrap_or_default();
                interval = books(device, &before, &rows);
                add(total, &interval);
            }
            DeviceReport {
                netns: key.0.inode,
                netns_cookie: key.0.cookie,
                device: device.name.clone(),
                ifindex: key.1,
                basis: Word::from(match device.basis {
                    Basis::Skb => "skb",
                    Basis::Wire => "wire",
                }),
                tx_link_header_bytes: device.link_header_bytes[Direction::Tx as usize],
                rx_link_header_bytes: device.link_header_bytes[Direction::Rx as usize],
                interval,
                total: *total,
            }
        });
        reports.collect()
    }
}

fn books(device: &Device, before: &Counters, rows: &DeviceReading) -> Books {
    let now = &device.counters;
    let side = |bytes: u64, packets: u64, way: Direction| {
        let (attributed_bytes, attributed_packets) = on_basis(device, &rows.processes, way);
        let (kernel_bytes, kernel_packets) = on_basis(device, &rows.kernel, way);
        let (copied_bytes, copied_packets) = on_basis(device, &rows.copies, way);
        Side {
            bytes,
            packets,
            attributed_bytes,
            attributed_packets,
            kernel_bytes,
            kernel_packets,
            copied_bytes,
            copied_packets,
            unattributed_bytes: (bytes + copied_bytes).wrapping_sub(attributed_bytes + kernel_bytes).cast_signed(),
            unattributed_packets: (packets + copied_packets)
                .wrapping_sub(attributed_packets + kernel_packets)
                .cast_signed(),
        }
    };
    Books {
        tx: side(
            now.tx_bytes.saturating_sub(before.tx_bytes),
            now.tx_packets.saturating_sub(before.tx_packets),
            Direction::Tx,
        ),
        rx: side(
            now.rx_bytes.saturating_sub(before.rx_bytes),
            now.rx_packets.saturating_sub(before.rx_packets),
            Direction::Rx,
        ),
    }
}

/// Bytes and packets one way, as the device's own counters would count them.
fn on_basis(device: &Device, flows: &Flows, way: Direction) -> (u64, u64) {
    let flow = &flows[way as usize];
    let (bytes, packets) = match device.basis {
        Basis::Skb => (flow.skb_bytes, flow.skbs),
        Basis::Wire => (flow.skb_bytes + flow.gso_bytes, flow.skbs + flow.gso_packets),
    };
    (bytes + packets * u64::from(device.link_header_bytes[way as usize]), packets)
}

fn add(total: &mut Books, more: &Books) {
    for (total, more) in [(&mut total.tx, &more.tx), (&mut total.rx, &more.rx)] {
        total.bytes += more.bytes;
        total.packets += more.packets;
        total.attributed_bytes += more.attributed_bytes;
        total.attributed_packets += more.attributed_packets;
        total.kernel_bytes += more.kernel_bytes;
        total.kernel_packets += more.kernel_packets;
        total.copied_bytes += more.copied_bytes;
        total.copied_packets += more.copied_packets;
        total.unattributed_bytes += more.unattributed_bytes;
        total.unattributed_packets += more.unattributed_packets;
    }
}
