//! Which part of a document is wanted.

use crate::{Named, Names, ProcessResources, ResourcesReport, Snapshot, snapshot::ForwardedReport};

/// Which rows a report shows. Devices and losses are always whole.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub pids: Vec<u32>,
    pub uids: Vec<u32>,
    pub devices: Vec<String>,
    pub names: Names,
    /// Indexed by the family, as rows are.
    pub hidden_families: [bool; 2],
}

impl Filter {
    /// Whether this process, user and device is wanted.
    pub fn admits(&self, pid: Option<u32>, uid: Option<u32>, device: Option<&str>) -> bool {
        fn is_one_of<T: PartialEq>(wanted: &[T], found: Option<T>) -> bool {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(&found))
        }
        let is_device = || device.is_some_and(|device| self.devices.iter().any(|wanted| wanted == device));
        is_one_of(&self.pids, pid) && is_one_of(&self.uids, uid) && (self.devices.is_empty() || is_device())
    }

    /// Whether one of these devices is wanted.
    pub fn admits_pair(&self, pair: &ForwardedReport) -> bool {
        let names = [&pair.received_on, &pair.sent_on];
        self.devices.is_empty() || names.into_iter().flatten().any(|name| self.devices.contains(name))
    }
}

/// The part of a snapshot that a filter lets through. Losses, and what is gone, are whole; IP versions are joined already.
pub fn select(snapshot: &Snapshot, filter: &Filter) -> Snapshot {
    let is_shown = |name: &String| filter.devices.is_empty() || filter.devices.contains(name);
    let process = |pid: u32| (pid != 0).then_some(pid);
    let rows = snapshot.rows.iter().filter(|row| filter.admits(process(row.pid), row.uid, row.device.as_deref()));
    let drops = snapshot.drops.iter().filter(|drop| filter.admits(drop.pid, drop.uid, drop.device.as_deref()));
    let pairs = snapshot.forwarded.iter().filter(|pair| filter.admits_pair(pair));
    let tcp = snapshot.tcp.iter().filter(|event| filter.admits(event.pid, event.uid, event.device.as_deref()));
    let mut selected = Snapshot {
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
        by: None,
        groups: Vec::new(),
        devices: snapshot.devices.iter().filter(|device| is_shown(&device.device)).cloned().collect(),
        forwarded: pairs.cloned().collect(),
        drops: drops.cloned().collect(),
        other_drops: snapshot.other_drops,
        uncounted_drops: snapshot.uncounted_drops,
        tcp: tcp.cloned().collect(),
        exited: snapshot.exited,
        gone_devices: snapshot.gone_devices,
        devices_since: snapshot.devices_since.clone(),
        resources: snapshot.resources.as_ref().map(|resources| selected_resources(resources, filter)),
        loss: snapshot.loss,
    };
    filter.names.retain(&mut selected);
    selected
}

/// Of the wanted processes, of whatever device: devices have nothing of it.
pub fn selected_resources(resources: &ResourcesReport, filter: &Filter) -> ResourcesReport {
    let any_device = Filter { devices: Vec::new(), ..filter.clone() };
    let is_wanted = |process: &&ProcessResources| {
        any_device.admits(Some(process.pid), process.uid, None) && filter.names.admits(&Named::from_resources(process))
    };
    let processes = resources.processes.iter().filter(is_wanted).cloned().collect();
    let ResourcesReport { host, disks, others, .. } = resources;
    ResourcesReport { host: *host, disks: disks.clone(), processes, others: *others }
}
