//! A line that is typed: text, a cursor, and what was typed before.

/// Longer is not taken.
const MAX_CHARS: usize = 500;
/// Earlier lines that are kept.
const MAX_EARLIER: usize = 50;

/// What is being typed.
#[derive(Clone, Debug, Default)]
pub struct Editor {
    chars: Vec<char>,
    cursor: usize,
    /// How far back among earlier lines.
    back: usize,
}

impl Editor {
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().take(MAX_CHARS).collect();
        Self { cursor: chars.len(), chars, back: 0 }
    }

    pub fn text(&self) -> String {
        self.chars.iter().collect()
    }

    /// Characters before the cursor.
    pub fn before_cursor(&self) -> String {
        self.chars[..self.cursor].iter().collect()
    }

    pub fn insert(&mut self, c: char) {
        if self.chars.len() < MAX_CHARS && !c.is_control() {
            self.chars.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    pub fn delete_before(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.chars.remove(self.cursor);
        }
    }

    pub fn delete_here(&mut self) {
        if self.cursor < self.chars.len() {
            self.chars.remove(self.cursor);
        }
    }

    /// All that is before the cursor.
    pub fn delete_line(&mut self) {
        self.chars.drain(..self.cursor);
        self.cursor = 0;
    }

    pub fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    pub fn right(&mut self) {
        self.cursor = (self.cursor + 1).min(self.chars.len());
    }

    pub const fn home(&mut self) {
        self.cursor = 0;
    }

    pub const fn end(&mut self) {
        self.cursor = self.chars.len();
    }

    /// Takes an earlier line, or with `is_later` one that is less early.
    pub fn recall(&mut self, earlier: &Earlier, is_later: bool) {
        let back = if is_later { self.back.saturating_sub(1) } else { (self.back + 1).min(earlier.0.len()) };
        let text = earlier.0.len().checked_sub(back).and_then(|at| earlier.0.get(at)).cloned().unwrap_or_default();
        *self = Self { back, ..Self::new(&text) };
    }
}

/// Lines that were typed before, the last one at the end.
#[derive(Clone, Debug, Default)]
pub struct Earlier(Vec<String>);

impl Earlier {
    pub fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.0.retain(|earlier| earlier != text);
        self.0.push(text.to_owned());
        if self.0.len() > MAX_EARLIER {
            self.0.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_typed_changed_and_found_again() {
        let mut editor = Editor::new("ngix");
        editor.left();
        editor.insert('n');
        editor.insert('\x1b');
        assert_eq!((editor.text(), editor.before_cursor()), ("nginx".to_owned(), "ngin".to_owned()));
        editor.home();
        editor.delete_here();
        editor.end();
        editor.delete_before();
        assert_eq!(editor.text(), "gin");
        editor.delete_line();
        assert_eq!(editor.text(), "");
        let mut earlier = Earlier::default();
        ["a", "b", "a", ""].into_iter().for_each(|text| earlier.push(text));
        let mut texts = [false, false, false, true, true, true].map(|is_later| {
            editor.recall(&earlier, is_later);
            editor.text()
        });
        texts.reverse();
        assert_eq!(texts, ["", "", "a", "b", "b", "a"]);
    }
}
