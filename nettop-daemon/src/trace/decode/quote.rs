//! Bytes between quotes as C has them: printable ASCII, and escapes for all else. What comes out can do no harm.

use std::fmt::Write as _;

/// All bytes.
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

/// The first 32 bytes, and `...` where there are more than these.
pub fn quote_some(bytes: &[u8], length: usize) -> String {
    const MOST: usize = 32;
    let more = if length > MOST { "..." } else { "" };
    format!("{}{more}", quote(bytes.get(..MOST).unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_escaped_as_c_has_them() {
        assert_eq!(quote(b"/tmp/\x1b[2J\"\n\xe2\x80\xae\\"), r#""/tmp/\33[2J\"\n\342\200\256\\""#);
        assert_eq!(quote(b"\x001\0"), r#""\0001\0""#);
        assert_eq!(quote_some(&[b'a'; 40], 40), format!("\"{}\"...", "a".repeat(32)));
    }
}
