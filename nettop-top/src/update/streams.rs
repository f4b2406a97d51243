//! What is known of a line beyond its cells: its processes, and their events.

use std::collections::{HashSet, VecDeque};

use nettop_model::ProcessResources;

use crate::{
    event::Effect,
    frame::Frame,
    lines::{Line, Value, process_key},
    state::{Place, State, Stream},
    views::{Kind, What},
};

/// Processes that a stream of events is asked for by number.
const MAX_PIDS: usize = 100;

/// As the breadcrumb has it: the name, and of a process the pid.
pub(super) fn title(line: &Line, state: &State) -> String {
    let text = |what: What| {
        let at = state.view().columns.iter().position(|column| column.what == what);
        at.and_then(|at| line.values.get(at)).and_then(|value| match value {
            Value::Text(text) => Some(text.clone()),
            Value::Id(id) => Some(id.to_string()),
            _ => None,
        })
    };
    let name = text(What::Name).unwrap_or_else(|| "-".into());
    text(What::Pid).map_or_else(|| name.clone(), |pid| format!("{name} {pid}"))
}

/// Where a drop's owner is among processes.
pub(super) fn process_of_drop(state: &State, line: &Line) -> Option<String> {
    let (pid, start_time_ns) = owner_of_drop(state, line)?;
    (pid != 0).then(|| process_key(pid, start_time_ns))
}

fn owner_of_drop(state: &State, line: &Line) -> Option<(u32, Option<u64>)> {
    let frame = state.shown.as_ref()?;
    let at = line.item?;
    match frame.drops.get(at) {
        Some(drop) => Some((drop.pid?, drop.start_time_ns)),
        None => {
            let event = frame.tcp.get(at - frame.drops.len())?;
            Some((event.pid?, event.start_time_ns))
        }
    }
}

/// Processes of a line, by number.
pub(super) fn pids(state: &State, line: &Line) -> Vec<u32> {
    let Some(frame) = &state.shown else { return Vec::new() };
    let mut pids: Vec<u32> = line.rows.iter().filter_map(|at| frame.rows.get(*at)).map(|row| row.who.pid).collect();
    match state.view().kind {
        Kind::Drops => pids.extend(owner_of_drop(state, line).map(|(pid, _)| pid)),
        Kind::Sockets => {
            let socket = state.sockets.as_ref().zip(line.item).and_then(|(document, at)| document.sockets.get(at));
            pids.extend(socket.into_iter().flat_map(|socket| &socket.holders).map(|holder| holder.pid));
        }
        Kind::Hogs => {
            let processes = frame.resources.as_ref().map(|resources| &resources.processes);
            pids.extend(processes.zip(line.item).and_then(|(all, at)| all.get(at)).map(|process| process.pid));
        }
        _ => {}
    }
    pids.retain(|pid| *pid != 0);
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn processes(frame: &Frame) -> &[ProcessResources] {
    frame.resources.as_ref().map_or(&[], |resources| &resources.processes)
}

/// Those that have not ended: a number may be another's by now.
fn living(state: &State, line: &Line) -> Vec<u32> {
    let mut pids = pids(state, line);
    let frames = || state.shown.iter().chain(state.live.newest());
    let rows = frames().flat_map(|frame| &frame.rows);
    let mut ended: HashSet<u32> = rows.filter(|row| row.ended_ms.is_some()).map(|row| row.who.pid).collect();
    let used = frames().flat_map(|frame| processes(frame));
    ended.extend(used.filter(|process| process.resources.exits > Some(0)).map(|process| process.pid));
    let started = |frame: &Frame| -> HashSet<(u32, Option<u64>)> {
        let rows = frame.rows.iter().filter(|row| row.ended_ms.is_none());
        let rows = rows.map(|row| (row.who.pid, row.who.start_time_ns));
        rows.chain(processes(frame).iter().map(|process| (process.pid, process.start_time_ns))).collect()
    };
    let (then, now) = (state.shown.as_deref().map(started), state.live.newest().map(|frame| started(frame)));
    let (then, now) = (then.unwrap_or_default(), now.unwrap_or_default());
    pids.retain(|pid| !ended.contains(pid) || then.iter().any(|process| process.0 == *pid && now.contains(process)));
    // Of those that an interval in memory has, only what is there now.
    let gone: HashSet<u32> = then.difference(&now).map(|process| process.0).collect();
    pids.retain(|pid| !gone.contains(pid));
    pids
}

/// Events of the line's processes, or of a device's packets.
pub(super) fn stream(state: &mut State, command: &'static str) -> Vec<Effect> {
    if state.place == Place::Record {
        // A process of the record may be another machine's, and its number another's by now.
        state.message = Some(format!("{command} pass now, and this is a record; . goes to what is measured now"));
        return Vec::new();
    }
    let Some(line) = state.line().cloned() else { return Vec::new() };
    let pids = living(state, &line);
    let is_device = state.view().kind == Kind::Device;
    let args: Vec<String> = if is_device && command == "packets" {
        let device = line.item.and_then(|at| state.shown.as_ref()?.devices.get(at)).map(|device| device.device.clone());
        device.into_iter().flat_map(|device| ["--interface".to_owned(), device]).collect()
    } else {
        pids.iter().take(MAX_PIDS).flat_map(|pid| ["--pid".to_owned(), pid.to_string()]).collect()
    };
    if args.is_empty() {
        state.message = Some(format!("there is no process whose {command} could be shown"));
        return Vec::new();
    }
    // A device is asked for by its name.
    let whose = if is_device { " in any namespace" } else { "" };
    let title = format!("{command} of {}{whose}", title(&line, state));
    state.streams += 1;
    let number = state.streams;
    state.stream = Some(Stream { number, title, lines: VecDeque::new(), gone: 0, ended: None });
    vec![Effect::Stream { number, command, args }]
}
