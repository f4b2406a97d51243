//! The screen of a state: pure, the same for the same state and size.

mod details;
mod foot;
mod graph;
mod head;
mod help;
mod pen;
mod table;

use ratatui::{buffer::Buffer, layout::Rect};

pub use self::help::lines as help_lines;
use self::pen::Pen;
use crate::{layout::layout, state::State, theme::Role};

/// Smaller screens show one sentence.
const MIN_COLUMNS: u16 = 40;
const MIN_LINES: u16 = 8;
/// What is at a place of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    View(usize),
    Column(usize),
    Line(usize),
}

/// What a click means.
pub fn spot(state: &State, column: u16, line: u16) -> Option<Spot> {
    let layout = layout(state);
    let is_in = |area: Rect| area.contains((column, line).into());
    if is_in(layout.tabs) {
        return head::view_at(state, column).map(Spot::View);
    }
    if is_in(layout.heading) {
        return table::column_at(state, column).map(Spot::Column);
    }
    let at = state.top + usize::from(line.checked_sub(layout.body.y)?);
    (is_in(layout.body) && at < state.lines.len()).then_some(Spot::Line(at))
}

/// Draws the whole screen.
pub fn draw(state: &State, buffer: &mut Buffer) {
    let (columns, lines) = state.size;
    let pen = &mut Pen { buffer, state };
    if columns < MIN_COLUMNS || lines < MIN_LINES {
        let size = format!("{MIN_COLUMNS}x{MIN_LINES} at least; this is {columns}x{lines}");
        return pen.put(0, 0, columns, &size, Role::Plain);
    }
    let layout = layout(state);
    head::draw(pen, &layout);
    match &state.stream {
        Some(stream) => table::draw_stream(pen, &layout, stream),
        None => {
            table::draw(pen, &layout);
            details::draw(pen, layout.details);
        }
    }
    foot::draw(pen, &layout);
    if let Some(first) = state.help {
        help::draw(pen, &layout, first);
    }
}
