//! The order of rows.

use std::cmp::Reverse;

use crate::{
    Resources,
    snapshot::{GroupReport, RowReport},
};

/// Columns to sort by: numbers largest first, the others in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub enum Sort {
    /// Packets both ways
    #[default]
    Packets,
    Pid,
    Uid,
    Dev,
    XmitPk,
    RecvPk,
    XmitKb,
    RecvKb,
    Drops,
    Retrans,
    Command,
    /// Time on a CPU
    Cpu,
    /// Resident memory
    Mem,
    /// Bytes from and to storage
    Disk,
    /// Threads in the load average
    Load,
}

impl Sort {
    /// Whether it is by what processes used besides the network.
    pub const fn is_of_resources(self) -> bool {
        matches!(self, Self::Cpu | Self::Mem | Self::Disk | Self::Load)
    }

    /// How much of that; less than nothing is unknown.
    fn used(self, resources: Option<&Resources>) -> i128 {
        let Some(used) = resources else { return -1 };
        #[expect(clippy::cast_possible_truncation, reason = "an order")]
        let amount = match self {
            Self::Cpu => Some(used.cpu_us()),
            Self::Mem => used.rss_mean_bytes,
            Self::Disk => used.disk_bytes(),
            _ => return (used.load() * 1000.0) as i128,
        };
        amount.map_or(-1, Into::into)
    }
}

/// Puts rows in order.
pub fn sort(rows: &mut [RowReport], by: Sort) {
    let interval = |row: &RowReport| row.interval;
    match by {
        Sort::Packets => rows.sort_by_key(|row| {
            Reverse((interval(row).tx.packets + interval(row).rx.packets, row.total.tx.packets + row.total.rx.packets))
        }),
        Sort::Pid => rows.sort_by_key(|row| row.pid),
        Sort::Uid => rows.sort_by_key(|row| row.uid),
        Sort::Dev => rows.sort_by(|a, b| a.device.cmp(&b.device)),
        Sort::XmitPk => rows.sort_by_key(|row| Reverse(interval(row).tx.packets)),
        Sort::RecvPk => rows.sort_by_key(|row| Reverse(interval(row).rx.packets)),
        Sort::XmitKb => rows.sort_by_key(|row| Reverse(interval(row).tx.bytes)),
        Sort::RecvKb => rows.sort_by_key(|row| Reverse(interval(row).rx.bytes)),
        Sort::Drops => rows.sort_by_key(|row| Reverse(row.drops.interval)),
        Sort::Retrans => rows.sort_by_key(|row| Reverse(row.retransmits.interval)),
        Sort::Command => rows.sort_by(|a, b| a.comm.cmp(&b.comm)),
        Sort::Cpu | Sort::Mem | Sort::Disk | Sort::Load => {
            rows.sort_by_key(|row| Reverse(by.used(row.resources.as_deref())));
        }
    }
}

/// The same for groups, which have no pid and no user: those are in order of their names.
pub fn sort_groups(groups: &mut [GroupReport], by: Sort) {
    let interval = |group: &GroupReport| group.interval;
    match by {
        Sort::Packets => groups.sort_by_key(|group| {
            let packets = interval(group).tx.packets + interval(group).rx.packets;
            Reverse((packets, group.total.tx.packets + group.total.rx.packets))
        }),
        Sort::Dev => groups.sort_by(|a, b| a.device.cmp(&b.device)),
        Sort::XmitPk => groups.sort_by_key(|group| Reverse(interval(group).tx.packets)),
        Sort::RecvPk => groups.sort_by_key(|group| Reverse(interval(group).rx.packets)),
        Sort::XmitKb => groups.sort_by_key(|group| Reverse(interval(group).tx.bytes)),
        Sort::RecvKb => groups.sort_by_key(|group| Reverse(interval(group).rx.bytes)),
        Sort::Drops => groups.sort_by_key(|group| Reverse(group.drops.interval)),
        Sort::Retrans => groups.sort_by_key(|group| Reverse(group.retransmits.interval)),
        Sort::Cpu | Sort::Mem | Sort::Disk | Sort::Load => {
            groups.sort_by_key(|group| Reverse(by.used(group.resources.as_ref())));
        }
        Sort::Pid | Sort::Uid | Sort::Command => groups.sort_by(|a, b| a.name.cmp(&b.name)),
    }
}
