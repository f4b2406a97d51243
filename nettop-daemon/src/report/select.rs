//! Of a snapshot of everything, what somebody asked for: as if it had been collected for them.

use super::{collect::Filter, drops::is_wanted, model::Snapshot};

/// The part of a snapshot that a filter lets through. Losses, and what is gone, are whole; IP versions are joined already.
pub fn select(snapshot: &Snapshot, filter: &Filter) -> Snapshot {
    let is_wanted = |pid, uid, device| is_wanted(filter, pid, uid, device);
    let is_shown = |name: &String| filter.devices.is_empty() || filter.devices.contains(name);
    let process = |pid: u32| (pid != 0).then_some(pid);
    let rows = snapshot.rows.iter().filter(|row| is_wanted(process(row.pid), row.uid, row.device.as_ref()));
    let drops = snapshot.drops.iter().filter(|drop| is_wanted(drop.pid, drop.uid, drop.device.as_ref()));
    let tcp = snapshot.tcp.iter().filter(|event| is_wanted(event.pid, event.uid, event.device.as_ref()));
    Snapshot {
        schema: snapshot.schema.clone(),
        version: snapshot.version.clone(),
        host: snapshot.host.clone(),
        boot_id: snapshot.boot_id.clone(),
        kernel: snapshot.kernel.clone(),
        time: snapshot.time.clone(),
        interval_ms: snapshot.interval_ms,
        read_us: snapshot.read_us,
        accounting_since: snapshot.accounting_since.clone(),
        hooks: snapshot.hooks.clone(),
        rows: rows.cloned().collect(),
        devices: snapshot.devices.iter().filter(|device| is_shown(&device.device)).cloned().collect(),
        drops: drops.cloned().collect(),
        other_drops: snapshot.other_drops,
        uncounted_drops: snapshot.uncounted_drops,
        tcp: tcp.cloned().collect(),
        exited: snapshot.exited,
        loss: snapshot.loss,
    }
}
