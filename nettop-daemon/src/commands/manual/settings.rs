//! nettopd.toml(5), made from the settings that packages install: each key stands there with its default and a comment.

use std::io;

use clap_mangen::roff::{Inline, Roff};

use crate::defaults;

/// The file as packages install it.
const SETTINGS: &str = include_str!("../../../../packaging/nettopd.toml");

/// Writes the page.
///
/// # Errors
///
/// If the writer fails.
pub fn write_page(writer: &mut impl io::Write) -> io::Result<()> {
    let mut page = Roff::new();
    page.control("TH", ["nettopd.toml", "5", "", "nettopd", "File Formats"]);
    page.control("SH", ["NAME"]).text([roman("nettopd.toml - settings of nettopd")]);
    page.control("SH", ["SYNOPSIS"]).text([roman(defaults::CONFIG_FILE)]);
    page.control("br", []).text([roman(&format!("{}/*.toml", defaults::CONFIG_FOLDER))]);
    page.control("SH", ["DESCRIPTION"]);
    for part in SETTINGS.split("\n\n") {
        paragraph(&mut page, part);
    }
    page.control("SH", ["SEE ALSO"]).text([roman("nettopd(8)")]);
    page.to_writer(writer)
}

/// One part between empty lines: a table's name or none, a comment, and keys behind marks or none.
fn paragraph(page: &mut Roff, part: &str) {
    let mut lines = part.lines().peekable();
    if let Some(table) = lines.next_if(|line| line.starts_with('[')) {
        page.control("SH", [table.trim_matches(['[', ']']).to_uppercase().as_str()]);
        page.text([roman(&format!("Keys of the table {table}:"))]);
    }
    let (comments, keys): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("# "));
    let comment: Vec<&str> = comments.iter().map(|line| line.trim_start_matches("# ")).collect();
    if keys.is_empty() {
        page.control("PP", []);
    }
    for key in keys.iter().map(|line| line.trim_start_matches('#')).filter(|key| !key.is_empty()) {
        page.control("TP", []).text([Inline::Bold(key.to_owned())]);
    }
    page.text([roman(&comment.join(" "))]);
}

fn roman(text: &str) -> Inline {
    Inline::Roman(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_key_with_its_default_and_a_comment() {
        let mut page = Vec::new();
        write_page(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap().replace("\\-", "-");
        let keys: Vec<&str> = SETTINGS.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let keys: Vec<&str> = keys.into_iter().filter(|line| line.contains(" = ") && !line.starts_with(' ')).collect();
        assert!(keys.len() > 8, "{keys:?}");
        for key in keys {
            let entry = page.split_once(&format!("\n\\fB{key}\\fR\n"));
            let comment = entry.and_then(|(_, rest)| rest.lines().next()).unwrap_or_else(|| panic!("{key}\n{page}"));
            assert!(comment.len() > 20 && !comment.starts_with('.'), "{key}: {comment}");
        }
    }
}
