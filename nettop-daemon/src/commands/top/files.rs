//! Files that are read and written: keys of one's own, and saved screens.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use nettop_top::Keymap;
use serde::Deserialize;
use toml::Spanned;

use crate::{error::Fault, sys::clock};

/// Files of one second.
const MAX_FILES: u32 = 100;

/// One key, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Several(Vec<String>),
}

/// The keys, with a user's own.
///
/// # Errors
///
/// [`Fault`] if the file is wrong, or was named and cannot be read.
pub fn keymap(named: Option<&Path>) -> Result<Keymap, Fault> {
    let Some(file) = named.map(ToOwned::to_owned).or_else(own_file) else { return Ok(Keymap::default()) };
    match fs::read_to_string(&file) {
        Ok(text) => parse(&text, &file),
        // HOME may still be the one of who became this user.
        Err(error) if named.is_none() && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            Ok(Keymap::default())
        }
        Err(error) => Err(Fault::Unreadable { file, error }),
    }
}

fn own_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("nettopd/keys.toml"))
}

fn parse(text: &str, file: &Path) -> Result<Keymap, Fault> {
    let wrong = |offset: usize, what: String| {
        let line = 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
        Fault::Wrong { file: file.into(), line, what: what.replace('\n', ", ") }
    };
    let actions: BTreeMap<String, Spanned<Keys>> = toml::from_str(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let mut keymap = Keymap::default();
    let mut actions: Vec<(String, Spanned<Keys>)> = actions.into_iter().collect();
    // As they are written: of two that want a key, the last has it.
    actions.sort_by_key(|(_, keys)| keys.span().start);
    for (action, keys) in actions {
        let at = keys.span().start;
        let keys = match keys.into_inner() {
            Keys::One(key) => vec![key],
            Keys::Several(keys) => keys,
        };
        keymap.set(&action, &keys).map_err(|what| wrong(at, what))?;
    }
    Ok(keymap)
}

/// Writes a new file where nettopd was started, for its user alone, and says which.
///
/// # Errors
///
/// If it cannot be written.
pub fn save(extension: &str, text: &str) -> anyhow::Result<String> {
    let now: String = clock::now().chars().take(19).filter(|c| *c != ':').collect();
    for number in 0..MAX_FILES {
        let number = if number == 0 { String::new() } else { format!("-{number}") };
        let name = format!("nettopd-{now}{number}.{extension}");
        // Never over another, nor where a link leads.
        match fs::File::options().write(true).create_new(true).mode(0o600).open(&name) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write {name}"))?;
                return Ok(format!("written to {name}"));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {name}")),
        }
    }
    bail!("{MAX_FILES} files of this second are there already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_of_keys_is_reported_with_its_line() {
        let fault = |text: &str| parse(text, Path::new("keys.toml")).unwrap_err().to_string();
        assert!(parse("quit = 'x'\nhelp = ['h', 'f1']\n", Path::new("keys.toml")).is_ok());
        assert!(
            fault("quit = 'x'\nfly = 'y'\n")
                .starts_with("keys.toml, line 2: there is no action 'fly'; there are quit,")
        );
        assert!(fault("\n\nquit = ['hyper']").starts_with("keys.toml, line 3: 'hyper' is no key;"));
        assert!(fault("quit = 3").starts_with("keys.toml, line 1: "));
        assert!(fault("quit").starts_with("keys.toml, line 1: "));
    }
}
