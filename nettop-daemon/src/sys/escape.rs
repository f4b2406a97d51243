//! The one boundary for text from outside: what leaves here cannot move a cursor, end a line or reorder text.

use std::fmt::Write as _;

/// Escapes control, C1, bidirectional and line-separating characters and bytes that are not UTF-8 as `\xNN`, and doubles
/// backslashes.
pub fn escape(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\\\");
            } else if is_hostile(c) {
                escape_bytes(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Escapes a name that the kernel ends with a zero.
pub fn escape_c(raw: &[u8]) -> String {
    escape(raw.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// The same in another manner: between quotes as C has them, printable ASCII, and escapes for all else.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    let mut rest = bytes.iter().peekable();
    while let Some(byte) = rest.next() {
        let is_digit_next = rest.peek().is_some_and(|next| matches!(next, b'0'..=b'7'));
        // Writing to a String does not fail.
        let _ = match byte {
            b'"' | b'\\' => write!(text, "\\{}", char::from(*byte)),
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            0x0b => write!(text, "\\v"),
            0x0c => write!(text, "\\f"),
            b' '..=b'~' => write!(text, "{}", char::from(*byte)),
            // A digit that follows must not be taken for one of the number's.
            _ if is_digit_next => write!(text, "\\{byte:03o}"),
            _ => write!(text, "\\{byte:o}"),
        };
    }
    text.push('"');
    text
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_become_harmless_and_stay_readable() {
        assert_eq!(escape(b"\x1b]0;x\x07"), "\\x1b]0;x\\x07");
        assert_eq!(escape("a\u{202e}b\u{9b}".as_bytes()), "a\\xe2\\x80\\xaeb\\xc2\\x9b");
        assert_eq!(escape(b"\xff\\n\n"), "\\xff\\\\n\\x0a");
        assert_eq!(escape("größe".as_bytes()), "größe");
        assert_eq!(escape_c(b"sshd\0\0junk"), "sshd");
    }

    #[test]
    fn quoted_bytes_are_escaped_as_c_has_them() {
        assert_eq!(quote(b"/tmp/\x1b[2J\"\n\xe2\x80\xae\\"), r#""/tmp/\33[2J\"\n\342\200\256\\""#);
        assert_eq!(quote(b"\x001\0"), r#""\0001\0""#);
    }
}
