//! The table of a view: as many columns as fit, and the lines from the first on the screen.

use ratatui::layout::Rect;

use super::{graph, pen::Pen};
use crate::{
    layout::Layout,
    lines::{Amounts, Line, Value},
    state::{State, Stream},
    text::{cut_front, fit, safe},
    theme::Role,
    views::{Column, Kind, What},
};

/// What a column without a width of its own needs at least.
const MIN_NAME_COLUMNS: u16 = 14;
/// The mark before each line: what ended, what is bad.
const MARK_COLUMNS: u16 = 2;

/// A column on the screen.
#[derive(Clone, Copy)]
struct Shown<'a> {
    /// Place among the view's columns.
    at: usize,
    column: &'a Column,
    x: u16,
    width: u16,
}

/// The columns that fit, the least important left out first.
fn columns(state: &State, width: u16) -> Vec<Shown<'_>> {
    let all: Vec<(usize, &Column)> = state.view().columns.iter().enumerate().collect();
    let need = |column: &Column| if column.width == 0 { MIN_NAME_COLUMNS } else { column.width } + 1;
    let mut kept = all;
    loop {
        let needed: u16 = kept.iter().map(|(_, column)| need(column)).sum();
        let worst = kept.iter().map(|(_, column)| column.rank).max().unwrap_or(0);
        if needed + MARK_COLUMNS <= width || worst == 0 {
            break;
        }
        let last = kept.iter().rposition(|(_, column)| column.rank == worst);
        if let Some(last) = last {
            kept.remove(last);
        }
    }
    let fixed: u16 = kept.iter().map(|(_, column)| if column.width == 0 { 1 } else { column.width + 1 }).sum();
    let free = u16::try_from(kept.iter().filter(|(_, column)| column.width == 0).count()).unwrap_or(1).max(1);
    let each = width.saturating_sub(fixed + MARK_COLUMNS) / free;
    let mut x = MARK_COLUMNS;
    let mut shown = Vec::new();
    for (at, column) in kept {
        let columns = if column.width == 0 { each } else { column.width };
        shown.push(Shown { at, column, x, width: columns });
        x += columns + 1;
    }
    shown
}

/// The column whose heading is there.
pub(super) fn column_at(state: &State, x: u16) -> Option<usize> {
    columns(state, state.size.0)
        .into_iter()
        .find(|shown| (shown.x..=shown.x + shown.width).contains(&x))
        .map(|shown| shown.at)
}

pub(super) fn draw(pen: &mut Pen<'_>, layout: &Layout) {
    let state = pen.state;
    let columns = columns(state, layout.body.width);
    for shown in &columns {
        let is_sorted = shown.at == state.sort().column;
        let name = heading(state, shown.column);
        let arrow = match (is_sorted, state.sort().is_reversed) {
            (false, _) => "",
            (true, false) => " v",
            (true, true) => " ^",
        };
        let text = fit(&format!("{name}{arrow}"), usize::from(shown.width), shown.column.is_right());
        pen.put(shown.x, layout.heading.y, shown.width, &text, Role::Heading);
    }
    if state.lines.is_empty() && state.shown.is_some() {
        pen.put(
            MARK_COLUMNS,
            layout.body.y,
            layout.body.width.saturating_sub(MARK_COLUMNS),
            why_empty(state),
            Role::Dim,
        );
    }
    let lines = state.lines.iter().enumerate().skip(state.top).take(usize::from(layout.body.height));
    for (y, (at, line)) in (layout.body.y..).zip(lines) {
        let is_chosen = at == state.cursor && state.chosen.is_some();
        draw_line(pen, layout.body, y, &columns, line, is_chosen);
    }
}

fn draw_line(pen: &mut Pen<'_>, body: Rect, y: u16, columns: &[Shown<'_>], line: &Line, is_chosen: bool) {
    let state = pen.state;
    let role = match (is_chosen, line.is_bad, line.has_ended) {
        (true, ..) => Role::Chosen,
        (_, true, _) => Role::Bad,
        (_, _, true) => Role::Dim,
        _ => Role::Plain,
    };
    if is_chosen {
        pen.line(Rect { y, height: 1, ..body }, "", role);
    }
    let mark = match (is_chosen, line.has_ended, line.is_bad) {
        (_, true, _) => "!",
        (_, _, true) => "*",
        (true, ..) => ">",
        _ => " ",
    };
    pen.put(0, y, 1, mark, role);
    for shown in columns {
        let columns = usize::from(shown.width);
        let text = match line.values.get(shown.at) {
            None | Some(Value::None) => fit("-", columns, shown.column.is_right()),
            Some(Value::Text(text)) if matches!(shown.column.what, What::Name) => {
                let indent = "  ".repeat(line.depth);
                let room = columns.saturating_sub(indent.len());
                let has_end = state.is_long && state.view().kind != Kind::Drops;
                let text = if has_end { cut_front(text, room) } else { text.clone() };
                fit(&format!("{indent}{text}"), columns, false)
            }
            Some(Value::Text(text)) => fit(text, columns, shown.column.is_right()),
            Some(Value::Number(number) | Value::Id(number)) => fit(&number.to_string(), columns, true),
            Some(Value::Hundredths(number)) => fit(&format!("{}.{:02}", number / 100, number % 100), columns, true),
            Some(Value::Bytes(bytes)) => fit(&state.units.short(*bytes), columns, true),
            Some(Value::Trend(trend)) => graph::trend(trend, columns, state.options.is_ascii),
        };
        let is_trend = matches!(shown.column.what, What::Trend) && !is_chosen && role == Role::Plain;
        pen.put(shown.x, y, shown.width, &text, if is_trend { Role::Graph } else { role });
    }
}

/// The name of a column, as amounts are shown.
fn heading(state: &State, column: &Column) -> &'static str {
    match (column.what, state.shown_amounts()) {
        (What::Up, Amounts::Sum) => "UP SUM",
        (What::Down, Amounts::Sum) => "DOWN SUM",
        (What::Up, Amounts::SinceMark) => "UP MARK",
        (What::Down, Amounts::SinceMark) => "DN MARK",
        (What::Packets, Amounts::Sum | Amounts::SinceMark) => "PK SUM",
        _ => column.name,
    }
}

fn why_empty(state: &State) -> &'static str {
    match (state.view().kind, state.place, state.lines_of) {
        (_, _, 1..) => "nothing matches the filter; esc clears it",
        (Kind::Sockets, crate::state::Place::Record, _) => "sockets are not recorded; . goes to what is measured now",
        (Kind::Sockets, ..) if state.sockets.is_none() => "sockets are being listed",
        (Kind::Drops, ..) => "nothing was dropped",
        (Kind::Hogs, ..) => "what processes use is not measured, or was not yet read",
        _ => "nothing was moved",
    }
}

/// Events of a command, the latest at the bottom.
pub(super) fn draw_stream(pen: &mut Pen<'_>, layout: &Layout, stream: &Stream) {
    let state = pen.state;
    let gone = if stream.gone > 0 { format!(", {} lines before these are gone", stream.gone) } else { String::new() };
    pen.line(layout.heading, &format!("  {} (esc ends them{gone})", safe(&stream.title)), Role::Heading);
    let height = usize::from(layout.body.height);
    let first = stream.lines.len().saturating_sub(height);
    for (y, line) in (layout.body.y..).zip(stream.lines.iter().skip(first)) {
        pen.put(MARK_COLUMNS, y, state.size.0.saturating_sub(MARK_COLUMNS), line, Role::Plain);
    }
}
