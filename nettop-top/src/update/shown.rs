//! Which frame is shown: the newest, one in memory, one of the record; and what is asked for with it.

use std::sync::Arc;

use crate::{
    event::{Effect, Move},
    frame::Frame,
    lines::is_in_scope,
    state::{Place, State},
    table,
    views::Kind,
};

const MINUTE_MS: i64 = 60_000;

/// Asks for sockets where they are shown, unless an answer is under way.
pub(super) fn ask_sockets(state: &mut State) -> Vec<Effect> {
    /// More processes than that are filtered here.
    const MAX_PIDS: usize = 64;
    let is_shown = state.view().kind == Kind::Sockets && state.place == Place::Newest && state.stream.is_none();
    if !is_shown || state.asks_sockets || !state.options.has_live {
        return Vec::new();
    }
    let Some(frame) = &state.shown else { return Vec::new() };
    let rows = frame.rows.iter().map(|row| &row.who);
    let in_scope = rows.filter(|who| who.pid != 0 && is_in_scope(&state.scope, who));
    let mut pids: Vec<u32> = in_scope.map(|who| who.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    if state.scope.is_empty() || pids.len() > MAX_PIDS {
        pids.clear();
    }
    state.asks_sockets = true;
    vec![Effect::Sockets { pids }]
}

pub(super) fn pause(state: &mut State) -> Vec<Effect> {
    match state.place {
        Place::Newest if state.shown.is_some() => {
            state.place = Place::Held;
            Vec::new()
        }
        Place::Newest => Vec::new(),
        Place::Held => now(state),
        Place::Record => {
            state.message = Some("a record stands still; . goes to what is measured now".into());
            Vec::new()
        }
    }
}

pub(super) fn now(state: &mut State) -> Vec<Effect> {
    if !state.options.has_live {
        state.message = Some("nothing is measured now: --file shows a record alone, or no daemon answers".into());
        return Vec::new();
    }
    state.place = Place::Newest;
    forget_record(state);
    state.calm.forget();
    state.shown = state.live.newest().cloned();
    if state.shown.is_none() {
        state.lines.clear();
    }
    table::renew(state);
    ask_sockets(state)
}

/// A frame of those in memory.
fn show(state: &mut State, frame: Arc<Frame>) {
    state.place = Place::Held;
    forget_record(state);
    state.shown = Some(frame);
    state.calm.forget();
    table::renew(state);
}

pub(super) fn step(state: &mut State, steps: i64) -> Vec<Effect> {
    let Some(shown) = state.shown.clone() else { return Vec::new() };
    if state.place == Place::Record {
        if state.asks_record.is_some() {
            state.waiting_steps = state.waiting_steps.saturating_add(steps);
            return Vec::new();
        }
        return ask_record(state, Move::From(shown.at_ms, steps));
    }
    let steps = isize::try_from(steps).unwrap_or(0);
    match state.live.step(shown.at_ms, steps).cloned() {
        Some(frame) if frame.at_ms != shown.at_ms => show(state, frame),
        _ if steps < 0 => state.message = Some(older(state)),
        _ => state.message = Some("this is the last interval; space goes on".into()),
    }
    Vec::new()
}

fn older(state: &State) -> String {
    let has_record = state.options.has_record;
    let then = if has_record { "b goes to a time in the record" } else { "and there is no record" };
    format!("nothing older is in memory; {then}")
}

pub(super) fn by_minutes(state: &mut State, minutes: i64) -> Vec<Effect> {
    let Some(shown) = state.shown.clone() else { return Vec::new() };
    if state.place == Place::Record && state.options.has_record {
        return ask_record(state, Move::Minutes(shown.at_ms, minutes));
    }
    let at_ms = shown.at_ms + minutes * MINUTE_MS;
    if state.place != Place::Record && minutes > 0 {
        return match state.live.newest() {
            Some(newest) if newest.at_ms > at_ms => go_to(state, at_ms),
            _ => now(state),
        };
    }
    // What ended then has the time before it.
    to(state, at_ms, at_ms - 1)
}

/// To a time: in memory, else in the record.
pub(super) fn go_to(state: &mut State, at_ms: i64) -> Vec<Effect> {
    to(state, at_ms, at_ms)
}

fn to(state: &mut State, at_ms: i64, record_ms: i64) -> Vec<Effect> {
    let frame = state.live.at(at_ms).cloned().filter(|_| state.place != Place::Record || !state.options.has_record);
    match frame {
        Some(frame) => {
            show(state, frame);
            Vec::new()
        }
        None if state.options.has_record => ask_record(state, Move::To(record_ms)),
        None => {
            state.message = Some(older(state));
            Vec::new()
        }
    }
}

/// Steps that are asked for meanwhile wait.
fn ask_record(state: &mut State, to: Move) -> Vec<Effect> {
    state.record_questions += 1;
    let number = state.record_questions;
    (state.asks_record, state.waiting_steps) = (Some(number), 0);
    vec![Effect::Record { number, to }]
}

/// Whatever it answers is not wanted any more.
const fn forget_record(state: &mut State) {
    (state.asks_record, state.waiting_steps) = (None, 0);
}
