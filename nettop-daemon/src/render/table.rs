//! Text for people: nettop.stp's columns in nettop.stp's order, then the devices' balance and the losses.

use std::fmt::Write as _;

use nettop_model::{
    Resources, Snapshot,
    snapshot::{BasisReport, Count, DeviceBalance, DeviceReport, DirectionBalance, GroupReport, RowReport, Traffic},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    ancestry::ancestry,
    tree::{self, What},
};
use crate::query::format::Columns;

/// What people's tables count in, under headings with `KB`.
pub(super) const KIB: u64 = 1024;
/// Columns before the command, as wide as nettop.stp's where nothing needs more room; then those of drops, and of resources.
const COLUMNS: [(&str, usize); 13] = [
    ("PID", 7),
    ("UID", 5),
    ("DEV", 7),
    ("XMIT_PK", 7),
    ("RECV_PK", 7),
    ("XMIT_KB", 7),
    ("RECV_KB", 7),
    ("DROPS", 7),
    ("RETRANS", 7),
    ("CPU%", 6),
    ("MEM_MB", 7),
    ("DISK_KB", 7),
    ("LOAD", 6),
];
const FIRST_OF_DROPS: usize = 7;
const FIRST_OF_RESOURCES: usize = 9;

type Cells = [String; COLUMNS.len()];
/// Most columns of the tree, but for commands the least.
const TREE_COLUMNS: usize = 80;
const COMMAND_COLUMNS: usize = 24;
/// Deeper is not shown as deeper.
const MAX_INDENT: usize = 8;

/// One report. Rows with nothing to show are left out.
pub(super) fn table(snapshot: &Snapshot, wanted: Columns) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, snapshot, wanted);
    text
}

fn write(text: &mut String, snapshot: &Snapshot, wanted: Columns) -> std::fmt::Result {
    let is_wanted = |interval: &Traffic, drops: u64| *interval != Traffic::default() || wanted.drops && drops > 0;
    let rows =
        snapshot.rows.iter().filter(|row| is_wanted(&row.interval, row.drops.interval + row.retransmits.interval));
    let groups = snapshot.groups.iter();
    let groups = groups.filter(|group| is_wanted(&group.interval, group.drops.interval + group.retransmits.interval));
    let command = |row: &RowReport| match wanted.ancestry {
        true => ancestry(&row.comm, &row.process),
        false => row.comm.clone(),
    };
    let mut lines: Vec<(Cells, String)> = if wanted.tree {
        tree::lines(rows).iter().map(|line| of_tree(line, command)).collect()
    } else {
        rows.map(|row| (cells(row), command(row))).chain(groups.map(of_group)).collect()
    };
    let heading = snapshot.by.as_ref().map_or_else(|| "COMMAND".to_owned(), |by| by.to_uppercase());
    lines.insert(0, (COLUMNS.map(|(name, _)| name.to_owned()), heading));
    // Groups have neither pid nor user.
    let first = if snapshot.by.is_some() { 2 } else { 0 };
    let is_shown = |at: &usize| match *at {
        FIRST_OF_RESOURCES.. => wanted.resources,
        FIRST_OF_DROPS.. => wanted.drops,
        at => at >= first,
    };
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(is_shown).collect();
    let widths = std::array::from_fn::<_, { COLUMNS.len() }, _>(|at| {
        lines.iter().map(|(cells, _)| cells[at].width()).max().unwrap_or(0).max(COLUMNS[at].1)
    });
    let before_command = shown.iter().map(|at| widths[*at] + 1).sum();
    for (cells, command) in &lines {
        for &at in &shown {
            let blanks = " ".repeat(widths[at].saturating_sub(cells[at].width()));
            let [before, after] = if COLUMNS[at].0 == "DEV" { ["", blanks.as_str()] } else { [blanks.as_str(), ""] };
            write!(text, "{before}{}{after} ", cells[at])?;
        }
        let most =
            if wanted.tree { TREE_COLUMNS.saturating_sub(before_command).max(COMMAND_COLUMNS) } else { usize::MAX };
        writeln!(text, "{}", cut(command, most))?;
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

/// A line of the tree, further to the right the more are above it.
fn of_tree(line: &tree::Line<'_>, command: impl Fn(&RowReport) -> String) -> (Cells, String) {
    let indent = "  ".repeat(line.depth.min(MAX_INDENT));
    match line.what {
        What::Row(row) => (cells(row), indent + &command(row)),
        What::Ancestor(parent) => {
            let mut cells = Cells::default();
            cells[0] = parent.pid.to_string();
            cells[1] = parent.uid.to_string();
            (cells, indent + &parent.comm)
        }
    }
}

fn of_group(group: &GroupReport) -> (Cells, String) {
    let device = group.device.clone().unwrap_or_else(|| "-".into());
    let counted = counted(&group.interval, [group.drops, group.retransmits], group.resources.as_ref());
    (with(String::new(), String::new(), device, counted), group.name.clone())
}

/// As much of a text as fits.
fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > columns
    });
    end.map_or(text, |(end, _)| &text[..end])
}

fn cells(row: &RowReport) -> Cells {
    let uid = row.uid.map_or_else(|| "-".into(), |uid| uid.to_string());
    let device = row.device.clone().unwrap_or_else(|| "-".into());
    with(
        row.pid.to_string(),
        uid,
        device,
        counted(&row.interval, [row.drops, row.retransmits], row.resources.as_deref()),
    )
}

fn counted(interval: &Traffic, [drops, retransmits]: [Count; 2], used: Option<&Resources>) -> [String; 10] {
    let Traffic { tx, rx } = interval;
    let [xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits] =
        [tx.packets, rx.packets, tx.bytes / KIB, rx.bytes / KIB, drops.interval, retransmits.interval]
            .map(|number| number.to_string());
    let [cpu, memory, disk, load] = amounts_used(used);
    [xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits, cpu, memory, disk, load]
}

/// CPU in percent of one, MiB, KiB from and to storage, and threads in the load average.
pub(super) fn amounts_used(used: Option<&Resources>) -> [String; 4] {
    let cpu = used.map(|used| format!("{:.1}", used.cpu_percent));
    let memory = used.and_then(|used| used.rss_mean_bytes).map(|bytes| (bytes / KIB / KIB).to_string());
    let disk = used.and_then(Resources::disk_bytes).map(|bytes| (bytes / KIB).to_string());
    let load = used.map(|used| format!("{:.2}", used.load()));
    [cpu, memory, disk, load].map(|amount| amount.unwrap_or_else(|| "-".into()))
}

fn with(pid: String, uid: String, device: String, counted: [String; 10]) -> Cells {
    let [xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits, cpu, memory, disk, load] = counted;
    [pid, uid, device, xmit_pk, recv_pk, xmit_kb, recv_kb, drops, retransmits, cpu, memory, disk, load]
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
