//! What an event makes of the state.

mod acts;
mod graphs;
mod shown;
mod streams;
mod typing;

use std::sync::Arc;

use self::shown::ask_sockets;
use crate::{
    actions::Action,
    event::{Effect, Event},
    frame::{Frame, Measured},
    keys::Key,
    lines::Amounts,
    screen::{self, Spot},
    state::{Place, State},
    table,
};

/// Changes the state.
pub fn update(state: &mut State, event: Event) -> Vec<Effect> {
    let effects = on(state, event);
    graphs::renew(state);
    effects
}

fn on(state: &mut State, event: Event) -> Vec<Effect> {
    match event {
        Event::Key(key) => on_key(state, key),
        Event::Mouse { column, line, wheel } => on_mouse(state, column, line, wheel),
        Event::Resized(columns, lines) => {
            state.size = (columns, lines);
            table::scroll(state);
            // It may be the size that is known: a terminal that was smaller in between has lost lines.
            vec![Effect::Redraw]
        }
        Event::Filter(text) => {
            typing::apply(state, &text);
            Vec::new()
        }
        Event::Measured(measured) => on_measured(state, *measured),
        Event::Lost(why) => {
            state.lost = Some(why);
            Vec::new()
        }
        Event::Recorded(number, measured, said) => on_recorded(state, number, measured, said),
        Event::Time(Ok(at_ms)) => shown::go_to(state, at_ms),
        Event::Time(Err(why)) => {
            state.message = Some(why);
            Vec::new()
        }
        Event::Sockets(answer) => {
            state.asks_sockets = false;
            match answer {
                Ok(document) => state.sockets = Some(Arc::new(*document)),
                Err(why) => state.message = Some(why),
            }
            table::renew(state);
            Vec::new()
        }
        Event::Line(number, line) => {
            if let Some(stream) = state.stream.as_mut().filter(|stream| stream.number == number) {
                stream.push(&line);
            }
            Vec::new()
        }
        Event::StreamEnded(number, how) => {
            if let Some(stream) = state.stream.as_mut().filter(|stream| stream.number == number) {
                stream.ended = Some(how);
            }
            Vec::new()
        }
        Event::Done(how) => {
            state.message = Some(how);
            Vec::new()
        }
    }
}

fn on_measured(state: &mut State, measured: Measured) -> Vec<Effect> {
    let before = state.live.newest().cloned();
    let frame = Arc::new(Frame::live(measured, before.as_deref(), &mut state.interner));
    if before.is_some_and(|before| before.accounting_since != frame.accounting_since) && state.mark.take().is_some() {
        if state.amounts == Amounts::SinceMark {
            state.amounts = Amounts::Sum;
        }
        state.message = Some("counting has begun anew: the mark is gone".into());
    }
    state.live.push(Arc::clone(&frame));
    state.interner.forget_unused();
    state.lost = None;
    if state.place != Place::Newest {
        return Vec::new();
    }
    state.calm.advance();
    state.shown = Some(frame);
    table::renew(state);
    ask_sockets(state)
}

fn on_recorded(state: &mut State, number: u64, measured: Vec<Measured>, said: Option<String>) -> Vec<Effect> {
    if state.asks_record != Some(number) {
        // Something else is wanted since.
        return Vec::new();
    }
    state.asks_record = None;
    if !measured.is_empty() {
        state.record.clear();
    }
    for measured in measured {
        let frame = Frame::recorded(measured, state.record.newest().map(|frame| &**frame), &mut state.interner);
        state.record.push(Arc::new(frame));
        state.place = Place::Record;
    }
    state.interner.forget_unused();
    if state.place == Place::Record {
        state.shown = state.record.newest().cloned();
        state.calm.forget();
        table::renew(state);
    }
    state.message = said;
    match std::mem::take(&mut state.waiting_steps) {
        0 => Vec::new(),
        steps => shown::step(state, steps),
    }
}

fn on_key(state: &mut State, key: Key) -> Vec<Effect> {
    state.message = None;
    if state.typing.is_some() {
        return typing::on_key(state, key);
    }
    match state.options.keymap.action(key) {
        Some(action) => acts::act(state, action),
        None => {
            let help = state.options.keymap.keys_of(Action::Help);
            state.message = Some(format!("{key} does nothing; {help} explains the keys"));
            Vec::new()
        }
    }
}

fn on_mouse(state: &mut State, column: u16, line: u16, wheel: Option<bool>) -> Vec<Effect> {
    if let Some(is_up) = wheel {
        return acts::act(state, if is_up { Action::Up } else { Action::Down });
    }
    if state.typing.is_some() || state.help.is_some() || state.stream.is_some() {
        return Vec::new();
    }
    match screen::spot(state, column, line) {
        Some(Spot::View(view)) => acts::act(state, Action::View(view)),
        Some(Spot::Column(column)) => {
            acts::sort_by(state, column);
            Vec::new()
        }
        // A second click goes in.
        Some(Spot::Line(at)) if state.cursor == at && state.chosen.is_some() => acts::act(state, Action::Enter),
        Some(Spot::Line(at)) => {
            table::choose(state, at);
            Vec::new()
        }
        None => Vec::new(),
    }
}
