//! A document of as many rows as a test wants.

use nettop_model::{
    Snapshot,
    snapshot::{Loss, RowReport},
};
use serde_json::json;

pub fn snapshot(rows: u32) -> Snapshot {
    let amount = json!({ "bytes": 1, "packets": 1, "app_bytes": 0 });
    let traffic = json!({ "tx": amount, "rx": amount });
    let count = json!({ "interval": 1, "total": 2 });
    let row = json!({
            "pid": 1, "comm": "x", "uid": 1, "netns": 1, "netns_cookie": 1, "device": "lo",
            "owner": "user", "exited": false, "interval": traffic, "total": traffic, "drops": count, "retransmits": count,
    });
    let lost = json!({ "packets": 1, "bytes": 1 });
    let drop = |class: &str| {
        json!({
            "reason": "NO_SOCKET", "class": class, "location": "x+0x1", "owner": "none", "interval": lost, "total": lost,
        })
    };
    let document = json!({
        "schema": "nettop.snapshot/1", "version": "0", "host": "h", "boot_id": "b", "kernel": "k", "time": "t",
        "interval_ms": 1000, "read_us": 1, "accounting_since": "t", "hooks": [],
        "rows": [row], "devices": [], "drops": [drop("routing"), drop("lifecycle")],
        "other_drops": { "interval": lost, "total": lost }, "uncounted_drops": 0, "tcp": [], "exited": traffic, "loss": Loss::default(),
        "gone_devices": nettop_model::snapshot::DeviceBalance::default(), "devices_since": "2026-07-29T10:00:00Z",
    });
    let mut snapshot: Snapshot = serde_json::from_value(document).unwrap();
    let row = snapshot.rows.remove(0);
    snapshot.rows = (1..=rows).map(|pid| RowReport { pid, uid: Some(pid % 2), ..row.clone() }).collect();
    snapshot
}
