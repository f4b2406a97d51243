//! What a snapshot has of drops, and of what TCP did about losses.

use std::{cmp::Reverse, collections::HashMap};

use nettop_common::{
    DropCount, Netns, OwnerKey, Ref,
    abi::{
        ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_SCTP, IPPROTO_TCP,
        IPPROTO_UDP,
    },
    drops::attribution,
    owner,
};
use nettop_kernel::{
    drops::{self, DropReading, DropsReading, ListenerReading, What},
    ledger::OwnerReading,
};
use nettop_model::{
    Filter, Word,
    drops::{Class, DropReport, TcpReport},
    snapshot::{Count, DropAmount, DropAmounts},
};

use crate::{identity::devices::Devices, sys::escape::escape_c};

/// All drops that the filter lets through, most of the interval first.
pub(super) fn reports(reading: &DropsReading, devices: &Devices, filter: &Filter) -> Vec<DropReport> {
    let drops = reading.drops.iter().filter_map(|drop| report(drop, devices));
    let all = drops.chain(reading.listeners.iter().map(overflow));
    let mut reports: Vec<DropReport> =
        all.filter(|drop| filter.admits(drop.pid, drop.uid, drop.device.as_deref())).collect();
    reports.sort_by_key(|report| Reverse((report.interval.packets, report.total.packets)));
    reports
}

/// All events of TCP that the filter lets through, most of the interval first.
pub(super) fn events(reading: &DropsReading, devices: &Devices, filter: &Filter) -> Vec<TcpReport> {
    let events = reading.drops.iter().filter_map(|drop| event(drop, devices));
    let mut reports: Vec<TcpReport> =
        events.filter(|event| filter.admits(event.pid, event.uid, event.device.as_deref())).collect();
    reports.sort_by_key(|report| Reverse((report.count.interval, report.count.total)));
    reports
}

pub(super) const fn other(reading: &DropsReading) -> DropAmounts {
    DropAmounts { interval: amount(reading.other), total: amount(reading.other_total) }
}

/// Drops and retransmits of a process on a device.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) drops: Count,
    pub(super) retransmits: Count,
    /// The process was not given back yet.
    pub(super) is_current: bool,
}

/// Process as one user; namespace and device. A slot is not enough: drops outlive their owner's.
pub(super) type TallyKey = (OwnerKey, Netns, u32);

/// What stands in the rows of processes, with each process and its slot.
pub(super) fn tallies(reading: &DropsReading) -> HashMap<TallyKey, (u32, OwnerReading, Tally)> {
    let mut tallies: HashMap<TallyKey, (u32, OwnerReading, Tally)> = HashMap::new();
    let mut add = |owner: &Option<OwnerReading>, is_current, (slot, netns, ifindex), what: Counted, more: Count| {
        let Some(owner) = owner else { return };
        let key = (owner.key, netns, ifindex);
        let (_, _, tally) = tallies.entry(key).or_insert((slot, *owner, Tally::default()));
        tally.is_current |= is_current;
        let count = match what {
            Counted::Drops => &mut tally.drops,
            Counted::Retransmits => &mut tally.retransmits,
        };
        count.interval += more.interval;
        count.total += more.total;
    };
    for drop in &reading.drops {
        let key = (drop.key.owner.slot(), drop.key.netns, drop.key.ifindex);
        let packets = Count { interval: drop.interval.packets, total: drop.total.packets };
        if let Some(what) = counted(&drop.what) {
            add(&drop.owner, drop.is_current, key, what, packets);
        }
    }
    for turned_away in &reading.listeners {
        let key = (turned_away.listener.owner.slot(), turned_away.listener.netns, 0);
        let packets = Count { interval: turned_away.interval, total: turned_away.total };
        add(&turned_away.owner, turned_away.is_current, key, Counted::Drops, packets);
    }
    for given_back in &reading.given_back {
        let key = (given_back.key.owner.slot(), given_back.key.netns, given_back.key.ifindex);
        let of = |total| Count { interval: 0, total };
        let owner = Some(given_back.owner);
        add(&owner, true, key, Counted::Drops, of(given_back.counted.drops));
        add(&owner, true, key, Counted::Retransmits, of(given_back.counted.retransmits));
    }
    tallies
}

/// How a row counts them.
enum Counted {
    Drops,
    Retransmits,
}

fn counted(what: &What) -> Option<Counted> {
    match what {
        What::Drop { class: drops::Class::Lifecycle | drops::Class::Capture, .. } => None,
        What::Drop { .. } => Some(Counted::Drops),
        What::Event("retransmit") => Some(Counted::Retransmits),
        What::Event(_) => None,
    }
}

fn report(drop: &DropReading, devices: &Devices) -> Option<DropReport> {
    let What::Drop { reason, class, location } = &drop.what else { return None };
    let key = &drop.key;
    let process = drop.owner.as_ref();
    Some(DropReport {
        reason: reason.clone(),
        reason_code: Some(key.reason),
        class: published(*class),
        location: location.clone(),
        protocol: protocol(key.protocol, key.transport),
        netns: known(key.netns).map(|netns| netns.inode),
        netns_cookie: known(key.netns).map(|netns| netns.cookie),
        device: devices.get((key.netns, key.ifindex)).map(|device| device.name.clone()),
        ifindex: (key.ifindex != 0).then_some(key.ifindex),
        pid: process.map(|owner| owner.key.tgid),
        start_time_ns: process.map(|owner| owner.key.start_time_ns),
        uid: process.map(|owner| owner.key.uid),
        comm: comm(process, key.owner, key.attribution != attribution::NONE),
        owner: Word::from(match key.attribution {
            attribution::RECEIVER => "receiver",
            attribution::PACKET => "packet",
            attribution::ADDRESS => "address",
            _ => "none",
        }),
        local_port: None,
        interval: amount(drop.interval),
        total: amount(drop.total),
    })
}

/// As in documents.
const fn published(class: drops::Class) -> Class {
    match class {
        drops::Class::Capacity => Class::Capacity,
        drops::Class::Policy => Class::Policy,
        drops::Class::Routing => Class::Routing,
        drops::Class::Corruption => Class::Corruption,
        drops::Class::Unspecified => Class::Unspecified,
        drops::Class::Capture => Class::Capture,
        drops::Class::Lifecycle => Class::Lifecycle,
    }
}

/// `tcp_conn_request` and `tcp_v4_syn_recv_sock` count what they turn away, and name no reason: almost always it is a full
/// queue.
fn overflow(turned_away: &ListenerReading) -> DropReport {
    let listener = &turned_away.listener;
    let process = turned_away.owner.as_ref();
    let amount = |packets| DropAmount { packets, bytes: None };
    DropReport {
        reason: "LISTEN_OVERFLOW".into(),
        reason_code: None,
        class: Class::Capacity,
        location: "tcp_conn_request".into(),
        protocol: Some("TCP".into()),
        netns: Some(listener.netns.inode),
        netns_cookie: Some(listener.netns.cookie),
        device: None,
        ifindex: None,
        pid: process.map(|owner| owner.key.tgid),
        start_time_ns: process.map(|owner| owner.key.start_time_ns),
        uid: process.map(|owner| owner.key.uid),
        // A listener without an owner may be a program's, through MPTCP.
        comm: comm(process, listener.owner, listener.owner.slot() != owner::KERNEL),
        owner: "listener".into(),
        local_port: Some(listener.port),
        interval: amount(turned_away.interval),
        total: amount(turned_away.total),
    }
}

fn event(event: &DropReading, devices: &Devices) -> Option<TcpReport> {
    let What::Event(name) = event.what else { return None };
    let key = &event.key;
    let process = event.owner.as_ref();
    Some(TcpReport {
        event: name.into(),
        netns: known(key.netns).map(|netns| netns.inode),
        netns_cookie: known(key.netns).map(|netns| netns.cookie),
        device: devices.get((key.netns, key.ifindex)).map(|device| device.name.clone()),
        ifindex: (key.ifindex != 0).then_some(key.ifindex),
        pid: process.map(|owner| owner.key.tgid),
        start_time_ns: process.map(|owner| owner.key.start_time_ns),
        uid: process.map(|owner| owner.key.uid),
        comm: comm(process, key.owner, key.attribution != attribution::NONE),
        count: Count { interval: event.interval.packets, total: event.total.packets },
    })
}

fn known(netns: Netns) -> Option<Netns> {
    (netns.inode != 0).then_some(netns)
}

fn comm(process: Option<&OwnerReading>, owner: Ref, is_found: bool) -> Option<String> {
    match process {
        Some(owner) if owner.is_kernel_thread => Some(format!("[{}]", escape_c(&owner.comm))),
        Some(owner) => Some(escape_c(&owner.comm)),
        None if !is_found => None,
        None if owner.slot() == owner::KERNEL => Some("[kernel]".into()),
        None if owner.slot() == owner::OVERFLOW => Some("[overflow]".into()),
        // It ended long before the drop, and its socket lives on elsewhere.
        None => None,
    }
}

const fn amount(count: DropCount) -> DropAmount {
    DropAmount { packets: count.packets, bytes: Some(count.bytes) }
}

fn protocol(ethernet: u16, transport: u16) -> Option<String> {
    let name = match (ethernet, transport) {
        (0, _) => return None,
        (ETH_P_ARP, _) => "ARP",
        (ETH_P_IP | ETH_P_IPV6, IPPROTO_TCP) => "TCP",
        (ETH_P_IP | ETH_P_IPV6, IPPROTO_UDP) => "UDP",
        (ETH_P_IP, IPPROTO_ICMP) => "ICMP",
        (ETH_P_IPV6, IPPROTO_ICMPV6) => "ICMPv6",
        (ETH_P_IP | ETH_P_IPV6, IPPROTO_SCTP) => "SCTP",
        (ETH_P_IP, IPPROTO_IP) => "IPv4",
        (ETH_P_IPV6, IPPROTO_IP) => "IPv6",
        (ETH_P_IP | ETH_P_IPV6, number) => return Some(format!("IP protocol {number}")),
        (number, _) => return Some(format!("{number:#06x}")),
    };
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use nettop_common::{DropKey, drops::event};

    use super::*;

    fn drop(slot: u32, tgid: u32, what: What, packets: u64) -> DropReading {
        let key = OwnerKey { start_time_ns: 7, tgid, uid: 0 };
        let owner = OwnerReading { key, comm: [0; 16], comm_time_ns: 0, is_kernel_thread: false, exited: false };
        let count = DropCount { packets, bytes: 0 };
        let key = DropKey {
            location: 0,
            owner: Ref::new(slot, tgid),
            netns: Netns::default(),
            reason: event::RETRANSMIT,
            ifindex: 1,
            attribution: attribution::PACKET,
            protocol: 0,
            transport: 0,
        };
        DropReading { key, what, owner: Some(owner), is_current: true, interval: count, total: count }
    }

    #[test]
    fn who_got_anothers_slot_has_not_its_drops() {
        let lost = |class| What::Drop { reason: String::new(), class, location: String::new() };
        let drops = vec![
            drop(5, 100, lost(drops::Class::Capacity), 3),
            drop(5, 200, lost(drops::Class::Policy), 4),
            drop(5, 200, lost(drops::Class::Lifecycle), 8),
            drop(5, 200, What::Event("retransmit"), 16),
        ];
        let tallies = tallies(&DropsReading { drops, ..DropsReading::default() });
        let of = |tgid| {
            let key = (OwnerKey { start_time_ns: 7, tgid, uid: 0 }, Netns::default(), 1);
            let (_, _, tally) = tallies[&key];
            (tally.drops.total, tally.retransmits.interval)
        };
        assert_eq!((of(100), of(200)), ((3, 0), (4, 16)));
    }
}
