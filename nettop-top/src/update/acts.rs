//! What each action does.

use super::{
    shown::{ask_sockets, by_minutes, now, pause, step},
    streams::{pids, process_of_drop, stream, title},
};
use crate::{
    actions::Action,
    editor::Editor,
    event::Effect,
    layout::page,
    lines::{Amounts, Crumb},
    save, screen,
    state::{Place, State, Typing},
    table::{self, choose},
    views::{Kind, VIEWS, number_of},
};

pub(super) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if let Some(done) = act_over_the_table(state, action) {
        return done;
    }
    match action {
        Action::Quit => return vec![Effect::Quit { leave: None }],
        Action::QuitAndLeave => return vec![Effect::Quit { leave: Some(save::text(state)) }],
        Action::Help => state.help = Some(0),
        Action::View(view) => return show_view(state, view),
        Action::NextView => return show_view(state, (state.view + 1) % VIEWS.len()),
        Action::PreviousView => return show_view(state, (state.view + VIEWS.len() - 1) % VIEWS.len()),
        Action::Up => choose(state, state.cursor.saturating_sub(1)),
        // The first time, what is chosen is seen.
        Action::Down if state.chosen.is_none() => choose(state, state.cursor),
        Action::Down => choose(state, state.cursor + 1),
        Action::First => choose(state, 0),
        Action::Last => choose(state, usize::MAX),
        Action::PageUp => choose(state, state.cursor.saturating_sub(page(state))),
        Action::PageDown => choose(state, state.cursor + page(state)),
        Action::Enter => return enter(state),
        Action::Back => return back(state),
        Action::Filter => state.typing = Some(Typing::Filter(Editor::new(&state.filter_text))),
        Action::Palette => state.typing = Some(Typing::Palette(Editor::default(), 0)),
        Action::GoTo if state.options.has_record || state.options.has_live => {
            state.typing = Some(Typing::Time(Editor::default()));
        }
        Action::SortRight => sort_beside(state, 1),
        Action::SortLeft => sort_beside(state, -1),
        Action::Reverse => {
            state.sorts[state.view].is_reversed ^= true;
            sorted(state);
        }
        Action::Hold => hold(state),
        Action::Amounts => return amounts(state),
        Action::Mark => mark(state),
        Action::Units => {
            state.units = state.units.next();
            state.message = Some(format!("amounts are in {}", state.units.name()));
        }
        Action::Names => {
            state.has_names ^= true;
            state.message = Some(if state.has_names { "names of addresses" } else { "addresses by number" }.into());
            table::renew(state);
        }
        Action::Long => {
            state.is_long ^= true;
            table::renew(state);
        }
        Action::Tree => {
            state.is_tree ^= true;
            let effects = show_view(state, number_of(Kind::Process));
            table::renew(state);
            return effects;
        }
        Action::Details => {
            state.has_details ^= true;
            state.is_zoomed = false;
            table::scroll(state);
        }
        Action::Zoom => state.is_zoomed ^= true,
        Action::Pause => return pause(state),
        Action::StepOn => return step(state, 1),
        Action::StepBack => return step(state, -1),
        Action::MinuteOn => return by_minutes(state, 1),
        Action::MinuteBack => return by_minutes(state, -1),
        Action::Now => return now(state),
        Action::Packets => return stream(state, "packets"),
        Action::Connections => return stream(state, "connections"),
        Action::SaveText => return vec![Effect::Save { extension: "txt", text: save::text(state) }],
        Action::SaveJson => return vec![Effect::Save { extension: "json", text: save::json(state) }],
        Action::Mouse => {
            state.has_mouse ^= true;
            let whose = if state.has_mouse { "used here" } else { "left to the terminal" };
            state.message = Some(format!("the mouse is {whose}"));
            return vec![Effect::Mouse(state.has_mouse)];
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Suspend => return vec![Effect::Suspend],
        Action::GoTo => state.message = Some("there is no record to go to".into()),
    }
    Vec::new()
}

/// What help and streams of events take for themselves while they are shown.
fn act_over_the_table(state: &mut State, action: Action) -> Option<Vec<Effect>> {
    let scrolled = |at: usize| match action {
        Action::Up => Some(at.saturating_sub(1)),
        Action::Down => Some(at + 1),
        Action::PageUp => Some(at.saturating_sub(10)),
        Action::PageDown => Some(at + 10),
        Action::First => Some(0),
        Action::Last => Some(usize::MAX / 2),
        _ => None,
    };
    if let Some(at) = state.help {
        let ends = matches!(action, Action::Back | Action::Help | Action::Enter | Action::Quit);
        let most = screen::help_lines(state).len().saturating_sub(1);
        state.help = if ends { None } else { Some(scrolled(at).unwrap_or(at).min(most)) };
        return Some(Vec::new());
    }
    if state.stream.is_some() {
        return match action {
            Action::Back => {
                state.stream = None;
                Some([vec![Effect::StopStream], ask_sockets(state)].concat())
            }
            Action::Quit
            | Action::QuitAndLeave
            | Action::SaveText
            | Action::Help
            | Action::Mouse
            | Action::Redraw
            | Action::Suspend => None,
            _ => Some(Vec::new()),
        };
    }
    None
}

fn show_view(state: &mut State, view: usize) -> Vec<Effect> {
    if view != state.view && view < VIEWS.len() {
        state.view = view;
        (state.cursor, state.chosen, state.top, state.held) = (0, None, 0, None);
        state.calm.forget();
        table::renew(state);
    }
    ask_sockets(state)
}

fn enter(state: &mut State) -> Vec<Effect> {
    let Some(line) = state.line().cloned() else { return Vec::new() };
    let view = state.view();
    let Some(down) = view.down else { return stream(state, "packets") };
    let pids = pids(state, &line);
    let (kind, key) = match view.kind {
        Kind::Drops => match process_of_drop(state, &line) {
            Some(key) => (Kind::Process, key),
            None => {
                state.message = Some("it is not known whose packets these are".into());
                return Vec::new();
            }
        },
        Kind::Hogs if pids.is_empty() => {
            state.message = Some("these are several processes of one name".into());
            return Vec::new();
        }
        kind => (kind, line.key.clone()),
    };
    if down == Kind::Sockets && pids.is_empty() {
        state.message = Some("the kernel's traffic has no sockets of a process".into());
        return Vec::new();
    }
    state.scope.push(Crumb { kind, key, title: title(&line, state) });
    (state.filter, state.filter_text) = Default::default();
    let effects = show_view(state, number_of(down));
    table::renew(state);
    effects
}

/// Clears the filter, else leaves what was entered last.
fn back(state: &mut State) -> Vec<Effect> {
    if state.is_zoomed {
        state.is_zoomed = false;
        return Vec::new();
    }
    if !state.filter.is_empty() || !state.filter_text.is_empty() {
        (state.filter, state.filter_text) = Default::default();
        table::renew(state);
        return ask_sockets(state);
    }
    let Some(crumb) = state.scope.pop() else { return Vec::new() };
    let effects = show_view(state, number_of(crumb.kind));
    state.chosen = Some(crumb.key);
    table::renew(state);
    effects
}

pub(super) fn sort_by(state: &mut State, column: usize) {
    let column = column.min(state.view().columns.len() - 1);
    let sort = &mut state.sorts[state.view];
    let is_same = sort.column == column;
    (sort.column, sort.is_reversed) = (column, is_same && !sort.is_reversed);
    sorted(state);
}

/// The first and the last column have none beside them.
fn sort_beside(state: &mut State, columns: isize) {
    let beside = state.sort().column.checked_add_signed(columns);
    if let Some(column) = beside.filter(|column| *column < state.view().columns.len()) {
        sort_by(state, column);
    }
}

fn sorted(state: &mut State) {
    state.held = None;
    state.calm.forget();
    table::renew(state);
    let name = state.view().columns.get(state.sort().column).map_or("", |column| column.name);
    let how = if state.sort().is_reversed { ", reversed" } else { "" };
    state.message = Some(format!("sorted by {name}{how}"));
}

fn hold(state: &mut State) {
    state.held = match state.held {
        Some(_) => None,
        None => Some(state.lines.iter().map(|line| line.key.clone()).collect()),
    };
    state.calm.forget();
    state.message = Some(if state.held.is_some() { "the order is held" } else { "the order is free" }.into());
    table::renew(state);
}

fn amounts(state: &mut State) -> Vec<Effect> {
    state.amounts = match (state.amounts, &state.mark) {
        (Amounts::Rate, _) => Amounts::Sum,
        (Amounts::Sum, Some(_)) if state.place != Place::Record => Amounts::SinceMark,
        (Amounts::Sum | Amounts::SinceMark, _) => Amounts::Rate,
    };
    state.calm.forget();
    table::renew(state);
    Vec::new()
}

fn mark(state: &mut State) {
    let Some(frame) = state.shown.clone().filter(|_| state.place != Place::Record) else {
        state.message = Some("a mark is set in what is measured now; . goes there".into());
        return;
    };
    if state.live.newest().is_some_and(|newest| newest.accounting_since != frame.accounting_since) {
        state.message = Some("counting has begun anew since: set the mark in a later interval".into());
        return;
    }
    state.mark = Some(frame.rows.iter().map(|row| (row.who.key(), row.total)).collect());
    state.amounts = Amounts::SinceMark;
    state.calm.forget();
    state.message = Some(format!("sums begin at {}", frame.local_time));
    table::renew(state);
}
