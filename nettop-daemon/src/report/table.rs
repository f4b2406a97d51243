//! Text for people: nettop.stp's columns in nettop.stp's order, then the devices' books and the losses.

use std::fmt::Write as _;

use super::model::{Books, DeviceReport, RowReport, Side, Snapshot, Traffic};

const KIB: u64 = 1024;

/// One report, with columns for drops and retransmits if they are wanted. Rows with nothing to show are left out.
pub(super) fn table(snapshot: &Snapshot, with_drops: bool) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, snapshot, with_drops);
    text
}

fn write(text: &mut String, snapshot: &Snapshot, with_drops: bool) -> std::fmt::Result {
    write!(
        text,
        "{:>7} {:>5} {:<7} {:>7} {:>7} {:>7} {:>7} ",
        "PID", "UID", "DEV", "XMIT_PK", "RECV_PK", "XMIT_KB", "RECV_KB"
    )?;
    if with_drops {
        write!(text, "{:>7} {:>7} ", "DROPS", "RETRANS")?;
    }
    writeln!(text, "COMMAND")?;
    let has_drops = |row: &RowReport| with_drops && row.drops.interval + row.retransmits.interval > 0;
    for row in snapshot.rows.iter().filter(|row| row.interval != Traffic::default() || has_drops(row)) {
        write_row(text, row, with_drops)?;
    }
    writeln!(text)?;
    for device in snapshot.devices.iter().filter(|device| device.interval != Books::default()) {
        write_device(text, device)?;
    }
    let losses: Vec<String> = snapshot
        .loss
        .entries()
        .into_iter()
        .filter(|(_, value)| *value != 0)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    writeln!(text, "loss: {}\n", if losses.is_empty() { "none".into() } else { losses.join(", ") })
}

fn write_row(text: &mut String, row: &RowReport, with_drops: bool) -> std::fmt::Result {
    let Traffic { tx, rx } = row.interval;
    write!(
        text,
        "{:>7} {:>5} {:<7} {:>7} {:>7} {:>7} {:>7} ",
        row.pid,
        row.uid.map_or_else(|| "-".into(), |uid| uid.to_string()),
        row.device.as_deref().unwrap_or("-"),
        tx.packets,
        rx.packets,
        tx.bytes / KIB,
        rx.bytes / KIB,
    )?;
    if with_drops {
        write!(text, "{:>7} {:>7} ", row.drops.interval, row.retransmits.interval)?;
    }
    writeln!(text, "{}", row.comm)
}

fn write_device(text: &mut String, device: &DeviceReport) -> std::fmt::Result {
    let side = |side: &Side| {
        format!(
            "{} B = {} processes + {} kernel + {} unattributed",
            side.bytes, side.attributed_bytes, side.kernel_bytes, side.unattributed_bytes
        )
    };
    writeln!(text, "{} ({} basis, namespace {}):", device.device, device.basis, device.netns)?;
    writeln!(text, "  xmit {}", side(&device.interval.tx))?;
    writeln!(text, "  recv {}", side(&device.interval.rx))
}
