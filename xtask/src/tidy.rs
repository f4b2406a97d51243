//! Rules that no other tool knows: every source file says what it is for, stays short, and links lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;

use crate::command::root;

const MAX_LINES: usize = 400;

/// Checks every source and text file of the repository.
///
/// # Errors
///
/// If any rule is broken; each breach is printed.
pub fn run() -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(root(), &mut files)?;
    let breaches: Vec<String> = files.iter().flat_map(|file| breaches(file)).collect();
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{} untidy places", breaches.len()) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                collect(&path, files)?;
            }
        } else if [".rs", ".md", ".toml"].iter().any(|extension| name.ends_with(extension)) {
            files.push(path);
        }
    }
    Ok(())
}

fn breaches(file: &Path) -> Vec<String> {
    let shown = file.strip_prefix(root()).unwrap_or(file).display();
    let Ok(text) = fs::read_to_string(file) else { return vec![format!("{shown}: not readable as UTF-8")] };
    let mut breaches: Vec<String> = rules(&text, file.extension().is_some_and(|extension| extension == "rs"))
        .into_iter()
        .map(|(line, breach)| format!("{shown}:{line}: {breach}"))
        .collect();
    if file.extension().is_some_and(|extension| extension == "md") {
        let folder = file.parent().unwrap_or(root());
        let dead = links(&text).into_iter().filter(|link| !folder.join(link).exists());
        breaches.extend(dead.map(|link| format!("{shown}: the link to {link} leads nowhere")));
    }
    breaches
}

/// Line and breach.
fn rules(text: &str, is_rust: bool) -> Vec<(usize, &'static str)> {
    let mut breaches: Vec<_> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_end() != *line)
        .map(|(index, _)| (index + 1, "white space at the end of the line"))
        .collect();
    if is_rust && !text.starts_with("//!") {
        breaches.push((1, "a source file opens with a sentence on what it is for (//!)"));
    }
    if is_rust && text.lines().count() > MAX_LINES {
        breaches.push((MAX_LINES, "the file is too long: is there a second idea in it?"));
    }
    breaches
}

/// Relative targets of Markdown links, without anchors.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with('#'))
        .filter_map(|link| link.split('#').next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{links, rules};

    #[test]
    fn each_rule_can_fail() {
        assert_eq!(rules("//! Fine.\n", true), []);
        assert_eq!(rules("fn main() {}\n", true)[0].0, 1);
        assert_eq!(rules("text \n", false), [(1, "white space at the end of the line")]);
        assert_eq!(rules(&"//!\n".repeat(401), true)[0].0, 400);
    }

    #[test]
    fn only_relative_links_are_followed() {
        assert_eq!(links("[a](docs/a.md#b), [c](https://d/e), [f](#g)"), ["docs/a.md"]);
    }
}
