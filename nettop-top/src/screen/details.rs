//! Everything that is known of the chosen line, and how much it and the host moved in the latest intervals.

use ratatui::layout::Rect;

use super::{
    graph,
    pen::{Pen, join},
};
use crate::{
    frame::{Frame, Row},
    graphs::columns,
    lines::{Amounts, Line},
    state::State,
    text::safe,
    theme::Role,
    units::per_second,
    views::Kind,
};

/// Lines of text above the graphs at most.
const MAX_TEXT_LINES: usize = 12;

pub(super) fn draw(pen: &mut Pen<'_>, area: Rect) {
    let state = pen.state;
    let Some(frame) = state.shown.as_deref().filter(|_| area.height > 0) else { return };
    let line = state.line();
    let title = if line.is_some() { "details" } else { "host" };
    let rule = if state.options.is_ascii { "-" } else { "─" };
    let rest = usize::from(area.width).saturating_sub(title.len() + 5);
    let text = format!("{rule}{rule} {title} {}", rule.repeat(rest));
    pen.put(area.x, area.y, area.width, &text, Role::Dim);
    let texts = line.map_or_else(Vec::new, |line| texts(state, frame, line, usize::from(area.width) - 2));
    let room = usize::from(area.height.saturating_sub(1));
    // Graphs need some lines, if there are so many.
    let most = if state.is_zoomed { MAX_TEXT_LINES.min(room) } else { room.saturating_sub(3) };
    let mut y = area.y + 1;
    for text in texts.iter().take(most) {
        pen.put(area.x + 1, y, area.width - 1, &safe(text), Role::Plain);
        y += 1;
    }
    let height = area.bottom().saturating_sub(y).min(if state.is_zoomed { 20 } else { 6 });
    draw_graphs(pen, Rect { y: area.bottom() - height, height, ..area });
}

/// The chosen line's at the left, the host's at the right.
fn draw_graphs(pen: &mut Pen<'_>, area: Rect) {
    let state = pen.state;
    if area.height < 2 {
        return;
    }
    let (half, width) = (area.width / 2, columns(area.width));
    let graphs = &state.graphs;
    for (x, name, series) in [(1, "line", &graphs.line), (half + 1, "host", &graphs.host)] {
        if series.is_empty() {
            continue;
        }
        let sums: Vec<u64> = series.iter().map(|[up, down]| up.saturating_add(*down)).collect();
        let peak = state.units.short(sums.iter().copied().max().unwrap_or(0));
        let text = format!("{name}, both ways; peak {peak}{}/s", state.units.letter());
        pen.put(x, area.y, width, &text, Role::Dim);
        graph::draw(pen, Rect { x, y: area.y + 1, width, height: area.height - 1 }, &sums);
    }
}

fn texts(state: &State, frame: &Frame, line: &Line, columns: usize) -> Vec<String> {
    match state.view().kind {
        Kind::Program | Kind::Unit | Kind::Process => of_rows(state, frame, line, columns),
        Kind::Device => of_device(state, frame, line),
        Kind::Drops => of_drop(frame, line),
        Kind::Sockets => of_socket(state, line),
        Kind::Hogs => of_hog(frame, line, columns),
    }
}

fn of_rows(state: &State, frame: &Frame, line: &Line, columns: usize) -> Vec<String> {
    let rows: Vec<&Row> = line.rows.iter().filter_map(|at| frame.rows.get(*at)).collect();
    let Some(first) = rows.first() else { return vec!["an ancestor of processes that moved something".into()] };
    let who = &first.who;
    let mut texts = Vec::new();
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    if state.view().kind == Kind::Process {
        let ended = first.ended_ms.map_or_else(String::new, |_| "ended".to_owned());
        let what =
            [format!("{} {}", who.comm, who.pid), or_dash(&who.exe), who.script.clone().unwrap_or_default(), ended];
        texts.push(join(&what, columns));
        let chain: Vec<String> =
            who.parents.iter().rev().map(|parent| format!("{} {}", parent.comm, parent.pid)).collect();
        if !chain.is_empty() {
            texts.push(format!("started by {}", chain.join(" > ")));
        }
    } else {
        let mut names: Vec<String> = rows.iter().map(|row| format!("{} {}", row.who.comm, row.who.pid)).collect();
        names.dedup();
        texts.push(format!("processes {}", names.join(", ")));
        texts.push(format!("program {}", or_dash(&who.exe)));
    }
    let names = &who.names;
    let container = names.container_name.clone().or_else(|| who.container.clone());
    let of = [
        ("user", Some(who.user())),
        ("unit", who.unit.clone()),
        ("container", container),
        ("pod", names.pod.clone()),
        ("image", names.image.clone()),
        ("cgroup", who.cgroup.clone()),
    ];
    let of: Vec<String> = of.into_iter().filter_map(|(name, text)| Some(format!("{name} {}", text?))).collect();
    texts.push(join(&of, columns));
    for row in &rows {
        texts.push(of_row(state, frame, row));
    }
    texts
}

/// What a row moved through its device.
fn of_row(state: &State, frame: &Frame, row: &Row) -> String {
    let device = row.who.device.as_deref().unwrap_or("-");
    let rate = |bytes: u64| state.units.short(per_second(bytes, frame.interval_ms));
    let sum = |bytes: u64| state.units.short(bytes);
    format!(
        "{device}: up {}/s down {}/s, in all {} and {} in {} and {} packets; retransmits {}, drops {}",
        rate(row.interval.tx.bytes),
        rate(row.interval.rx.bytes),
        sum(row.total.tx.bytes),
        sum(row.total.rx.bytes),
        row.total.tx.packets,
        row.total.rx.packets,
        row.retransmits.total,
        row.drops.total
    )
}

fn of_device(state: &State, frame: &Frame, line: &Line) -> Vec<String> {
    let Some(device) = line.item.and_then(|at| frame.devices.get(at)) else { return Vec::new() };
    let is_rate = state.shown_amounts() == Amounts::Rate;
    let balance = if is_rate { &device.interval } else { &device.total };
    let side = |name: &str, side: &nettop_model::snapshot::DirectionBalance| {
        let amount = |bytes: u64| state.units.short(if is_rate { per_second(bytes, frame.interval_ms) } else { bytes });
        format!(
            "{name} counter {} + copied {} + offload {} + pending {} = owned {} + kernel {} + forwarded {} + upper {} + headers {} + padding {} + nobody {}",
            amount(side.bytes),
            amount(side.copied_bytes),
            amount(side.offload_bytes),
            amount(side.pending_bytes),
            amount(side.attributed_bytes),
            amount(side.kernel_bytes),
            amount(side.forwarded_bytes),
            amount(side.upper_bytes),
            amount(side.link_header_bytes),
            amount(side.padding_bytes),
            amount(side.unattributed_bytes)
        )
    };
    let basis = |name: &str, basis: &nettop_model::snapshot::BasisReport| {
        let reason = basis.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{name} counts {} by {}{reason}", basis.packets, basis.known)
    };
    let driver = device.driver.as_deref().unwrap_or("-");
    vec![
        format!("{} index {} in namespace {}, driver {driver}", device.device, device.ifindex, device.netns),
        side("up", &balance.tx),
        side("down", &balance.rx),
        basis("up", &device.tx_basis),
        basis("down", &device.rx_basis),
    ]
}

fn of_drop(frame: &Frame, line: &Line) -> Vec<String> {
    let Some(drop) = line.item.and_then(|at| frame.drops.get(at)) else {
        return vec!["an event of TCP: what it did about a loss".into()];
    };
    let bytes = drop.total.bytes.map_or_else(String::new, |bytes| format!(" with {bytes} bytes"));
    vec![
        format!("{} ({}) at {}", drop.reason, drop.class.name(), drop.location),
        format!("{} packets{bytes} in all; the owner was found by: {}", drop.total.packets, drop.owner),
    ]
}

fn of_hog(frame: &Frame, line: &Line, columns: usize) -> Vec<String> {
    let processes = frame.resources.as_ref().map(|resources| &resources.processes);
    let Some(of) = processes.zip(line.item).and_then(|(all, at)| all.get(at)) else { return Vec::new() };
    let used = &of.resources;
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let what = [
        format!("{} {}", of.comm, of.pid),
        of.exe.clone().unwrap_or_else(|| "-".into()),
        of.script.clone().unwrap_or_default(),
    ];
    let chain: Vec<String> = of.parents.iter().rev().map(|parent| format!("{} {}", parent.comm, parent.pid)).collect();
    vec![
        join(&what, columns),
        format!("started by {}", chain.join(" > ")),
        format!(
            "user {} us, system {} us, waited for a CPU {} us and for block I/O {} us",
            used.user_us,
            used.system_us,
            or_dash(used.wait_us),
            or_dash(used.block_io_us)
        ),
        format!(
            "{} threads, {:.2} runnable, {:.2} in D; {} switches, {} of them forced; {} major faults",
            used.threads,
            used.runnable_mean,
            used.blocked_mean,
            used.voluntary_switches.saturating_add(used.involuntary_switches),
            used.involuntary_switches,
            used.major_faults
        ),
        format!(
            "resident {} bytes, {} at most, {} in swap; read {} bytes, wrote {}, of which {} were deleted before",
            or_dash(used.rss_mean_bytes),
            or_dash(used.rss_peak_bytes),
            or_dash(used.swap_mean_bytes),
            or_dash(used.read_bytes),
            or_dash(used.write_bytes),
            or_dash(used.cancelled_write_bytes)
        ),
    ]
}

fn of_socket(state: &State, line: &Line) -> Vec<String> {
    let socket = state.sockets.as_ref().zip(line.item).and_then(|(document, at)| document.sockets.get(at));
    let Some(socket) = socket else { return Vec::new() };
    let mut texts = vec![format!("{} {} {} - {}", socket.protocol, socket.state, socket.local, socket.remote)];
    for holder in &socket.holders {
        let exe = holder.process.exe.as_deref().unwrap_or("-");
        texts.push(format!("held by {} {} as descriptor {}: {exe}", holder.comm, holder.pid, holder.fd));
    }
    if let Some(tcp) = &socket.tcp {
        let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
        texts.push(format!(
            "round trip {} us, window {} segments, sent again {}, acknowledged {} bytes, received {} bytes",
            number(tcp.rtt_us.map(Into::into)),
            number(tcp.cwnd_segments.map(Into::into)),
            number(tcp.retransmits.map(Into::into)),
            number(tcp.acked_bytes),
            number(tcp.received_bytes)
        ));
    }
    texts
}
