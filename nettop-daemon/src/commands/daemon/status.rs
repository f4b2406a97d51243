//! The line for `systemctl status`: how much is counted, what was lost, and the state of the history.

use std::collections::BTreeSet;

use nettop_model::Snapshot;

use crate::record::recorder::Recorder;

/// Of the last snapshot.
pub fn line(snapshot: &Snapshot, history: Option<&Recorder>) -> String {
    let devices: BTreeSet<_> = snapshot.devices.iter().map(|device| (device.netns, device.ifindex)).collect();
    let lost = snapshot.loss.entries().into_iter().filter(|(_, count)| *count > 0);
    let lost: Vec<String> = lost.map(|(cause, count)| format!("{cause} {count}")).collect();
    let lost = if lost.is_empty() { "none".into() } else { lost.join(", ") };
    let history = history.map_or_else(|| "off".into(), Recorder::state);
    format!("{} rows on {} devices; loss: {lost}; history: {history}", snapshot.rows.len(), devices.len())
}
