//! The help of a view, over it: what it shows, what each column means, and every key.

use unicode_width::UnicodeWidthStr as _;

use super::pen::Pen;
use crate::{
    actions::ACTIONS,
    filter::{AMOUNTS, FIELDS},
    layout::Layout,
    state::State,
    text::fit,
    theme::Role,
};

/// What names take in front of explanations.
const NAME_COLUMNS: usize = 17;

/// Its lines, as wide as the screen.
pub fn lines(state: &State) -> Vec<String> {
    let view = state.view();
    let mut lines = vec![view.explains.to_owned(), String::new()];
    for column in view.columns {
        lines.push(format!("{} {}", fit(column.name, 16, false), column.explains));
    }
    lines.push(String::new());
    lines.push(
        "The first lines: bytes of all devices but loopback, each second; whose they were; what was lost.".into(),
    );
    lines.push(
        "owned: of processes. kernel: its own. forwarded: received and sent again. nobody: no IP socket saw it.".into(),
    );
    lines.push(
        "! at a line: it has ended; it stays for a minute. * at a line: packets of it were dropped, or are nobody's."
            .into(),
    );
    lines.push(String::new());
    for known in &ACTIONS {
        let keys = state.options.keymap.keys_of(known.action);
        lines.push(format!("{} {} {}", fit(&keys, 16, false), fit(known.name, 16, false), known.explains));
    }
    lines.push(String::new());
    lines.push("A filter is words that a line has, all of them; and, or, not, ( ), /regular expression/.".into());
    lines.push(format!("Of one field: {}", FIELDS.map(|(name, _)| format!("{name}:")).join(" ")));
    lines.push(format!(
        "Of an amount (tx, rx and all: bytes each second; others: packets of the interval): {}",
        AMOUNTS.map(|(name, _)| format!("{name}>1M")).join(" ")
    ));
    let columns = usize::from(state.size.0).saturating_sub(2);
    lines.iter().flat_map(|line| wrap(line, columns)).collect()
}

/// As many lines as a line needs. Explanations go on below where they began.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    let indent =
        if line.get(NAME_COLUMNS - 1..NAME_COLUMNS) == Some(" ") && line.contains("  ") { NAME_COLUMNS } else { 0 };
    let mut wrapped = Vec::new();
    let mut rest = line.to_owned();
    while rest.width() > columns {
        let room = rest.char_indices().take_while(|(at, _)| rest[..*at].width() <= columns).last();
        let room = room.map_or(rest.len(), |(at, _)| at);
        let end = rest[..room].rfind(' ').filter(|end| *end > indent).unwrap_or(room);
        if end <= indent {
            break;
        }
        let after = rest[end..].trim_start().to_owned();
        rest.truncate(end);
        wrapped.push(std::mem::replace(&mut rest, " ".repeat(indent) + &after));
    }
    wrapped.push(rest);
    wrapped
}

pub(super) fn draw(pen: &mut Pen<'_>, layout: &Layout, first: usize) {
    let (columns, _) = pen.state.size;
    let lines = lines(pen.state);
    let title = format!(" Help: {} (up and down scroll, esc ends it)", pen.state.view().name);
    pen.line(layout.heading, &title, Role::Chosen);
    let mut shown = lines.iter().skip(first);
    for y in layout.body.y..layout.status.y {
        let text = shown.next().map_or("", String::as_str);
        pen.put(0, y, columns, &fit(&format!(" {text}"), usize::from(columns), false), Role::Plain);
    }
}
