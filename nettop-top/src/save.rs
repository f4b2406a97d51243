//! The screen as text, and the view as JSON.

use ratatui::{buffer::Buffer, layout::Rect};
use serde_json::{Map, Value as Json, json};

use crate::{
    lines::{Amounts, Value},
    screen,
    state::State,
    text::base_name,
    views::{Kind, What},
};

/// Of the view's document.
const SCHEMA: &str = "nettop.top/1";

/// Exactly what is shown, line by line, without blanks at the ends.
pub fn text(state: &State) -> String {
    let (columns, lines) = state.size;
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    screen::draw(state, &mut buffer);
    lines_of(&buffer).join("\n") + "\n"
}

/// The lines of a buffer. The cell behind a wide character is a part of it.
pub fn lines_of(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y: u16| {
        let mut text = String::new();
        let mut covered = 0;
        for x in area.left()..area.right() {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            text += symbol;
        }
        text.trim_end().to_owned()
    };
    (area.top()..area.bottom()).map(line).collect()
}

/// All lines of the view, those below the screen's edge too: amounts as integers, of what `amounts` says.
pub fn json(state: &State) -> String {
    let view = state.view();
    let name = |what: What| format!("{what:?}").chars().fold(String::new(), snake);
    let rows = state.lines.iter().map(|line| {
        let mut row = Map::new();
        for (column, value) in view.columns.iter().zip(&line.values) {
            let value = match value {
                Value::None => Json::Null,
                Value::Text(text) => json!(text),
                Value::Number(number) | Value::Bytes(number) | Value::Id(number) => json!(number),
                Value::Hundredths(number) => hundredths(*number),
                Value::Trend(trend) => json!(trend),
            };
            row.insert(name(column.what), value);
        }
        row.insert("ended".into(), json!(line.has_ended));
        Json::Object(row)
    });
    let frame = state.shown.as_deref();
    let amounts = match (view.kind, state.shown_amounts()) {
        // Of sockets nothing is added up, and what is used has amounts of many kinds.
        (Kind::Sockets | Kind::Hogs, _) => None,
        (Kind::Drops, Amounts::Rate) => Some("packets_per_s"),
        (Kind::Drops, Amounts::Sum | Amounts::SinceMark) => Some("packets"),
        (Kind::Device, Amounts::SinceMark) => Some("bytes"),
        (_, Amounts::Rate) => Some("bytes_per_s"),
        (_, Amounts::Sum) => Some("bytes"),
        (_, Amounts::SinceMark) => Some("bytes_since_mark"),
    };
    let document = json!({
        "schema": SCHEMA,
        "view": base_name(view.name).to_lowercase(),
        "host": frame.map(|frame| &frame.host),
        "time": frame.map(|frame| &frame.local_time),
        "at_ms": frame.map(|frame| frame.at_ms),
        "interval_ms": frame.map(|frame| frame.interval_ms),
        "amounts": amounts,
        "filter": state.filter_text,
        "scope": state.scope.iter().map(|crumb| &crumb.title).collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn hundredths(number: u64) -> Json {
    json!(number as f64 / 100.0)
}

/// `UpSum` is `up_sum`.
fn snake(mut text: String, c: char) -> String {
    if c.is_ascii_uppercase() && !text.is_empty() {
        text.push('_');
    }
    text.push(c.to_ascii_lowercase());
    text
}
