//! Questions to nettopd's documents.

use nettop_model::{
    Snapshot,
    snapshot::{Amount, DeviceBalance, DirectionBalance, RowReport as Row},
};

use crate::Moved;

/// All rows of a process.
pub fn rows_of(document: &Snapshot, pid: u32) -> Vec<&Row> {
    document.rows.iter().filter(|row| row.pid == pid).collect()
}

/// The only row of a process.
pub fn owner_row(document: &Snapshot, pid: u32) -> &Row {
    let rows = rows_of(document, pid);
    assert_eq!(rows.len(), 1, "rows of process {pid}: {rows:#?}");
    rows[0]
}

/// Sum of the app bytes of a process.
pub fn app(document: &Snapshot, pid: u32) -> Moved {
    sum(&rows_of(document, pid), |amount| amount.app_bytes)
}

/// Compares the app bytes of a process with what it moved.
#[track_caller]
pub fn assert_app(document: &Snapshot, pid: u32, moved: Moved) {
    let counted = app(document, pid);
    assert_app_bytes(document, counted.sent, moved.sent);
    assert_app_bytes(document, counted.received, moved.received);
}

/// Compares app bytes with what was moved. Where `loss` has runs of hooks that the kernel skipped, they may be less.
#[track_caller]
pub fn assert_app_bytes(document: &Snapshot, counted: u64, moved: u64) {
    if document.loss.runs_skipped == 0 {
        assert_eq!(counted, moved, "{:#?}", document.loss);
    } else {
        assert!(counted <= moved, "{counted} of {moved}");
    }
}

/// Sum of the wire bytes of a process.
pub fn wire(document: &Snapshot, pid: u32) -> Moved {
    sum(&rows_of(document, pid), |amount| amount.bytes)
}

fn sum(rows: &[&Row], what: fn(&Amount) -> u64) -> Moved {
    let total = |direction: fn(&Row) -> &Amount| rows.iter().map(|row| what(direction(row))).sum();
    Moved { sent: total(|row| &row.total.tx), received: total(|row| &row.total.rx) }
}

/// A device's balance since the start.
pub fn device<'a>(document: &'a Snapshot, netns: u32, name: &str) -> &'a DeviceBalance {
    let found = document.devices.iter().find(|device| device.netns == netns && device.device == name);
    &found.unwrap_or_else(|| panic!("no device {name} of namespace {netns}")).total
}

/// Both sides of a device's balance, with names.
pub const fn directions(balance: &DeviceBalance) -> [(&'static str, DirectionBalance); 2] {
    [("tx", balance.tx), ("rx", balance.rx)]
}
