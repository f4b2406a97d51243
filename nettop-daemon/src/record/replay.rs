//! A recorded slot as the snapshot that it was made of: whoever shows snapshots shows the record.

use std::sync::Arc;

use nettop_history::{Counters, DeviceBalance, DirectionBalance, DropKind, Dropped, Recorded, Who};
use nettop_model::{
    ContainerNames, Snapshot,
    drops::{Class, DropReport, TcpReport},
    snapshot::{self, Amount, BasisReport, Count, DeviceReport, DropAmount, Loss, Parent, RowReport, Traffic},
};

use super::document::utc;
use crate::identity::users::Users;

/// Totals are those of the slot: what was before it is in others.
pub fn snapshot(recorded: Recorded, users: &mut Users) -> Snapshot {
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
        rows.push(row(who, names, &counters, users));
    }
    add_to_rows(&mut rows, &drops, &tcp);
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
        devices: recorded.devices.into_iter().map(|(device, balance)| of_device(device, &balance)).collect(),
        drops,
        uncounted_drops: uncounted,
        tcp,
        loss: loss(&recorded.losses),
        ..Snapshot::default()
    }
}

fn row(who: Who, names: ContainerNames, counters: &Counters, users: &mut Users) -> RowReport {
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
        exe: who.exe,
        script: who.script,
        uid: who.uid,
        user: who.uid.and_then(|uid| users.name(uid)),
        cgroup: who.cgroup,
        unit: who.unit,
        container: who.container,
        names: Arc::new(names),
        parents: parents.into(),
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
    let place = |rows: &[RowReport], pid: Option<u32>, start: Option<u64>, ifindex: Option<u32>| {
        let is_its = |row: &RowReport| pid == Some(row.pid) && start == row.start_time_ns;
        let on_device = rows.iter().position(|row| is_its(row) && row.ifindex == ifindex);
        on_device.or_else(|| rows.iter().position(is_its))
    };
    let of_drops = drops.iter().filter(|drop| !matches!(drop.class, Class::Lifecycle | Class::Capture));
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
    count.interval += more;
    count.total += more;
}

fn of_device(device: nettop_history::Device, balance: &DeviceBalance) -> DeviceReport {
    let balance = snapshot::DeviceBalance { tx: side(&balance.tx), rx: side(&balance.rx) };
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

fn side(side: &DirectionBalance) -> snapshot::DirectionBalance {
    snapshot::DirectionBalance {
        bytes: side.bytes,
        packets: side.packets,
        attributed_bytes: side.attributed_bytes,
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
