//! A table for people: columns as wide as they need to be, the processes last, warnings below.

use std::{collections::BTreeSet, fmt::Write as _};

use nettop_model::{
    ProcessNames,
    sockets::{Document, HolderReport, SocketReport},
};
use unicode_width::UnicodeWidthStr as _;

use crate::render::ancestry::link;

/// Indent of a continued line: below the state.
const INDENT_COLUMNS: usize = 6;
/// Room of a column on a terminal: an address of IPv4 with its port. A longer cell moves its own line's others only.
const MAX_COLUMN_WIDTH: usize = 21;

/// How the table is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Of the terminal, where longer lines are broken between cells. None: not a terminal, and a socket has one line.
    pub width: Option<usize>,
    /// Own namespace, which is not shown.
    pub netns: u32,
    /// Lines below each socket about TCP and processes.
    pub extended: bool,
}

/// What a column shows.
struct Column {
    name: &'static str,
    is_number: bool,
    cell: fn(&SocketReport, Layout) -> String,
}

const fn left(name: &'static str, cell: fn(&SocketReport, Layout) -> String) -> Column {
    Column { name, is_number: false, cell }
}

const fn right(name: &'static str, cell: fn(&SocketReport, Layout) -> String) -> Column {
    Column { name, is_number: true, cell }
}

pub fn table(document: &Document, layout: Layout) -> String {
    let columns = columns(document, layout);
    let lines: Vec<Vec<String>> = document
        .sockets
        .iter()
        .map(|socket| columns.iter().map(|column| (column.cell)(socket, layout)).collect())
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| lines.iter().map(|line| line[at].width()).max().unwrap_or(0).max(column.name.len()))
        .map(|width| if layout.width.is_some() { width.min(MAX_COLUMN_WIDTH) } else { width })
        .collect();
    let padded = |cells: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        let cells = cells.zip(&widths).zip(&columns);
        cells.map(|((cell, width), column)| pad(cell, *width, column.is_number)).collect()
    };
    let mut text = String::new();
    let mut header = padded(&mut columns.iter().map(|column| column.name));
    header.push("PROCESS".into());
    write_line(&mut text, header, layout.width);
    for (line, socket) in lines.iter().zip(&document.sockets) {
        let mut cells = padded(&mut line.iter().map(String::as_str));
        cells.extend(processes(socket));
        write_line(&mut text, cells, layout.width);
        if layout.extended {
            write_details(&mut text, socket);
        }
    }
    write_notes(&mut text, document);
    text
}

/// In the place of what is not known.
fn dash() -> String {
    "-".into()
}

/// A dash where the kernel does not show it.
fn number(value: Option<impl ToString>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

fn columns(document: &Document, layout: Layout) -> Vec<Column> {
    let mut columns = vec![
        left("PROTO", |socket, _| {
            format!("{}{}", socket.protocol, if socket.ip_version == Some(6) { "6" } else { "" })
        }),
        left("STATE", |socket, _| socket.state.to_string()),
        right("RECV-Q", |socket, _| number(socket.receive_queue)),
        right("SEND-Q", |socket, _| number(socket.send_queue)),
    ];
    if document.interval_ms.is_some() {
        columns.extend([
            right("XMIT_PK", |socket, _| socket.interval.map_or_else(dash, |moved| moved.tx.packets.to_string())),
            right("RECV_PK", |socket, _| socket.interval.map_or_else(dash, |moved| moved.rx.packets.to_string())),
            right("XMIT_B", |socket, _| socket.interval.map_or_else(dash, |moved| moved.tx.bytes.to_string())),
            right("RECV_B", |socket, _| socket.interval.map_or_else(dash, |moved| moved.rx.bytes.to_string())),
            right("AGE_S", |socket, _| {
                socket.age_ms.map_or_else(dash, |ms| format!("{}.{}", ms / 1000, ms % 1000 / 100))
            }),
        ]);
    }
    columns.extend([
        left("LOCAL", |socket, _| match &socket.device {
            // An address of one link has it already.
            Some(device) if !socket.local.contains('%') => format!("{}%{device}", socket.local),
            _ => socket.local.clone(),
        }),
        left("REMOTE", |socket, _| socket.remote.clone()),
    ]);
    if document.sockets.iter().any(|socket| socket.netns != layout.netns) {
        columns.push(left(
            "NETNS",
            |socket, layout| {
                if socket.netns == layout.netns { dash() } else { socket.netns.to_string() }
            },
        ));
    }
    columns.push(left("USER", |socket, _| socket.user.clone().unwrap_or_else(|| socket.uid.to_string())));
    columns
}

/// Each with its pid, and once however many descriptors it has. Between them a line may be broken.
fn processes(socket: &SocketReport) -> Vec<String> {
    let mut cells: Vec<String> =
        socket.holders.iter().map(|holder| format!("{}({}),", holder.comm, holder.pid)).collect();
    // They stand in the order of their pids.
    cells.dedup();
    match cells.last_mut() {
        Some(last) => drop(last.pop()),
        None => cells.push(dash()),
    }
    cells.extend(socket.rpc_program.as_ref().map(|program| format!("[{program}]")));
    cells
}

fn pad(cell: &str, width: usize, is_number: bool) -> String {
    let space = " ".repeat(width.saturating_sub(cell.width()));
    if is_number { space + cell } else { cell.to_owned() + &space }
}

fn write_line(text: &mut String, cells: Vec<String>, width: Option<usize>) {
    let is_one_line = width.is_none_or(|width| cells.iter().map(|cell| cell.width() + 1).sum::<usize>() <= width + 1);
    let mut used = 0;
    for cell in cells {
        // What stands behind the last letter needs no room.
        if !is_one_line && used > INDENT_COLUMNS && width.is_some_and(|width| used + cell.trim_end().width() > width) {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(INDENT_COLUMNS));
            used = INDENT_COLUMNS;
        }
        text.push_str(&cell);
        used += cell.width();
        if !cell.ends_with("),") {
            text.push(' ');
            used += 1;
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn write_details(text: &mut String, socket: &SocketReport) {
    // Writing to a String does not fail.
    if let Some(tcp) = &socket.tcp {
        let rtt_ms = tcp.rtt_us.map(|us| format!("{}.{:03}", us / 1000, us % 1000));
        let _ = writeln!(
            text,
            "{:INDENT_COLUMNS$}rtt {} ms, cwnd {}, retransmits {}, acked {} B, received {} B, segments {} sent {} received",
            "",
            number(rtt_ms),
            number(tcp.cwnd_segments),
            number(tcp.retransmits),
            number(tcp.acked_bytes),
            number(tcp.received_bytes),
            number(tcp.segments_sent),
            number(tcp.segments_received),
        );
    }
    for holder in &socket.holders {
        let HolderReport { pid, fd, comm, process, .. } = holder;
        let ProcessNames { exe, script, unit, container, names, parents, login, arguments, .. } = process;
        let exe = exe.as_deref().unwrap_or("?");
        let _ = write!(text, "{:INDENT_COLUMNS$}{comm}({pid}) fd {fd}: {}", "", listed(exe));
        for (what, name) in [
            ("script", script.as_ref()),
            ("unit", unit.as_ref()),
            ("container", names.container_name.as_ref().or(container.as_ref())),
            ("pod", names.pod.as_ref()),
        ] {
            if let Some(name) = name {
                let _ = write!(text, ", {what} {}", listed(name));
            }
        }
        if !parents.is_empty() {
            let comms: Vec<_> = parents.iter().rev().map(|parent| link(&parent.comm)).collect();
            let _ = write!(text, ", started by {}", listed(&comms.join(" > ")));
        }
        if let Some(uid) = login.login_uid {
            let _ = write!(text, ", login {uid}");
        }
        if let Some(arguments) = arguments {
            let _ = write!(text, ", called as {}", arguments.join(" "));
        }
        text.push('\n');
    }
}

/// A name in a list: with a comma and a blank it could forge what follows.
fn listed(name: &str) -> String {
    name.replace(", ", ",\\x20")
}

fn write_notes(text: &mut String, document: &Document) {
    let mut warned = BTreeSet::new();
    for holder in document.sockets.iter().flat_map(|socket| &socket.holders) {
        for warning in &holder.warnings {
            if warned.insert((holder.pid, warning.text())) {
                let exe = holder.process.exe.as_deref().unwrap_or("?");
                let _ = writeln!(text, "warning: {}({}): {}: {exe}", holder.comm, holder.pid, warning.text());
            }
        }
    }
    if document.truncated {
        let _ =
            writeln!(text, "there are more: an answer of the daemon has room for so many; select less, or ask as root");
    }
    for (number, what) in [
        (document.namespaces_unread, "namespaces that could not be entered"),
        (document.packets_uncounted.unwrap_or(0), "packets that could not be counted"),
        (document.names_unanswered, "addresses for which the resolver had no answer in time"),
    ] {
        if number > 0 {
            let _ = writeln!(text, "{what}: {number}");
        }
    }
}
