//! What is kept in three resolutions: tables, columns, and how a coarser table is made of a finer one.

use crate::{
    plan::Resolution,
    usage::{DiskUsage, HostUsage, Usage},
};

/// A family of three tables, and how its columns are combined.
pub struct Measure {
    pub name: &'static str,
    /// Beside `ts`.
    pub keys: &'static [&'static str],
    pub sums: &'static [&'static str],
    /// The highest of all.
    pub highest: &'static [&'static str],
    /// In the coarser tables: the highest of a column of the finest.
    pub peaks: &'static [(&'static str, &'static str)],
}

pub const SAMPLE: Measure = Measure {
    name: "sample",
    keys: &["process"],
    sums: &["tx_bytes", "rx_bytes", "tx_packets", "rx_packets", "tx_app_bytes", "rx_app_bytes"],
    highest: &[],
    peaks: &[("tx_peak", "tx_bytes"), ("rx_peak", "rx_bytes")],
};

pub const DROP: Measure =
    Measure { name: "drop", keys: &["kind", "process"], sums: &["packets", "bytes"], highest: &[], peaks: &[] };

pub const DEVICE: Measure = Measure {
    name: "device",
    keys: &["device"],
    sums: &[
        "tx_bytes",
        "tx_packets",
        "tx_attributed",
        "tx_kernel",
        "tx_forwarded",
        "tx_upper",
        "tx_copied",
        "tx_unattributed",
        "tx_undecided",
        "rx_bytes",
        "rx_packets",
        "rx_attributed",
        "rx_kernel",
        "rx_forwarded",
        "rx_upper",
        "rx_copied",
        "rx_unattributed",
        "rx_undecided",
    ],
    highest: &[],
    peaks: &[("tx_peak", "tx_bytes"), ("rx_peak", "rx_bytes")],
};

pub const TICK: Measure = Measure {
    name: "tick",
    keys: &[],
    sums: &["measured_ms", "readings", "clock_step_ms", "lost"],
    highest: &[
        "flush",
        "late_ms",
        "load1",
        "load5",
        "load15",
        "cpu_some",
        "memory_some",
        "memory_full",
        "io_some",
        "io_full",
        "namespaces_unread",
    ],
    peaks: &[],
};

pub const USAGE: Measure =
    Measure { name: "usage", keys: &["process"], sums: Usage::SUMS, highest: Usage::HIGHEST, peaks: &[] };

pub const HOST: Measure =
    Measure { name: "host", keys: &[], sums: HostUsage::SUMS, highest: HostUsage::HIGHEST, peaks: &[] };

pub const DISK: Measure = Measure {
    name: "disk",
    keys: &["name", "mounted"],
    sums: DiskUsage::SUMS,
    highest: DiskUsage::HIGHEST,
    peaks: &[],
};

pub const MEASURES: [&Measure; 7] = [&SAMPLE, &DROP, &DEVICE, &TICK, &USAGE, &HOST, &DISK];

impl Measure {
    /// The table of a resolution.
    pub fn table(&self, resolution: Resolution) -> String {
        format!("{}_{}", self.name, resolution.suffix())
    }

    /// Adds a row to those there are, in coarser tables for measures without peaks. Parameters: `ts`, keys, sums, highest.
    pub fn insert(&self, resolution: Resolution) -> String {
        let columns = ["ts"].iter().chain(self.keys).chain(self.sums).chain(self.highest);
        let columns: Vec<&str> = columns.copied().collect();
        let places: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
        let (table, conflict) = (self.table(resolution), self.on_conflict(resolution));
        format!("INSERT INTO {table}({}) VALUES({}) {conflict}", columns.join(", "), places.join(", "))
    }

    /// For a row that exists already: the clock was set back, or the daemon restarted.
    fn on_conflict(&self, resolution: Resolution) -> String {
        let peaks = self.peaks.iter().map(|(peak, _)| *peak).filter(|_| resolution != Resolution::Slot);
        let sums = self.sums.iter().map(|column| format!("{column} = {column} + excluded.{column}"));
        // max() of several is null if one of them is.
        let highest = self.highest.iter().copied().chain(peaks).map(|column| {
            format!("{column} = max(coalesce({column}, excluded.{column}), coalesce(excluded.{column}, {column}))")
        });
        let keys: Vec<&str> = ["ts"].iter().chain(self.keys).copied().collect();
        let set: Vec<String> = sums.chain(highest).collect();
        format!("ON CONFLICT({}) DO UPDATE SET {}", keys.join(", "), set.join(", "))
    }

    /// Makes a bucket of the finer table's rows. Parameters: its begin and its end.
    pub fn roll(&self, from: Resolution, to: Resolution) -> String {
        let mut columns = vec!["ts"];
        let mut values = vec!["?1".to_owned()];
        for key in self.keys {
            columns.push(key);
            values.push((*key).to_owned());
        }
        for sum in self.sums {
            columns.push(sum);
            values.push(format!("sum({sum})"));
        }
        for highest in self.highest {
            columns.push(highest);
            values.push(format!("max({highest})"));
        }
        for (peak, source) in self.peaks {
            columns.push(peak);
            values.push(format!("max({})", if from == Resolution::Slot { source } else { peak }));
        }
        // Without a key, no rows still make one group.
        let group = if self.keys.is_empty() {
            "HAVING count(*) > 0".into()
        } else {
            format!("GROUP BY {}", self.keys.join(", "))
        };
        let (into, out_of) = (self.table(to), self.table(from));
        let (columns, values, conflict) = (columns.join(", "), values.join(", "), self.on_conflict(to));
        format!(
            "INSERT INTO {into}({columns}) SELECT {values} FROM {out_of} WHERE ts >= ?1 AND ts < ?2 {group} {conflict}"
        )
    }
}
