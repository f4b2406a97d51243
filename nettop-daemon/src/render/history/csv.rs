//! The answer as CSV.

use nettop_model::{
    history::{Document, Resources, Row},
    snapshot::Traffic,
};
use serde::Serialize;

use crate::render::{
    csv::{Text, records},
    process_columns::ProcessColumns,
};

/// Columns of who it was, of its process, and of what it moved and used.
type Line<'a> = (Who<'a>, ProcessColumns<'a>, Used<'a>);

#[derive(Serialize, Default)]
struct Who<'a> {
    from: &'a str,
    to: &'a str,
    name: Text<'a>,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    user: Text<'a>,
}

#[derive(Serialize, Default)]
struct Used<'a> {
    device: Text<'a>,
    tx_bytes: u64,
    rx_bytes: u64,
    tx_packets: u64,
    rx_packets: u64,
    tx_app_bytes: u64,
    rx_app_bytes: u64,
    tx_peak_bytes: Option<u64>,
    rx_peak_bytes: Option<u64>,
    drops: Option<u64>,
    retransmits: Option<u64>,
    unattributed_bytes: Option<u64>,
    pending_bytes: Option<u64>,
    undecided_bytes: Option<u64>,
    user_us: Option<u64>,
    system_us: Option<u64>,
    cpu_percent: Option<f64>,
    wait_us: Option<u64>,
    block_io_us: Option<u64>,
    runnable_mean: Option<f64>,
    blocked_mean: Option<f64>,
    rss_mean_bytes: Option<u64>,
    rss_peak_bytes: Option<u64>,
    swap_mean_bytes: Option<u64>,
    read_bytes: Option<u64>,
    write_bytes: Option<u64>,
    cancelled_write_bytes: Option<u64>,
    major_faults: Option<u64>,
    voluntary_switches: Option<u64>,
    involuntary_switches: Option<u64>,
    threads: Option<u64>,
    oom_kills: Option<u64>,
    exits: Option<u64>,
    exits_failed: Option<u64>,
    exits_signaled: Option<u64>,
    exit_code: Option<u32>,
    exit_signal: Option<u32>,
}

/// A line for each row; those beyond the top are one, without a name.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
    let rows = document.rows.iter().map(|row| of_row(document, row));
    let others = (document.others.number > 0).then(|| {
        let used = of_sum(&document.others.sum, document.others.resources.as_ref());
        (of_period(document), ProcessColumns::default(), used)
    });
    records(rows.chain(others), true)
}

fn of_period(document: &Document) -> Who<'_> {
    Who { from: &document.from, to: &document.to, ..Who::default() }
}

fn of_row<'a>(document: &'a Document, row: &'a Row) -> Line<'a> {
    let who = Who {
        name: Text(Some(&row.name)),
        pid: row.pid,
        start_time_ns: row.start_time_ns,
        uid: row.uid,
        user: Text(row.user.as_deref()),
        ..of_period(document)
    };
    let used = Used {
        device: Text(row.device.as_deref()),
        tx_peak_bytes: Some(row.tx_peak_bytes),
        rx_peak_bytes: Some(row.rx_peak_bytes),
        drops: row.drops,
        retransmits: row.retransmits,
        unattributed_bytes: row.unattributed_bytes,
        pending_bytes: row.pending_bytes,
        undecided_bytes: row.undecided_bytes,
        ..of_sum(&row.sum, row.resources.as_ref())
    };
    (who, ProcessColumns::from(&row.process), used)
}

fn of_sum<'a>(sum: &Traffic, resources: Option<&Resources>) -> Used<'a> {
    let Traffic { tx, rx } = sum;
    let used = |count: fn(&Resources) -> u64| resources.map(count);
    Used {
        tx_bytes: tx.bytes,
        rx_bytes: rx.bytes,
        tx_packets: tx.packets,
        rx_packets: rx.packets,
        tx_app_bytes: tx.app_bytes,
        rx_app_bytes: rx.app_bytes,
        user_us: used(|used| used.user_us),
        system_us: used(|used| used.system_us),
        cpu_percent: resources.map(|used| used.cpu_percent),
        wait_us: resources.and_then(|used| used.wait_us),
        block_io_us: resources.and_then(|used| used.block_io_us),
        runnable_mean: resources.map(|used| used.runnable_mean),
        blocked_mean: resources.map(|used| used.blocked_mean),
        rss_mean_bytes: resources.and_then(|used| used.rss_mean_bytes),
        rss_peak_bytes: resources.and_then(|used| used.rss_peak_bytes),
        swap_mean_bytes: resources.and_then(|used| used.swap_mean_bytes),
        read_bytes: resources.and_then(|used| used.read_bytes),
        write_bytes: resources.and_then(|used| used.write_bytes),
        cancelled_write_bytes: resources.and_then(|used| used.cancelled_write_bytes),
        major_faults: used(|used| used.major_faults),
        voluntary_switches: used(|used| used.voluntary_switches),
        involuntary_switches: used(|used| used.involuntary_switches),
        threads: used(|used| used.threads),
        oom_kills: resources.and_then(|used| used.oom_kills),
        exits: resources.and_then(|used| used.exits),
        exits_failed: resources.and_then(|used| used.exits_failed),
        exits_signaled: resources.and_then(|used| used.exits_signaled),
        exit_code: resources.and_then(|used| used.exit_code),
        exit_signal: resources.and_then(|used| used.exit_signal),
        ..Used::default()
    }
}
