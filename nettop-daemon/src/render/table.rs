//! Text for people: nettop.stp's columns in nettop.stp's order, then the devices' balance and the losses.

use std::{borrow::Cow, fmt::Write as _};

use nettop_model::{
    Snapshot,
    snapshot::{BasisReport, DeviceBalance, DeviceReport, DirectionBalance, RowReport, Traffic},
};
use unicode_width::UnicodeWidthStr as _;

use crate::query::format::Columns;

const KIB: u64 = 1024;
/// Columns before the command, as wide as nettop.stp's where nothing needs more room; the last two are of drops.
const COLUMNS: [(&str, usize); 9] = [
    ("PID", 7),
    ("UID", 5),
    ("DEV", 7),
    ("XMIT_PK", 7),
    ("RECV_PK", 7),
    ("XMIT_KB", 7),
    ("RECV_KB", 7),
    ("DROPS", 7),
    ("RETRANS", 7),
];

/// One report. Rows with nothing to show are left out.
pub(super) fn table(snapshot: &Snapshot, wanted: Columns) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, snapshot, wanted);
    text
}

fn write(text: &mut String, snapshot: &Snapshot, wanted: Columns) -> std::fmt::Result {
    let has_drops = |row: &RowReport| wanted.drops && row.drops.interval + row.retransmits.interval > 0;
    let rows = snapshot.rows.iter().filter(|row| row.interval != Traffic::default() || has_drops(row));
    let lines: Vec<_> =
        rows.map(|row| (cells(row), if wanted.ancestry { ancestry(row) } else { row.comm.clone() })).collect();
    let shown = if wanted.drops { &COLUMNS[..] } else { &COLUMNS[..COLUMNS.len() - 2] };
    let widths = std::array::from_fn::<_, { COLUMNS.len() }, _>(|at| {
        lines.iter().map(|(cells, _)| cells[at].width()).max().unwrap_or(0).max(COLUMNS[at].1)
    });
    let mut line = |cells: &[String], command: &str| {
        for (at, (name, _)) in shown.iter().enumerate() {
            let blanks = " ".repeat(widths[at].saturating_sub(cells[at].width()));
            let [before, after] = if *name == "DEV" { ["", blanks.as_str()] } else { [blanks.as_str(), ""] };
            write!(text, "{before}{}{after} ", cells[at])?;
        }
        writeln!(text, "{command}")
    };
    line(&COLUMNS.map(|(name, _)| name.to_owned()), "COMMAND")?;
    for (cells, command) in &lines {
        line(cells, command)?;
    }
    writeln!(text)?;
    for device in snapshot.devices.iter().filter(|device| device.interval != DeviceBalance::default()) {
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

/// `cron > sh > python3  /srv/export.py  [cron.service]`: who started it, what it runs, and where.
fn ancestry(row: &RowReport) -> String {
    let mut text = String::new();
    for parent in row.parents.iter().rev() {
        text += &parent.comm;
        text += " > ";
    }
    text += &row.comm;
    if let Some(what) = row.script.as_ref().or(row.exe.as_ref()) {
        text += "  ";
        text += what;
    }
    let pod = row.pod.as_ref().map(|pod| match &row.pod_container {
        Some(container) => Cow::Owned(format!("{pod}/{container}")),
        None => Cow::Borrowed(pod),
    });
    let place = [&row.container_name, &row.container, &row.unit].into_iter().flatten().next();
    if let Some(place) = pod.or(place.map(Cow::Borrowed)) {
        text += "  [";
        text += &place;
        text += "]";
    }
    text
}

fn cells(row: &RowReport) -> [String; COLUMNS.len()] {
    let Traffic { tx, rx } = row.interval;
    let numbers =
        [tx.packets, rx.packets, tx.bytes / KIB, rx.bytes / KIB, row.drops.interval, row.retransmits.interval];
    let [xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits] = numbers.map(|number| number.to_string());
    let uid = row.uid.map_or_else(|| "-".into(), |uid| uid.to_string());
    let device = row.device.clone().unwrap_or_else(|| "-".into());
    [row.pid.to_string(), uid, device, xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits]
}

fn write_device(text: &mut String, device: &DeviceReport) -> std::fmt::Result {
    write!(text, "{} (", device.device)?;
    if let Some(driver) = &device.driver {
        write!(text, "{driver}, ")?;
    }
    writeln!(text, "namespace {}):", device.netns)?;
    write_side(text, "xmit", &device.interval.tx, &device.tx_basis)?;
    write_side(text, "recv", &device.interval.rx, &device.rx_basis)
}

/// One direction: the parts of what the device counted. Terms that few devices have are left out if zero.
fn write_side(text: &mut String, name: &str, side: &DirectionBalance, basis: &BasisReport) -> std::fmt::Result {
    let (processes, kernel) = (side.attributed_bytes, side.kernel_bytes);
    write!(text, "  {name} {} B = {processes} processes + {kernel} kernel", side.bytes)?;
    if side.forwarded_bytes > 0 {
        write!(text, " + {} forwarded", side.forwarded_bytes)?;
    }
    if side.upper_bytes > 0 {
        write!(text, " + {} counted on devices above", side.upper_bytes)?;
    }
    for (bytes, what) in [
        (side.copied_bytes, "copies"),
        (side.offload_bytes, "headers of offloaded segments"),
        (side.pending_bytes, "not yet posted"),
    ] {
        if bytes > 0 {
            write!(text, " - {bytes} {what}")?;
        }
    }
    let frame_bytes = side.link_header_bytes + side.padding_bytes;
    if frame_bytes > 0 {
        write!(text, " + {frame_bytes} link headers")?;
    }
    let reason = basis.reason.as_deref().unwrap_or_default();
    if !basis.is_decided() {
        return writeln!(text, ", the rest is undecided: {reason}");
    }
    write!(text, " + {} unattributed", side.unattributed_bytes)?;
    if reason.is_empty() { writeln!(text) } else { writeln!(text, " ({reason})") }
}

#[cfg(test)]
mod tests {
    use nettop_model::snapshot::Parent;

    use super::*;

    #[test]
    fn a_command_has_its_ancestors_on_request() {
        let parent = |comm: &str| Parent { comm: comm.into(), ..Parent::default() };
        let row = RowReport {
            comm: "python3".into(),
            exe: Some("/usr/bin/python3.11".into()),
            script: Some("/srv/export.py".into()),
            unit: Some("cron.service".into()),
            parents: [parent("sh"), parent("cron")].into(),
            ..RowReport::default()
        };
        assert_eq!(ancestry(&row), "cron > sh > python3  /srv/export.py  [cron.service]");
        let contained = RowReport {
            comm: "nginx".into(),
            unit: Some("docker-0.scope".into()),
            container: Some("0".into()),
            ..RowReport::default()
        };
        assert_eq!(ancestry(&contained), "nginx  [0]");
        let named = RowReport { container_name: Some("web".into()), ..contained };
        assert_eq!(ancestry(&named), "nginx  [web]");
        let in_pod = RowReport { pod: Some("shop/web-0".into()), pod_container: Some("nginx".into()), ..named };
        assert_eq!(ancestry(&in_pod), "nginx  [shop/web-0/nginx]");
        let bare = RowReport { comm: "[kernel]".into(), ..RowReport::default() };
        assert_eq!(ancestry(&bare), "[kernel]");
    }
}
