//! Names what was asked for and is not there: an empty output could mean anything. It may come later.

use nettop_kernel::tracer::is_there;
use nettop_model::Snapshot;

use crate::{query::report::Selection, sys::stderr};

/// Names processes that do not exist.
pub fn processes(pids: &[u32]) {
    for pid in pids.iter().filter(|pid| !is_there(**pid)) {
        stderr::print(&format!("nothing matches now: there is no process {pid}"));
    }
}

/// Names devices that do not exist.
pub fn devices<'a>(names: impl Iterator<Item = &'a String>) {
    for name in names {
        stderr::print(&format!("nothing matches now: no device is named '{name}'"));
    }
}

/// The same for the first report of a selection.
pub fn in_report(selection: &Selection, snapshot: &Snapshot) {
    let has_row = |pid: &u32| snapshot.rows.iter().any(|row| row.pid == *pid);
    processes(&selection.pid.iter().copied().filter(|pid| !has_row(pid)).collect::<Vec<_>>());
    let names = snapshot.devices.iter().map(|device| &device.device);
    let names: Vec<_> = names.chain(snapshot.rows.iter().filter_map(|row| row.device.as_ref())).collect();
    devices(selection.interface.iter().filter(|name| !names.contains(name)));
}
