//! What a snapshot adds to a slot: rows of processes and devices, and drops.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use nettop_history::{Ancestor, Counters, Device, DeviceBalance, DirectionBalance, DropKind, Login, Slot, Who};

use nettop_model::{
    ContainerNames, Snapshot,
    drops::Class,
    passes_on,
    snapshot::{self, Parent, RowReport},
};

use crate::measure::usage::Interval;

/// Adds them, with arguments of processes if they are wanted.
pub fn add(slot: &mut Slot, snapshot: &Snapshot, with_arguments: bool) {
    let mut names = HashMap::new();
    let mentioned = mentioned(snapshot);
    let mut seen = HashSet::new();
    for row in &snapshot.rows {
        // Of silent ones too: their names may be known only now.
        if let Some(id) = &row.process.container
            // Its processes share them.
            && seen.insert(Arc::as_ptr(&row.process.names))
        {
            slot.containers.insert(id.clone(), ContainerNames::clone(&row.process.names));
        }
        let process = (row.pid, row.start_time_ns);
        let is_mentioned = mentioned.contains(&process);
        let has_traffic = row.interval != snapshot::Traffic::default();
        if !is_mentioned && !has_traffic {
            continue;
        }
        let who = Who {
            pid: row.pid,
            start_time_ns: row.start_time_ns,
            uid: row.uid,
            comm: row.comm.clone(),
            exe: row.process.exe.clone(),
            script: row.process.script.clone(),
            unit: row.process.unit.clone(),
            cgroup: row.process.cgroup.clone(),
            container: row.process.container.clone(),
            parents: row.process.parents.iter().map(ancestor).collect(),
            login: login(row, with_arguments),
            device: Device {
                netns: row.netns,
                netns_cookie: row.netns_cookie,
                ifindex: row.ifindex.unwrap_or(0),
                name: row.device.clone(),
            },
        };
        if is_mentioned {
            names.insert(process, who.clone());
        }
        if has_traffic {
            let (tx, rx) = (&row.interval.tx, &row.interval.rx);
            slot.samples.entry(who).or_default().add(&Counters {
                tx_bytes: tx.bytes,
                rx_bytes: rx.bytes,
                tx_packets: tx.packets,
                rx_packets: rx.packets,
                tx_app_bytes: tx.app_bytes,
                rx_app_bytes: rx.app_bytes,
            });
        }
    }
    for device in snapshot.devices.iter().filter(|device| device.interval != snapshot::DeviceBalance::default()) {
        let key = Device {
            netns: device.netns,
            netns_cookie: device.netns_cookie,
            ifindex: device.ifindex,
            name: Some(device.device.clone()),
        };
        let balance = DeviceBalance { tx: side(&device.interval.tx), rx: side(&device.interval.rx) };
        slot.devices.entry(key).or_default().add(&balance);
    }
    drops(slot, snapshot, &names);
}

/// Cause of loss for processes that were too many, or ended too late.
const UNREAD: &str = "usage_unread";
/// Cause of loss for intervals that an end did not wait for.
const UNFINISHED: &str = "usage_unfinished";

/// Adds what processes used.
pub fn add_used(slot: &mut Slot, used: &Interval) {
    slot.host.get_or_insert_default().add(&used.host);
    for (disk, usage) in &used.disks {
        slot.disks.entry(disk.clone()).or_default().add(usage);
    }
    for (who, usage) in &used.rows {
        slot.usage.entry(who.clone()).or_default().add(usage);
    }
    slot.containers.extend(used.containers.clone());
    if used.unread > 0 {
        *slot.losses.entry(UNREAD).or_default() += used.unread;
    }
}

/// Adds the last of it, and how many intervals did not come.
pub fn add_last_used(slot: &mut Slot, (used, missing): (Option<Interval>, usize)) {
    if let Some(used) = &used {
        add_used(slot, used);
    }
    if missing > 0 {
        *slot.losses.entry(UNFINISHED).or_default() += missing as u64;
    }
}

fn ancestor(parent: &Parent) -> Ancestor {
    let Parent { pid, start_time_ns, comm, uid } = parent.clone();
    Ancestor { passes_on: passes_on(&comm), pid, start_time_ns, uid, comm }
}

fn login(row: &RowReport, with_arguments: bool) -> Login {
    let session = row.process.login.session.as_ref();
    Login {
        login_uid: row.process.login.login_uid,
        session: session.map(|leader| leader.pid),
        session_start_time_ns: session.and_then(|leader| leader.start_time_ns),
        session_comm: session.and_then(|leader| leader.comm.clone()),
        // No argument has a line end: they are escaped.
        arguments: row.process.arguments.as_ref().filter(|_| with_arguments).map(|arguments| arguments.join("\n")),
    }
}

/// What the device counted otherwise goes with copies, and what is pending now is made up for later.
const fn side(side: &snapshot::DirectionBalance) -> DirectionBalance {
    DirectionBalance {
        bytes: side.bytes,
        packets: side.packets,
        attributed_bytes: side.attributed_bytes + side.link_header_bytes + side.padding_bytes,
        kernel_bytes: side.kernel_bytes,
        forwarded_bytes: side.forwarded_bytes,
        upper_bytes: side.upper_bytes,
        copied_bytes: side.copied_bytes + side.offload_bytes,
        unattributed_bytes: side.unattributed_bytes.cast_signed() - side.pending_bytes.cast_signed(),
        undecided_bytes: side.undecided_bytes,
    }
}

/// Processes of drops and TCP events, which do not have all their names.
fn mentioned(snapshot: &Snapshot) -> HashSet<(u32, Option<u64>)> {
    let drops = snapshot.drops.iter().map(|drop| (drop.pid, drop.start_time_ns, drop.interval.packets));
    let events = snapshot.tcp.iter().map(|event| (event.pid, event.start_time_ns, event.count.interval));
    let busy = drops.chain(events).filter(|(_, _, packets)| *packets > 0);
    busy.filter_map(|(pid, start_time_ns, _)| Some((pid?, start_time_ns))).collect()
}

/// Drops, but for frees that lost nothing, and what TCP did about losses.
fn drops(slot: &mut Slot, snapshot: &Snapshot, names: &HashMap<(u32, Option<u64>), Who>) {
    let mut add = |kind: DropKind, who: Who, packets: u64, bytes: u64| {
        if packets > 0 {
            let dropped = slot.drops.entry((kind, who)).or_default();
            dropped.packets += packets;
            dropped.bytes += bytes;
        }
    };
    let named = |who: Who| match names.get(&(who.pid, who.start_time_ns)) {
        Some(found) if who.pid != 0 => Who { device: who.device, uid: who.uid, ..found.clone() },
        _ => who,
    };
    for drop in snapshot.drops.iter().filter(|drop| drop.class != Class::Lifecycle) {
        let kind = DropKind {
            reason: drop.reason.clone(),
            class: drop.class.name().into(),
            location: drop.location.clone(),
            protocol: drop.protocol.clone(),
        };
        let who = Who {
            pid: drop.pid.unwrap_or(0),
            start_time_ns: drop.start_time_ns,
            uid: drop.uid,
            comm: drop.comm.clone().unwrap_or_default(),
            device: device(drop.netns, drop.netns_cookie, drop.ifindex, drop.device.as_ref()),
            ..Who::default()
        };
        add(kind, named(who), drop.interval.packets, drop.interval.bytes.unwrap_or(0));
    }
    for event in &snapshot.tcp {
        let kind = DropKind {
            reason: event.event.to_string(),
            class: "tcp".into(),
            location: String::new(),
            protocol: Some("TCP".into()),
        };
        let who = Who {
            pid: event.pid.unwrap_or(0),
            start_time_ns: event.start_time_ns,
            uid: event.uid,
            comm: event.comm.clone().unwrap_or_default(),
            device: device(event.netns, event.netns_cookie, event.ifindex, event.device.as_ref()),
            ..Who::default()
        };
        add(kind, named(who), event.count.interval, 0);
    }
    let other = DropKind { reason: "[other]".into(), class: "unspecified".into(), ..DropKind::default() };
    let amount = &snapshot.other_drops.interval;
    add(other, Who::default(), amount.packets, amount.bytes.unwrap_or(0));
}

fn device(netns: Option<u32>, cookie: Option<u32>, ifindex: Option<u32>, name: Option<&String>) -> Device {
    Device {
        netns: netns.unwrap_or(0),
        netns_cookie: cookie.unwrap_or(0),
        ifindex: ifindex.unwrap_or(0),
        name: name.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use nettop_model::ProcessNames;

    use super::*;

    #[test]
    fn what_is_unread_or_does_not_come_is_a_loss() {
        let mut slot = Slot::default();
        let host = nettop_history::HostUsage { usage_ms: 5, ..nettop_history::HostUsage::default() };
        let interval = || Some(Interval { host, unread: 3, ..Interval::default() });
        add_last_used(&mut slot, (interval(), 0));
        assert_eq!((slot.losses.get(UNREAD), slot.losses.get(UNFINISHED)), (Some(&3), None));
        add_last_used(&mut slot, (None, 2));
        assert_eq!((slot.host.unwrap().usage_ms, slot.losses[UNFINISHED]), (5, 2));
    }

    #[test]
    fn an_event_of_a_silent_process_has_all_its_names() {
        let mut slot = Slot::default();
        // It was reset: the row counts only segments sent again.
        let row = RowReport {
            pid: 7,
            start_time_ns: Some(8),
            comm: "talker".into(),
            process: ProcessNames {
                exe: Some("/usr/bin/talker".into()),
                unit: Some("talk.service".into()),
                arguments: Some(["talker".to_owned(), "--key=secret".to_owned()].into()),
                ..ProcessNames::default()
            },
            uid: Some(0),
            netns: 1,
            netns_cookie: 2,
            device: Some("eth0".into()),
            ifindex: Some(3),
            owner: "user".into(),
            ..RowReport::default()
        };
        let reset = nettop_model::drops::TcpReport {
            event: "reset_received".into(),
            netns: Some(1),
            netns_cookie: Some(2),
            device: Some("eth0".into()),
            ifindex: Some(3),
            pid: Some(7),
            start_time_ns: Some(8),
            uid: Some(0),
            comm: Some("talker".into()),
            count: snapshot::Count { interval: 1, total: 1 },
        };
        let snapshot = Snapshot {
            schema: "".into(),
            version: "".into(),
            host: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            time: String::new(),
            interval_ms: 5000,
            read_us: 0,
            accounting_since: String::new(),
            hooks: vec![],
            rows: vec![row],
            by: None,
            groups: Vec::new(),
            devices: vec![],
            forwarded: Vec::new(),
            drops: vec![],
            other_drops: snapshot::DropAmounts::default(),
            uncounted_drops: 0,
            tcp: vec![reset],
            exited: snapshot::Traffic::default(),
            gone_devices: snapshot::DeviceBalance::default(),
            devices_since: None,
            resources: None,
            loss: snapshot::Loss::default(),
        };
        add(&mut slot, &snapshot, false);
        assert!(slot.samples.is_empty(), "it moved nothing");
        let whose: Vec<&Who> = slot.drops.keys().map(|(_, who)| who).collect();
        assert_eq!(whose.len(), 1);
        assert_eq!(whose[0].exe.as_deref(), Some("/usr/bin/talker"));
        assert_eq!(whose[0].unit.as_deref(), Some("talk.service"));
        assert_eq!(whose[0].login.arguments, None, "they may hold secrets");
        let mut asked = Slot::default();
        add(&mut asked, &snapshot, true);
        let arguments: Vec<_> = asked.drops.keys().map(|(_, who)| who.login.arguments.as_deref()).collect();
        assert_eq!(arguments, [Some("talker\n--key=secret")]);
    }
}
