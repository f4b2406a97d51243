//! The lines at the bottom: what is typed, what was done or is wrong, and the keys that matter most.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use super::pen::{Pen, join};
use crate::{
    actions::{self, Action},
    editor::Editor,
    layout::Layout,
    lines::Line,
    state::{State, Typing},
    text::{cut_front, fit, safe},
    theme::Role,
};

/// Found actions that are shown.
const MAX_FOUND: usize = 10;

pub(super) fn draw(pen: &mut Pen<'_>, layout: &Layout) {
    let state = pen.state;
    match &state.typing {
        Some(Typing::Filter(editor)) => {
            let found = state.message.clone().unwrap_or_else(|| count(state));
            typed(pen, layout.status, "/", editor, &found);
        }
        Some(Typing::Time(editor)) => {
            typed(pen, layout.status, "time: ", editor, "22:10, 'yesterday 22:10', -2h, or RFC 3339");
        }
        Some(Typing::Palette(editor, at)) => {
            typed(pen, layout.status, ":", editor, "enter does it, esc does nothing");
            draw_found(pen, layout, &editor.text(), *at);
        }
        None => {
            let stream = state.stream.as_ref().and_then(|stream| stream.ended.as_deref());
            let said = state.message.as_deref().or(stream).or(state.lost.as_deref());
            match said {
                Some(said) => pen.line(layout.status, &format!(" {}", safe(said)), Role::Near),
                None => pen.line(layout.status, &format!(" {}", status(state)), Role::Dim),
            }
        }
    }
    pen.line(layout.keys, &format!(" {}", keys(state, usize::from(layout.keys.width) - 1)), Role::Plain);
}

/// What is shown of what there is.
fn count(state: &State) -> String {
    // Ancestors that moved nothing have lines in a tree only.
    let is_counted = |line: &&Line| !line.rows.is_empty() || line.item.is_some();
    match state.lines.iter().filter(is_counted).count() {
        shown if state.filter.is_empty() => format!("{shown} lines"),
        shown => format!("{shown} of {} lines", state.lines_of),
    }
}

fn status(state: &State) -> String {
    let filter = if state.filter_text.is_empty() {
        "no filter".to_owned()
    } else {
        format!("filter: {}", safe(&state.filter_text))
    };
    let held = if state.held.is_some() { "; order held" } else { "" };
    format!("{filter}  ({}{held}; ! ended, * dropped or nobody's)", count(state))
}

/// A text that is being typed, its cursor, and at the right what it leads to.
fn typed(pen: &mut Pen<'_>, area: Rect, prompt: &str, editor: &Editor, found: &str) {
    let width = usize::from(area.width);
    let found = format!("  {}", safe(found));
    let room = width.saturating_sub(prompt.width() + 2 + found.width().min(width / 2));
    // What is before the cursor is seen, with what follows as far as it fits.
    let before = cut_front(&safe(&editor.before_cursor()), room);
    let after: String = safe(&editor.text()).chars().skip(editor.before_cursor().chars().count()).collect();
    let text = format!(" {prompt}{before}");
    pen.line(area, "", Role::Plain);
    pen.put(area.x, area.y, area.width, &text, Role::Heading);
    let x = u16::try_from(text.width()).unwrap_or(0).min(area.width.saturating_sub(1));
    let rest = if after.is_empty() { " ".to_owned() } else { after };
    pen.put(x, area.y, area.width - x, &rest, Role::Heading);
    let first: String = rest.chars().take(1).collect();
    pen.put(x, area.y, area.width - x, &first, Role::Chosen);
    let end = area.width.saturating_sub(u16::try_from(found.width().min(width / 2)).unwrap_or(0));
    pen.put(end, area.y, area.width - end, &found, Role::Dim);
}

/// Actions that match, above the line.
fn draw_found(pen: &mut Pen<'_>, layout: &Layout, text: &str, at: usize) {
    let found = actions::find(text);
    let room = MAX_FOUND.min(usize::from(layout.status.y.saturating_sub(4)));
    let first = at.saturating_sub(room.saturating_sub(1));
    let shown = found.iter().enumerate().skip(first).take(room);
    let lines = u16::try_from(found.len().saturating_sub(first).min(room)).unwrap_or(0);
    for (y, (place, known)) in (layout.status.y - lines..).zip(shown) {
        let keys = pen.state.options.keymap.keys_of(known.action);
        let text = format!(" {} {} {}", fit(known.name, 16, false), fit(&keys, 14, false), known.explains);
        let role = if place == at { Role::Chosen } else { Role::Plain };
        pen.line(Rect { y, height: 1, ..layout.status }, &text, role);
    }
}

/// The keys of what is done most, as many as fit.
fn keys(state: &State, columns: usize) -> String {
    let shown: &[(Action, &str)] = if state.stream.is_some() {
        &[(Action::Back, "back"), (Action::SaveText, "save"), (Action::Quit, "quit")]
    } else {
        &[
            (Action::Help, "help"),
            (Action::Quit, "quit"),
            (Action::Enter, "into"),
            (Action::Back, "back"),
            (Action::Filter, "filter"),
            (Action::SortRight, "sort"),
            (Action::Pause, "pause"),
            (Action::StepBack, "earlier"),
            (Action::GoTo, "time"),
            (Action::Amounts, "sums"),
            (Action::Packets, "packets"),
            (Action::Connections, "connections"),
            (Action::SaveText, "save"),
            (Action::Palette, "all actions"),
        ]
    };
    let first = |action: Action| state.options.keymap.keys_of(action).split(' ').next().unwrap_or_default().to_owned();
    let texts: Vec<String> = shown.iter().map(|(action, text)| format!("{} {text}", first(*action))).collect();
    join(&texts, columns)
}
