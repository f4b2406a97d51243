//! What documents count again and again, each with all that names it.

use std::collections::{BTreeMap, HashMap};

use nettop_model::{
    Snapshot,
    snapshot::{Amount, Count, DeviceBalance, DeviceReport, ForwardedAmount, RowReport, Traffic},
};

/// Namespace, its cookie, and interface index: what names a device.
pub(super) type DeviceId = (u32, u32, u32);

/// One thing that documents count again and again.
pub(super) struct Item {
    /// All that names it.
    pub(super) identity: String,
    /// The device it is on, where it can go with that.
    pub(super) device: Option<DeviceId>,
    pub(super) names: &'static [&'static str],
    pub(super) totals: Vec<u64>,
    /// How many of a document's entries look like this.
    pub(super) entries: usize,
    /// Empty where documents have none.
    pub(super) intervals: Vec<u64>,
}

/// Counters of [`traffic`].
pub(super) const TRAFFIC: [&str; 6] =
    ["tx.bytes", "tx.packets", "tx.app_bytes", "rx.bytes", "rx.packets", "rx.app_bytes"];
pub(super) const ROW: [&str; 8] =
    ["tx.bytes", "tx.packets", "tx.app_bytes", "rx.bytes", "rx.packets", "rx.app_bytes", "drops", "retransmits"];
pub(super) const BALANCE: [&str; 20] = [
    "tx.bytes",
    "tx.packets",
    "tx.attributed_bytes",
    "tx.attributed_packets",
    "tx.kernel_bytes",
    "tx.kernel_packets",
    "tx.forwarded_bytes",
    "tx.forwarded_packets",
    "tx.copied_bytes",
    "tx.copied_packets",
    "rx.bytes",
    "rx.packets",
    "rx.attributed_bytes",
    "rx.attributed_packets",
    "rx.kernel_bytes",
    "rx.kernel_packets",
    "rx.forwarded_bytes",
    "rx.forwarded_packets",
    "rx.copied_bytes",
    "rx.copied_packets",
];
/// In `loss`, states and not counts: how many there are now.
pub(super) const STATES: [&str; 2] = ["namespaces_unread", "hooks_missing"];

/// All counters of a document.
pub(super) fn items(document: &Snapshot) -> Vec<Item> {
    let mut items = Vec::new();
    for row in &document.rows {
        let counts = |moved: &Traffic, of: fn(&Count) -> u64| {
            let mut counts = traffic(moved).to_vec();
            counts.extend([of(&row.drops), of(&row.retransmits)]);
            counts
        };
        items.push(Item {
            identity: row_identity(row),
            device: Some(device_of(row)),
            names: &ROW,
            totals: counts(&row.total, |count| count.total),
            entries: 1,
            intervals: counts(&row.interval, |count| count.interval),
        });
    }
    for device in &document.devices {
        items.push(Item {
            identity: format!("device {:?} of {:?}", device.device, device_id(device)),
            device: Some(device_id(device)),
            names: &BALANCE,
            totals: balances(&device.total),
            entries: 1,
            intervals: balances(&device.interval),
        });
    }
    for pair in &document.forwarded {
        let ends = (pair.received_on_ifindex, pair.sent_on_ifindex);
        let counts = |amount: &ForwardedAmount| vec![amount.bytes, amount.packets];
        items.push(Item {
            identity: format!("forwarded {ends:?} {:?}", (pair.netns, pair.netns_cookie)),
            device: Some((pair.netns, pair.netns_cookie, pair.sent_on_ifindex)),
            names: &["bytes", "packets"],
            totals: counts(&pair.total),
            entries: 1,
            intervals: counts(&pair.interval),
        });
    }
    for drop in &document.drops {
        let named = (&drop.reason, drop.reason_code, &drop.location, &drop.protocol, &drop.owner, drop.local_port);
        let process = (drop.netns, drop.netns_cookie, drop.ifindex, drop.pid, drop.start_time_ns, drop.uid);
        items.push(Item {
            identity: format!("drop {named:?} {process:?}"),
            device: None,
            names: &["packets"],
            totals: vec![drop.total.packets],
            entries: 1,
            intervals: vec![drop.interval.packets],
        });
    }
    let mut of_all: BTreeMap<&str, Count> = BTreeMap::new();
    for event in &document.tcp {
        let sum = of_all.entry(&event.event).or_default();
        sum.total += event.count.total;
        sum.interval += event.count.interval;
        // What is given back becomes nobody's.
        let is_nobodys = event.netns.is_none();
        let process = (event.netns, event.netns_cookie, event.ifindex, event.pid, event.start_time_ns, event.uid);
        items.push(Item {
            identity: format!("tcp {} {process:?}", event.event),
            device: None,
            names: &["count"],
            totals: vec![event.count.total],
            entries: 1,
            intervals: if is_nobodys { Vec::new() } else { vec![event.count.interval] },
        });
    }
    items.extend(of_all.into_iter().map(|(name, count)| Item {
        identity: format!("all tcp {name}"),
        device: None,
        names: &["count"],
        totals: vec![count.total],
        entries: 1,
        intervals: vec![count.interval],
    }));
    items.push(Item {
        identity: "gone devices".into(),
        device: None,
        names: &BALANCE,
        totals: balances(&document.gone_devices),
        entries: 1,
        intervals: Vec::new(),
    });
    items.push(Item {
        identity: "exited".into(),
        device: None,
        names: &TRAFFIC,
        totals: traffic(&document.exited).to_vec(),
        entries: 1,
        intervals: Vec::new(),
    });
    let losses = document.loss.entries().into_iter().filter(|(name, _)| !STATES.contains(name));
    items.extend(losses.map(|(name, total)| Item {
        identity: format!("loss {name}"),
        device: None,
        names: &["count"],
        totals: vec![total],
        entries: 1,
        intervals: Vec::new(),
    }));
    for (name, packets) in
        [("other_drops", document.other_drops.total.packets), ("uncounted_drops", document.uncounted_drops)]
    {
        items.push(Item {
            identity: name.into(),
            device: None,
            names: &["packets"],
            totals: vec![packets],
            entries: 1,
            intervals: Vec::new(),
        });
    }
    items
}

/// Drops and events of both IP versions look alike in a document: they are one here.
pub(super) fn joined(items: Vec<Item>) -> Vec<Item> {
    let mut joined: Vec<Item> = Vec::with_capacity(items.len());
    let mut places = HashMap::new();
    for item in items {
        let is_alike = is_given_back(&item.identity);
        match places.get(&item.identity).map(|place: &usize| &mut joined[*place]).filter(|_| is_alike) {
            Some(first) => {
                first.entries += item.entries;
                for (sum, more) in first.totals.iter_mut().zip(item.totals) {
                    *sum += more;
                }
                for (sum, more) in first.intervals.iter_mut().zip(item.intervals) {
                    *sum += more;
                }
            }
            None => {
                places.insert(item.identity.clone(), joined.len());
                joined.push(item);
            }
        }
    }
    joined
}

/// Whether a count is given back if quiet for long.
pub(super) fn is_given_back(identity: &str) -> bool {
    identity.starts_with("drop ") || identity.starts_with("tcp ")
}

/// Whether the next daemon begins it again: its own losses, and devices.
pub(super) fn is_of_one_daemon(identity: &str) -> bool {
    identity.starts_with("device ") || ["gone devices", "loss reports_skipped", "loss history_shed"].contains(&identity)
}

pub(super) fn row_identity(row: &RowReport) -> String {
    // The kernel and the overflow have no process, and a row each.
    let owner = if row.pid == 0 { row.owner.as_ref() } else { "process" };
    let process = (row.pid, row.start_time_ns, row.uid);
    format!("row of {owner} {process:?} {:?}", (row.netns, row.netns_cookie, row.ifindex))
}

/// The device that a row is of.
pub(super) fn device_of(row: &RowReport) -> DeviceId {
    (row.netns, row.netns_cookie, row.ifindex.unwrap_or(0))
}

pub(super) const fn device_id(device: &DeviceReport) -> DeviceId {
    (device.netns, device.netns_cookie, device.ifindex)
}

pub(super) fn traffic(of: &Traffic) -> [u64; 6] {
    let Traffic { tx, rx } = of;
    let [a, b] = [tx, rx].map(|Amount { bytes, packets, app_bytes }| [*bytes, *packets, *app_bytes]);
    [a[0], a[1], a[2], b[0], b[1], b[2]]
}

fn balances(of: &DeviceBalance) -> Vec<u64> {
    let sides = [of.tx, of.rx].map(|side| {
        [
            side.bytes,
            side.packets,
            side.attributed_bytes,
            side.attributed_packets,
            side.kernel_bytes,
            side.kernel_packets,
            side.forwarded_bytes,
            side.forwarded_packets,
            side.copied_bytes,
            side.copied_packets,
        ]
    });
    sides.concat()
}

pub(super) fn add(sum: &mut [u64; 6], more: [u64; 6]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}
