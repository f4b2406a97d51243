//! The screen against what it was given: as people see it, whatever they do, whatever names there are.

mod example;
mod keys;
mod random;
mod screens;

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    event::{Effect, Event},
    keys::Key,
    save::lines_of,
    screen,
    state::{Options, State},
    update::update,
};

fn state(size: (u16, u16)) -> State {
    State::new(Options { has_record: true, has_live: true, ..Options::default() }, size)
}

/// Presses keys by their names.
fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    let keys = keys.split_whitespace().map(|name| Key::parse(name).unwrap_or_else(|| panic!("{name}")));
    keys.flat_map(|key| update(state, Event::Key(key))).collect()
}

/// Types a text.
fn type_text(state: &mut State, text: &str) {
    text.chars().for_each(|c| drop(update(state, Event::Key(Key::Char(c)))));
}

fn buffer(state: &State) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, state.size.0, state.size.1));
    screen::draw(state, &mut buffer);
    buffer
}

fn shown(state: &State) -> Vec<String> {
    lines_of(&buffer(state))
}

/// The first line that has this text.
#[track_caller]
fn line_with(state: &State, text: &str) -> String {
    let lines = shown(state);
    lines
        .iter()
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no {text} in\n{}", lines.join("\n")))
        .clone()
}
