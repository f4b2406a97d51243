//! Rows added up by what their processes have in common.

use std::collections::{BTreeMap, HashSet};

use crate::{
    Snapshot, Sort,
    amounts::{Amount, Count, Traffic},
    snapshot::{GroupReport, Parent, RowReport},
    sort::sort_groups,
};

/// What rows are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum By {
    #[default]
    Process,
    Program,
    Unit,
    User,
    Device,
    Container,
    Script,
    /// The first ancestor that is neither a shell nor sudo or the like
    Parent,
    Pod,
}

/// Name of what has none.
pub const NONE: &str = "-";

/// Shells, and those that start what another asked for: they are no answer to who started it.
const PASSING_ON: [&str; 16] = [
    "sh", "bash", "rbash", "dash", "ash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "busybox", "sudo", "su", "doas",
    "runuser",
];

/// Whether a process of this name starts what another asked for.
pub fn passes_on(comm: &str) -> bool {
    PASSING_ON.contains(&comm)
}

/// Who started a process: the first ancestor that is no shell.
pub fn starter(parents: &[Parent]) -> Option<&Parent> {
    parents.iter().find(|parent| !passes_on(&parent.comm))
}

impl By {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Program => "program",
            Self::Unit => "unit",
            Self::User => "user",
            Self::Device => "device",
            Self::Container => "container",
            Self::Script => "script",
            Self::Parent => "parent",
            Self::Pod => "pod",
        }
    }

    /// The row's name in this grouping.
    fn name_of(self, row: &RowReport) -> String {
        let name = match self {
            Self::Process => Some(&row.comm),
            Self::Program => row.process.exe.as_ref().or(Some(&row.comm)),
            Self::Unit => row.process.unit.as_ref(),
            Self::User => return row.user.clone().or(row.uid.map(|uid| uid.to_string())).unwrap_or_else(none),
            Self::Device => row.device.as_ref(),
            Self::Container => row.process.names.container_name.as_ref().or(row.process.container.as_ref()),
            Self::Script => row.process.script.as_ref(),
            Self::Parent => starter(&row.process.parents).map(|parent| &parent.comm),
            Self::Pod => row.process.names.pod.as_ref(),
        };
        name.cloned().unwrap_or_else(none)
    }
}

fn none() -> String {
    NONE.to_owned()
}

/// The snapshot with groups instead of rows, a group on each device; by process, as it is.
pub fn group(snapshot: &mut Snapshot, by: By, order: Sort) {
    if by == By::Process {
        return;
    }
    let mut processes: HashSet<(String, u32, Option<u64>)> = HashSet::new();
    let mut counted = HashSet::new();
    let mut groups: BTreeMap<_, GroupReport> = BTreeMap::new();
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for row in std::mem::take(&mut snapshot.rows) {
        let name = by.name_of(&row);
        if row.pid != 0 && processes.insert((name.clone(), row.pid, row.start_time_ns)) {
            *numbers.entry(name.clone()).or_default() += 1;
        }
        // A row without a device has no index.
        let key = (name.clone(), row.netns, row.netns_cookie, row.ifindex, row.device.clone());
        let process = (key.clone(), row.pid, row.start_time_ns);
        let group = groups.entry(key).or_insert_with(|| GroupReport {
            name,
            netns: row.netns,
            netns_cookie: row.netns_cookie,
            device: row.device,
            ifindex: row.ifindex,
            ..GroupReport::default()
        });
        add(&mut group.interval, &row.interval);
        add(&mut group.total, &row.total);
        add_count(&mut group.drops, row.drops);
        add_count(&mut group.retransmits, row.retransmits);
        // A process that changed its user has two rows.
        if let Some(resources) = row.resources
            && counted.insert(process)
        {
            match &mut group.resources {
                Some(sum) => sum.add(&resources),
                none => *none = Some(*resources),
            }
        }
    }
    snapshot.by = Some(by.name().into());
    snapshot.groups = groups.into_values().collect();
    for group in &mut snapshot.groups {
        group.processes = numbers.get(&group.name).copied().unwrap_or(0);
    }
    sort_groups(&mut snapshot.groups, order);
}

const fn add(sum: &mut Traffic, more: &Traffic) {
    add_amount(&mut sum.tx, more.tx);
    add_amount(&mut sum.rx, more.rx);
}

const fn add_amount(sum: &mut Amount, more: Amount) {
    sum.bytes += more.bytes;
    sum.packets += more.packets;
    sum.app_bytes += more.app_bytes;
}

const fn add_count(sum: &mut Count, more: Count) {
    sum.interval += more.interval;
    sum.total += more.total;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProcessNames;

    fn row(pid: u32, device: &str, parents: &[&str], bytes: u64) -> RowReport {
        let parents = parents.iter().map(|comm| Parent { comm: (*comm).into(), ..Parent::default() }).collect();
        let amount = Amount { bytes, packets: 1, app_bytes: 0 };
        let interval = Traffic { tx: amount, rx: Amount::default() };
        let process = ProcessNames { parents, ..ProcessNames::default() };
        RowReport { pid, process, device: Some(device.into()), interval, total: interval, ..RowReport::default() }
    }

    fn groups(by: By) -> Vec<(String, Option<String>, u64, u64)> {
        let rows = vec![
            row(7, "eth0", &["bash", "sudo", "bash", "sshd"], 5),
            row(7, "eth1", &["bash", "sudo", "bash", "sshd"], 6),
            row(8, "eth0", &["sshd"], 70),
            row(9, "eth0", &["sh", "bash"], 800),
            row(0, "eth0", &[], 9000),
        ];
        let mut snapshot = Snapshot { rows, ..Snapshot::default() };
        group(&mut snapshot, by, Sort::Command);
        assert!(snapshot.rows.is_empty());
        let groups = snapshot.groups.into_iter();
        groups.map(|group| (group.name, group.device, group.processes, group.total.tx.bytes)).collect()
    }

    #[test]
    fn groups_have_all_that_their_rows_had_by_device() {
        let [eth0, eth1] = ["eth0", "eth1"].map(|name| Some(name.to_owned()));
        let expected = [("-", eth0.clone(), 1, 9800), ("sshd", eth0.clone(), 2, 75), ("sshd", eth1.clone(), 2, 6)];
        assert_eq!(groups(By::Parent), expected.map(|(name, device, n, bytes)| (name.to_owned(), device, n, bytes)));
        let expected = [("eth0", eth0, 3, 9875), ("eth1", eth1, 1, 6)];
        assert_eq!(groups(By::Device), expected.map(|(name, device, n, bytes)| (name.to_owned(), device, n, bytes)));
    }
}
