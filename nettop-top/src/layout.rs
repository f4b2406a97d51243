//! Where what is on a screen.

use ratatui::layout::Rect;

use crate::state::State;

/// Smaller screens have no details, and no line of keys.
const MIN_LINES_FOR_DETAILS: u16 = 20;
const MIN_LINES_FOR_KEYS: u16 = 12;

/// Where what is; what there is no room for has no height.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    pub head: Rect,
    pub books: Rect,
    pub tabs: Rect,
    pub heading: Rect,
    pub body: Rect,
    pub details: Rect,
    pub status: Rect,
    pub keys: Rect,
}

/// Where what is on a screen of the state's size.
pub fn layout(state: &State) -> Layout {
    let (columns, lines) = state.size;
    let keys = u16::from(lines >= MIN_LINES_FOR_KEYS);
    let has_details = state.has_details && lines >= MIN_LINES_FOR_DETAILS && state.stream.is_none();
    let rest = lines.saturating_sub(5 + keys);
    let details = match (state.is_zoomed && state.stream.is_none(), has_details) {
        (true, _) => rest,
        (false, true) => (lines / 3).clamp(7, 14).min(rest.saturating_sub(4)),
        (false, false) => 0,
    };
    let row = |y: u16, height: u16| Rect::new(0, y.min(lines), columns, height.min(lines.saturating_sub(y)));
    let body = rest - details;
    Layout {
        head: row(0, 1),
        books: row(1, 1),
        tabs: row(2, 1),
        heading: row(3, 1),
        body: row(4, body),
        details: row(4 + body, details),
        status: row(4 + rest, 1),
        keys: row(5 + rest, keys),
    }
}

/// Lines of the table on the screen.
pub fn page(state: &State) -> usize {
    usize::from(layout(state).body.height).max(1)
}
