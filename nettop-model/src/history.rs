//! The document `nettop.history/1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ContainerNames, Word,
    snapshot::{Parent, Traffic},
};

/// Name and major version of the document.
pub const SCHEMA: &str = "nettop.history/1";

/// What was asked for. A client reads it back.
#[derive(Serialize, Deserialize, Debug)]
pub struct Document {
    pub schema: Word,
    pub version: Word,
    /// RFC 3339, as widened to what is kept; `to` is not in it.
    pub from: String,
    pub to: String,
    pub by: Word,
    /// Only with --last-boot.
    pub last_boot: Option<LastBoot>,
    pub quality: Quality,
    pub rows: Vec<Row>,
    /// Rows beyond --top.
    pub others: Others,
}

#[derive(Serialize, Deserialize, Debug)]
pub struct LastBoot {
    pub boot_id: String,
    pub kernel: String,
    /// End of what was recorded.
    pub last: String,
    /// Whether nettopd ended on request.
    pub clean: bool,
}

/// What the answer is made of.
#[derive(Serialize, Deserialize, Debug)]
pub struct Quality {
    pub resolution: Vec<Resolution>,
    pub period_ms: i64,
    pub measured_ms: u64,
    /// Of that, what --when selected.
    pub selected_ms: u64,
    pub gaps: Vec<Gap>,
    pub losses: BTreeMap<String, u64>,
    /// Namespaces with traffic whose devices could not be read, at most; null where that was not recorded.
    #[serde(default)]
    pub namespaces_unread: Option<u64>,
    pub late_ms: u64,
    pub clock_step_ms: i64,
    pub load_peak: Option<f64>,
}

#[derive(Serialize, Deserialize, Debug)]
pub struct Resolution {
    pub resolution: Word,
    pub from: String,
    pub to: String,
}

#[derive(Serialize, Deserialize, Debug)]
pub struct Gap {
    pub from: String,
    pub to: String,
}

#[derive(Serialize, Deserialize, Debug)]
pub struct Row {
    pub name: String,
    pub pid: Option<u32>,
    pub start_time_ns: Option<u64>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub comm: Option<String>,
    pub exe: Option<String>,
    #[serde(default)]
    pub script: Option<String>,
    pub unit: Option<String>,
    /// Its id, where all of the row have the same.
    pub container: Option<String>,
    #[serde(flatten)]
    pub names: ContainerNames,
    /// Those that started it, the parent first, where all of the row have the same.
    #[serde(default)]
    pub parents: Vec<Parent>,
    pub device: Option<String>,
    pub processes: Option<usize>,
    pub sum: Traffic,
    /// The most that one process moved through one device in 10 s.
    pub tx_peak_bytes: u64,
    pub rx_peak_bytes: u64,
    pub drops: Option<u64>,
    pub retransmits: Option<u64>,
    pub unattributed_bytes: Option<i64>,
    /// Bytes by equal parts of the period; null where nothing was measured.
    pub sparkline: Vec<Option<u64>>,
}

#[derive(Serialize, Deserialize, Debug)]
pub struct Others {
    pub number: usize,
    pub sum: Traffic,
}
