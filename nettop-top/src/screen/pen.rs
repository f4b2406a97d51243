//! Writes into the buffer, and nowhere beside it.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    state::State,
    text::{cut, fit},
    theme::Role,
};

/// A buffer, and the state that is drawn.
pub(super) struct Pen<'a> {
    pub buffer: &'a mut Buffer,
    pub state: &'a State,
}

impl Pen<'_> {
    /// Up to so many columns of a text.
    pub fn put(&mut self, x: u16, y: u16, columns: u16, text: &str, role: Role) {
        let style = self.state.options.theme.style(role);
        self.put_styled(x, y, columns, text, style);
    }

    fn put_styled(&mut self, x: u16, y: u16, columns: u16, text: &str, style: Style) {
        let area = self.buffer.area;
        if x >= area.right() || y >= area.bottom() {
            return;
        }
        let columns = columns.min(area.right() - x);
        let text = cut(text, usize::from(columns));
        let text = if self.state.options.is_ascii { ascii(&text) } else { text };
        self.buffer.set_stringn(x, y, text, usize::from(columns), style);
    }

    /// A whole line.
    pub fn line(&mut self, area: Rect, text: &str, role: Role) {
        if area.height > 0 {
            self.put(area.x, area.y, area.width, &fit(text, usize::from(area.width), false), role);
        }
    }
}

/// The same width in ASCII.
fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            plain.push(c);
        } else {
            let columns = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
            plain.extend(std::iter::repeat_n('?', columns));
        }
    }
    plain
}

/// Texts beside each other with two blanks between, as many as fit whole.
pub(super) fn join(texts: &[String], columns: usize) -> String {
    let mut line = String::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let gap = if line.is_empty() { 0 } else { 2 };
        if line.width() + gap + text.width() > columns {
            break;
        }
        line += &"  "[..gap];
        line += text;
    }
    line
}
