//! A recorded slot as the snapshot that it was made of: whoever shows snapshots shows the record.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use nettop_history::{Counters, Device, DeviceBalance, DirectionBalance, DropKind, Dropped, Recorded, Usage, Who};
use nettop_model::{
    ContainerNames, ProcessNames, Snapshot,
    drops::{Class, DropReport, TcpReport},
    snapshot::{self, Amount, BasisReport, Count, DeviceReport, DropAmount, Loss, Parent, RowReport, Traffic},
};

use super::document::utc;
use crate::{identity::users::Users, measure::usage::resources};

/// Totals are those of the slot: what was before it is in others. Without `users`, as for a file of another machine, they have
/// numbers only.
pub fn snapshot(recorded: Recorded, mut users: Option<&mut Users>) -> Snapshot {
    let bucket = recorded.bucket;
    let seconds = bucket.resolution.seconds().unsigned_abs();
    let measured_ms = if recorded.measured_ms > 0 { recorded.measured_ms } else { seconds * 1000 };
    let (mut drops, mut tcp) = (Vec::new(), Vec::new());
    for (kind, who, dropped) in recorded.drops {
        match class(&kind.class) {
            Some(class) => drops.push(of_drop(kind, class, who, dropped)),
            None => tcp.push(of_event(kind, who, dropped)),
        }
    }
    let mut rows: Vec<RowReport> = Vec::with_capacity(recorded.rows.len());
    for (who, names, counters) in recorded.rows {
        rows.push(row(who, names, &counters, users.as_deref_mut()));
    }
    add_to_rows(&mut rows, &drops, &tcp);
    let resources = recorded.host_usage.map(|host| {
        let usage = by_process(recorded.usage);
        let used = usage.iter().map(|(who, names, usage)| (who, names.clone(), usage));
        let report = resources::report(used, &host, &recorded.disks, |uid| {
            users.as_deref_mut().and_then(|users| users.name(uid))
        });
        let of_process = report.processes.iter().map(|of| ((of.pid, of.start_time_ns), of.resources));
        let of_process: HashMap<_, _> = of_process.collect();
        resources::add_to_rows(&mut rows, |pid, start| of_process.get(&(pid, Some(start))).copied());
        report
    });
    let owned = owned(&rows);
    let of_device = |(device, balance): (Device, DeviceBalance)| {
        let owned = owned.get(&(device.netns, device.netns_cookie, device.ifindex)).copied().unwrap_or_default();
        of_device(device, &balance, owned)
    };
    let uncounted = recorded.losses.iter().find(|(cause, _)| cause == "drops_uncounted").map_or(0, |(_, count)| *count);
    Snapshot {
        schema: snapshot::SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: recorded.host,
        boot_id: recorded.boot_id,
        kernel: recorded.kernel,
        time: utc(bucket.end()),
        interval_ms: measured_ms,
        accounting_since: utc(bucket.ts),
        rows,
        devices: recorded.devices.into_iter().map(of_device).collect(),
        drops,
        uncounted_drops: uncounted,
        tcp,
        resources,
        loss: loss(&recorded.losses),
        ..Snapshot::default()
    }
}

/// One for each process, and for each crowd of a name, user and cgroup: with the names that it had last.
fn by_process(recorded: Vec<(Who, ContainerNames, Usage)>) -> Vec<(Who, ContainerNames, Usage)> {
    let mut found: Vec<(Who, ContainerNames, Usage)> = Vec::with_capacity(recorded.len());
    let mut places = HashMap::new();
    for (who, names, usage) in recorded {
        let crowd = (who.pid == 0).then(|| (who.comm.clone(), who.uid, who.cgroup.clone()));
        match places.entry((who.pid, who.start_time_ns, crowd)) {
            Entry::Vacant(new) => {
                new.insert(found.len());
                found.push((who, names, usage));
            }
            Entry::Occupied(known) => {
                let sum = &mut found[*known.get()];
                (sum.0, sum.1) = (who, names);
                sum.2.add(&usage);
            }
        }
    }
    found
}

fn row(who: Who, names: ContainerNames, counters: &Counters, users: Option<&mut Users>) -> RowReport {
    let moved = Traffic {
        tx: Amount { bytes: counters.tx_bytes, packets: counters.tx_packets, app_bytes: counters.tx_app_bytes },
        rx: Amount { bytes: counters.rx_bytes, packets: counters.rx_packets, app_bytes: counters.rx_app_bytes },
    };
    let parents: Vec<Parent> = who
        .parents
        .into_iter()
        .map(|above| Parent { pid: above.pid, start_time_ns: above.start_time_ns, comm: above.comm, uid: above.uid })
        .collect();
    RowReport {
        pid: who.pid,
        start_time_ns: who.start_time_ns,
        comm: who.comm,
        uid: who.uid,
        user: who.uid.zip(users).and_then(|(uid, users)| users.name(uid)),
        process: ProcessNames {
            exe: who.exe,
            script: who.script,
            cgroup: who.cgroup,
            unit: who.unit,
            container: who.container,
            names: Arc::new(names),
            parents: parents.into(),
            ..ProcessNames::default()
        },
        netns: who.device.netns,
        netns_cookie: who.device.netns_cookie,
        ifindex: who.device.name.as_ref().map(|_| who.device.ifindex),
        device: who.device.name,
        interval: moved,
        total: moved,
        ..RowReport::default()
    }
}

/// What was dropped of a process is with its row on that device, or with its first.
fn add_to_rows(rows: &mut [RowReport], drops: &[DropReport], tcp: &[TcpReport]) {
    let mut places: HashMap<(u32, Option<u64>), Vec<usize>> = HashMap::new();
    for (at, row) in rows.iter().enumerate() {
        places.entry((row.pid, row.start_time_ns)).or_default().push(at);
    }
    let place = |rows: &[RowReport], pid: Option<u32>, start: Option<u64>, ifindex: Option<u32>| {
        let its = places.get(&(pid?, start))?;
        its.iter().find(|at| rows[**at].ifindex == ifindex).or(its.first()).copied()
    };
    let of_drops = drops.iter().filter(|drop| drop.class.is_lost());
    for drop in of_drops {
        if let Some(at) = place(rows, drop.pid, drop.start_time_ns, drop.ifindex) {
            add(&mut rows[at].drops, drop.interval.packets);
        }
    }
    for event in tcp.iter().filter(|event| event.event == "retransmit") {
        if let Some(at) = place(rows, event.pid, event.start_time_ns, event.ifindex) {
            add(&mut rows[at].retransmits, event.count.interval);
        }
    }
}

const fn add(count: &mut Count, more: u64) {
    count.interval = count.interval.saturating_add(more);
    count.total = count.total.saturating_add(more);
}

/// Bytes each way of all rows of a device but the kernel's.
fn owned(rows: &[RowReport]) -> HashMap<(u32, u32, u32), [u64; 2]> {
    let mut owned: HashMap<_, [u64; 2]> = HashMap::new();
    for row in rows.iter().filter(|row| row.pid != 0 || row.comm != "[kernel]") {
        let [tx, rx] = owned.entry((row.netns, row.netns_cookie, row.ifindex.unwrap_or(0))).or_default();
        *tx = tx.saturating_add(row.interval.tx.bytes);
        *rx = rx.saturating_add(row.interval.rx.bytes);
    }
    owned
}

fn of_device(device: Device, balance: &DeviceBalance, [tx, rx]: [u64; 2]) -> DeviceReport {
    let balance = snapshot::DeviceBalance { tx: side(&balance.tx, tx), rx: side(&balance.rx, rx) };
    let basis = BasisReport { known: "recorded".into(), ..BasisReport::default() };
    DeviceReport {
        netns: device.netns,
        netns_cookie: device.netns_cookie,
        device: device.name.unwrap_or_else(|| "-".into()),
        ifindex: device.ifindex,
        tx_basis: basis.clone(),
        rx_basis: basis,
        interval: balance,
        total: balance,
        ..DeviceReport::default()
    }
}

/// What is recorded as attributed has link headers and padding as well: whatever is not in rows.
fn side(side: &DirectionBalance, owned_bytes: u64) -> snapshot::DirectionBalance {
    let attributed_bytes = owned_bytes.min(side.attributed_bytes);
    snapshot::DirectionBalance {
        bytes: side.bytes,
        packets: side.packets,
        attributed_bytes,
        link_header_bytes: side.attributed_bytes - attributed_bytes,
        kernel_bytes: side.kernel_bytes,
        forwarded_bytes: side.forwarded_bytes,
        upper_bytes: side.upper_bytes,
        copied_bytes: side.copied_bytes,
        unattributed_bytes: side.unattributed_bytes.max(0).unsigned_abs(),
        pending_bytes: side.unattributed_bytes.min(0).unsigned_abs(),
        undecided_bytes: side.undecided_bytes,
        ..snapshot::DirectionBalance::default()
    }
}

/// None of what TCP did.
fn class(name: &str) -> Option<Class> {
    let known = [
        Class::Capacity,
        Class::Policy,
        Class::Routing,
        Class::Corruption,
        Class::Unspecified,
        Class::Capture,
        Class::Lifecycle,
    ];
    known.into_iter().find(|class| class.name() == name).or((name != "tcp").then_some(Class::Unspecified))
}

fn of_drop(kind: DropKind, class: Class, who: Who, dropped: Dropped) -> DropReport {
    let amount = DropAmount { packets: dropped.packets, bytes: Some(dropped.bytes) };
    let is_process = who.pid != 0;
    DropReport {
        reason: kind.reason,
        reason_code: None,
        class,
        location: kind.location,
        protocol: kind.protocol,
        netns: Some(who.device.netns),
        netns_cookie: Some(who.device.netns_cookie),
        ifindex: who.device.name.as_ref().map(|_| who.device.ifindex),
        device: who.device.name,
        pid: is_process.then_some(who.pid),
        start_time_ns: who.start_time_ns,
        uid: who.uid,
        comm: Some(who.comm).filter(|comm| !comm.is_empty()),
        owner: "recorded".into(),
        local_port: None,
        interval: amount,
        total: amount,
    }
}

fn of_event(kind: DropKind, who: Who, dropped: Dropped) -> TcpReport {
    TcpReport {
        event: kind.reason.into(),
        netns: Some(who.device.netns),
        netns_cookie: Some(who.device.netns_cookie),
        ifindex: who.device.name.as_ref().map(|_| who.device.ifindex),
        device: who.device.name,
        pid: (who.pid != 0).then_some(who.pid),
        start_time_ns: who.start_time_ns,
        uid: who.uid,
        comm: Some(who.comm).filter(|comm| !comm.is_empty()),
        count: Count { interval: dropped.packets, total: dropped.packets },
    }
}

/// Causes by their names. One that this version does not know is left out.
fn loss(causes: &[(String, u64)]) -> Loss {
    let Ok(serde_json::Value::Object(mut members)) = serde_json::to_value(Loss::default()) else {
        return Loss::default();
    };
    for (cause, count) in causes {
        if let Some(member) = members.get_mut(cause) {
            *member = (*count).into();
        }
    }
    serde_json::from_value(members.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_found_by_their_names() {
        let causes =
            [("rows_full".to_owned(), 3), ("of_another_version".to_owned(), 4), ("history_shed".to_owned(), 5)];
        let expected = Loss { rows_full: 3, history_shed: 5, ..Loss::default() };
        assert_eq!(loss(&causes), expected);
    }
}
