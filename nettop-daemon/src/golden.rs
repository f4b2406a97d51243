//! Texts that are kept in the repository, for tests. `UPDATE_GOLDEN=1` renews them: look at what changed.

use std::fs;

/// Compares a text with what is kept at a path of this package.
pub fn hold(name: &str, text: &str) {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{path} is out of date: run the tests once with UPDATE_GOLDEN=1\n{text}");
}

/// The same for output: nothing in it may move a cursor, end a line or reorder text.
pub fn hold_output(name: &str, text: &str) {
    let is_harmless = |c: char| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
    assert!(text.chars().all(is_harmless), "{name}: {text:?}");
    hold(name, text);
}
