//! Makes a snapshot of a reading: names beside numbers, filtered and sorted.

use std::time::Duration;

use nettop_common::{Direction, RowKey, owner, tag::attribution};
use nettop_kernel::{
    boot,
    drops::DropsReading,
    ledger::{Flows, Presence, Reading, RowReading, accumulate},
};
use nettop_model::{
    Filter, Snapshot, Sort, selected_resources,
    snapshot::{Amount, DeviceBalance, DeviceReport, HookReport, Loss, RowReport, SCHEMA, Traffic},
    sort,
};

use crate::{
    identity::{
        containers::Containers,
        details::Details,
        devices::Devices,
        host::{host_name, kernel_release},
        processes::Processes,
        users::Users,
    },
    measure::{
        drops::Tally,
        forwarded,
        usage::{Interval, resources},
    },
    sys::{
        clock::{Clock, now},
        escape::escape_c,
    },
};

/// What a report shows, and how.
#[derive(Debug, Clone)]
pub struct View {
    pub filter: Filter,
    pub sort: Sort,
    /// Leaves out what was quiet, as the table does.
    pub only_busy: bool,
    /// Without it, users have no names.
    pub users: Option<Users>,
    /// Whether arguments are shown.
    pub with_arguments: bool,
    /// How long a report may wait for names of containers.
    pub names_timeout: Duration,
    /// When counting began.
    pub since: String,
}

/// The balances of all devices at one time.
pub struct DeviceBalances {
    pub reports: Vec<DeviceReport>,
    /// Of those that are gone.
    pub gone: DeviceBalance,
}

/// What stays the same from report to report, and what was looked up already.
pub struct Collector {
    host: String,
    boot_id: String,
    kernel: String,
    since: String,
    devices_since: String,
    hooks: Vec<HookReport>,
    filter: Filter,
    sort: Sort,
    only_busy: bool,
    users: Option<Users>,
    with_arguments: bool,
    processes: Processes,
}

impl Collector {
    pub fn new(view: View, hooks: Vec<HookReport>) -> Self {
        Self {
            host: host_name(),
            boot_id: boot::id(),
            kernel: kernel_release(),
            since: view.since,
            devices_since: now(),
            hooks,
            filter: view.filter,
            sort: view.sort,
            only_busy: view.only_busy,
            users: view.users,
            with_arguments: view.with_arguments,
            processes: Processes::new("/proc").with_timeout(view.names_timeout),
        }
    }

    /// Takes what was recorded of processes.
    pub fn learn(&mut self, reading: &mut Reading) {
        let owners = usize::try_from(reading.stats.next_owner).unwrap_or(usize::MAX);
        self.processes.learn(std::mem::take(&mut reading.processes), owners);
        Containers::of_machine().release();
    }

    /// Whether users have names from now on.
    pub fn set_users(&mut self, users: Option<Users>) {
        self.users = users;
    }

    /// Whether a report may show the row. Its device's name is not known yet.
    pub fn wants(&self, row: &RowReading) -> bool {
        !self.filter.hidden_families[row.key.family as usize & 1]
            && self.selects(row)
            && (!self.only_busy || row.interval != Flows::default())
    }

    fn selects(&self, row: &RowReading) -> bool {
        let is_process = row.key.owner >= owner::FIRST;
        let Filter { pids, uids, .. } = &self.filter;
        (pids.is_empty() || is_process && pids.contains(&row.owner.key.tgid))
            && (uids.is_empty() || is_process && uids.contains(&row.owner.key.uid))
    }

    /// The snapshot of one reading.
    pub fn collect(
        &mut self,
        mut reading: Reading,
        drops: &DropsReading,
        devices: &Devices,
        balance: DeviceBalances,
        reports_skipped: u64,
    ) -> Snapshot {
        let clock = Clock::of_document();
        if let Some(users) = &mut self.users {
            users.renew();
        }
        self.learn(&mut reading);
        self.processes.forget(&reading.processes_gone);
        join_families(&mut reading.rows);
        let mut tallies = crate::measure::drops::tallies(drops);
        let row = |row: &RowReading| {
            let tally = tallies.remove(&(row.owner.key, row.key.netns, row.key.ifindex));
            self.row(row, tally.map(|(_, _, tally)| tally).unwrap_or_default(), devices, &clock)
        };
        let mut rows: Vec<RowReport> = reading.rows.iter().filter_map(row).collect();
        // Those that had nothing but drops.
        for ((_, netns, ifindex), (slot, owner, tally)) in tallies {
            // The row of a gone process, or on a gone device, was given back, and is not made again.
            if !tally.is_current || devices.place((netns, ifindex)) == Presence::Gone {
                continue;
            }
            let row = RowReading::empty(RowKey { owner: slot, netns, ifindex, family: 0 }, owner);
            let is_busy = tally.drops.interval + tally.retransmits.interval > 0;
            if self.selects(&row) && (is_busy || !self.only_busy) {
                rows.extend(self.row(&row, tally, devices, &clock));
            }
        }
        self.processes.forget_unused();
        sort(&mut rows, self.sort);
        let is_shown = |name: &String| self.filter.devices.is_empty() || self.filter.devices.contains(name);
        let mut snapshot = Snapshot {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            host: self.host.clone(),
            boot_id: self.boot_id.clone(),
            kernel: self.kernel.clone(),
            time: now(),
            interval_ms: u64::try_from(reading.interval.as_millis()).unwrap_or(u64::MAX),
            read_us: u64::try_from(reading.took.as_micros()).unwrap_or(u64::MAX),
            accounting_since: self.since.clone(),
            hooks: self.hooks.clone(),
            rows,
            by: None,
            groups: Vec::new(),
            devices: balance.reports.into_iter().filter(|balance| is_shown(&balance.device)).collect(),
            forwarded: forwarded::reports(&reading.forwarded, devices, &self.filter),
            drops: crate::measure::drops::reports(drops, devices, &self.filter),
            other_drops: crate::measure::drops::other(drops),
            uncounted_drops: drops.uncounted,
            tcp: crate::measure::drops::events(drops, devices, &self.filter),
            exited: self.exited(&reading.exited),
            gone_devices: balance.gone,
            devices_since: Some(self.devices_since.clone()),
            resources: None,
            loss: self.loss(&reading, drops, devices, reports_skipped),
        };
        self.filter.names.retain(&mut snapshot);
        snapshot
    }

    /// With what processes used.
    pub fn add_resources(&mut self, snapshot: &mut Snapshot, used: &Interval) {
        let Self { filter, users, .. } = self;
        let rows = used.rows.iter().map(|(who, usage)| {
            let names = who.container.as_ref().and_then(|id| used.containers.get(id)).cloned();
            (who, names.unwrap_or_default(), usage)
        });
        let report =
            resources::report(rows, &used.host, &used.disks, |uid| users.as_mut().and_then(|users| users.name(uid)));
        snapshot.resources = Some(selected_resources(&report, filter));
        let of = |pid, start| used.all.get(&(pid, start)).map(|usage| resources::of_process(usage, &used.host));
        resources::add_to_rows(&mut snapshot.rows, of);
        if self.sort.is_of_resources() {
            sort(&mut snapshot.rows, self.sort);
        }
    }

    fn row(&mut self, row: &RowReading, tally: Tally, devices: &Devices, clock: &Clock) -> Option<RowReport> {
        let is_process = row.key.owner >= owner::FIRST;
        let (pid, uid) = (row.owner.key.tgid, row.owner.key.uid);
        let device = devices.get((row.key.netns, row.key.ifindex)).map(|device| device.name.clone());
        let names = &self.filter.devices;
        if !names.is_empty() && !device.as_ref().is_some_and(|name| names.contains(name)) {
            return None;
        }
        let details = if is_process { self.processes.details(&row.owner) } else { Details::default() };
        let user = self.users.as_mut().filter(|_| is_process).and_then(|users| users.name(uid));
        Some(RowReport {
            pid,
            start_time: is_process.then(|| clock.rfc3339_ms(row.owner.key.start_time_ns)),
            start_time_ns: is_process.then_some(row.owner.key.start_time_ns),
            comm: match row.key.owner {
                owner::KERNEL => "[kernel]".into(),
                owner::OVERFLOW => "[overflow]".into(),
                _ if row.owner.is_kernel_thread => format!("[{}]", escape_c(&row.owner.comm)),
                _ => escape_c(&row.owner.comm),
            },
            uid: is_process.then_some(uid),
            user,
            process: details.into_names(self.with_arguments),
            netns: row.key.netns.inode,
            netns_cookie: row.key.netns.cookie,
            device,
            ifindex: (row.key.ifindex != 0).then_some(row.key.ifindex),
            owner: owner_name(row).into(),
            exited: row.owner.exited && is_process,
            interval: traffic(&row.interval),
            total: traffic(&row.total),
            drops: tally.drops,
            retransmits: tally.retransmits,
            resources: None,
        })
    }

    /// What was lost since the start.
    pub fn loss(&self, reading: &Reading, drops: &DropsReading, devices: &Devices, reports_skipped: u64) -> Loss {
        let overflow = traffic(&reading.overflow);
        Loss {
            rows_full: reading.stats.rows_full,
            owners_full: reading.stats.owners_full,
            index_full: reading.stats.index_full,
            tags_refused: reading.stats.tags_refused,
            overflow_tx_bytes: overflow.tx.bytes,
            overflow_rx_bytes: overflow.rx.bytes,
            reports_skipped,
            // The recorder knows.
            history_shed: 0,
            runs_skipped: reading.runs_skipped,
            renames_skipped: reading.renames_skipped,
            calls_lost: reading.stats.calls_lost,
            shadows_lost: reading.stats.shadows_lost,
            namespaces_unread: devices.unread().len() as u64,
            ports_full: reading.stats.ports_full,
            processes_unrecorded: reading.stats.processes_lost,
            forwarded_full: reading.stats.forwarded_full,
            tcp_uncounted: drops.events_uncounted,
            usage_lost: reading.stats.usage_lost,
            hooks_missing: self.hooks_missing(),
        }
    }

    pub fn hooks_missing(&self) -> u64 {
        self.hooks.iter().filter(|hook| !hook.attached).count() as u64
    }

    /// Traffic of retired rows of the shown IP versions.
    fn exited(&self, exited: &[Flows; 2]) -> Traffic {
        let mut flows = Flows::default();
        for (family, _) in exited.iter().zip(self.filter.hidden_families).filter(|(_, hidden)| !hidden) {
            accumulate(&mut flows, family);
        }
        traffic(&flows)
    }
}

/// Joins rows that differ only in their IP version.
fn join_families(rows: &mut Vec<RowReading>) {
    rows.sort_unstable_by_key(|row| (row.key.owner, row.key.netns, row.key.ifindex));
    rows.dedup_by(|more, row| {
        let is_same =
            (more.key.owner, more.key.netns, more.key.ifindex) == (row.key.owner, row.key.netns, row.key.ifindex);
        if is_same {
            accumulate(&mut row.interval, &more.interval);
            accumulate(&mut row.total, &more.total);
            row.attribution = row.attribution.max(more.attribution);
        }
        is_same
    });
}

fn traffic(flows: &Flows) -> Traffic {
    let amount = |direction: Direction| {
        let flow = &flows[direction as usize];
        Amount {
            bytes: flow.skb_bytes + flow.gso_bytes,
            packets: flow.skbs + flow.gso_packets,
            app_bytes: flow.app_bytes,
        }
    };
    Traffic { tx: amount(Direction::Tx), rx: amount(Direction::Rx) }
}

const fn owner_name(row: &RowReading) -> &'static str {
    match (row.key.owner, row.attribution) {
        (owner::KERNEL, _) => "kernel",
        (owner::OVERFLOW, _) => "overflow",
        _ if row.owner.is_kernel_thread => "kernel",
        (_, attribution) => attribution::name(attribution),
    }
}
