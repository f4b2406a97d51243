//! Text that fits: cut and padded by columns of the terminal, and without what would move a cursor.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The text without control and bidirectional characters. Documents are escaped already; a file from elsewhere may not be.
pub fn safe(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// As much of a text as fits, with `~` at its end where something is left out.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let room = columns.saturating_sub(1);
    let fits = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used <= room
    });
    let mut text: String = fits.collect();
    if columns > 0 {
        text.push('~');
    }
    text
}

/// The same with its beginning left out: the end of a path tells more.
pub fn cut_front(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let mut kept: Vec<char> = Vec::new();
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('~');
    }
    kept.into_iter().rev().collect()
}

/// Exactly so many columns: cut, or padded on the side that its alignment leaves.
pub fn fit(text: &str, columns: usize, is_right: bool) -> String {
    let text = cut(text, columns);
    let blanks = " ".repeat(columns.saturating_sub(text.width()));
    if is_right { blanks + &text } else { text + &blanks }
}

/// The last part of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_as_wide_as_asked_for_and_moves_no_cursor() {
        assert_eq!(cut("postgres", 8), "postgres");
        assert_eq!(cut("postgres", 5), "post~");
        assert_eq!(cut("日本語", 5), "日本~");
        assert_eq!(cut("日本語", 4), "日~");
        assert_eq!(cut_front("/usr/sbin/nginx", 7), "~/nginx");
        assert_eq!(fit("ab", 4, true), "  ab");
        assert_eq!(fit("日本", 3, false), "日~");
        assert_eq!(cut("ab", 0), "");
        assert_eq!(safe("a\x1b[2J\u{202e}b\n"), "a?[2J?b?");
        assert_eq!(base_name("/usr/sbin/nginx"), "nginx");
        assert_eq!(base_name("/"), "/");
    }
}
