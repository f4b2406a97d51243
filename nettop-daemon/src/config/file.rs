//! Reads the files: what is unknown or no value is refused, with its line and what was probably meant.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    config::settings::Settings,
    defaults,
    error::{Fault, most_similar},
};

/// Reads one file, or those in /etc: the later overrides the earlier. One that is named has to be there.
///
/// # Errors
///
/// [`Fault::Unreadable`] if a file or the folder is there and cannot be read, or a named file is not there.
/// [`Fault::Wrong`] if [`parse`] refuses one.
pub fn read(file: Option<&Path>) -> Result<Settings, Fault> {
    match file {
        Some(file) => parse(&text(file)?, file),
        None => read_all(Path::new(defaults::CONFIG_FILE), Path::new(defaults::CONFIG_FOLDER)),
    }
}

fn read_all(main: &Path, folder: &Path) -> Result<Settings, Fault> {
    let mut settings = Settings::default();
    for file in [main.to_owned()].into_iter().chain(parts(folder)?) {
        match text(&file) {
            Ok(text) => settings = parse(&text, &file)?.over(settings),
            Err(Fault::Unreadable { error, .. }) if file == main && error.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(settings)
}

/// Files of a folder, in the order of their names.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::Unreadable { file: folder.into(), error }),
    };
    let is_part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_part).collect();
    parts.sort();
    Ok(parts)
}

fn text(file: &Path) -> Result<String, Fault> {
    fs::read_to_string(file).map_err(|error| Fault::Unreadable { file: file.into(), error })
}

/// Parses a file.
///
/// # Errors
///
/// [`Fault::Wrong`] if the text is no TOML, or has an unknown name or a value that is not allowed. It names the line to
/// correct.
pub fn parse(text: &str, file: &Path) -> Result<Settings, Fault> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        let mut what = error.message().replace('\n', ", ");
        if let Some(meant) = meant(&what) {
            what.push_str(&format!("; did you mean `{meant}`?"));
        }
        Fault::Wrong { file: file.into(), line, what }
    })
}

/// The name most like the one that serde found, of those it expected.
fn meant(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    most_similar(names.next()?, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse(text, Path::new("/etc/nettopd/nettopd.toml")).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_line_and_what_was_meant() {
        let unknown = fault("# first\ninterval = 5\nlog_levle = 'info'\n");
        assert!(unknown.starts_with("/etc/nettopd/nettopd.toml, line 3: unknown field `log_levle`"), "{unknown}");
        assert!(unknown.ends_with("did you mean `log_level`?"), "{unknown}");
        let inner = fault("interval = 5\n[history]\nsize = 3\n");
        assert!(inner.contains("line 3: unknown field `size`"), "{inner}");
        assert!(inner.ends_with("did you mean `size_mb`?"), "{inner}");
        let value = fault("\nlog_level = 'debgu'\n");
        assert!(value.contains("line 2: unknown variant `debgu`") && value.contains("mean `debug`?"), "{value}");
        assert!(!fault("zzz = 1").contains("did you mean"));
    }

    #[test]
    fn values_that_flags_refuse_are_refused() {
        for (text, shown) in [
            ("interval = 0", "from 0.05 to 86400"),
            ("interval = 'often'", "invalid type"),
            ("rows = 63", "63 is not in 64 to 1000000"),
            ("rows = -1", "-1 is not in"),
            ("drop_kinds = 1_000_001", "not in"),
            ("numeric = 1", "invalid type"),
            ("backend = 'kprobes'", "did you mean `kprobe`?"),
            ("keep_capabilities = ['CAP_NOTHING']", "no capability 'CAP_NOTHING'"),
            ("[history]\nsize_mb = 0", "0 is not in"),
            ("[history]\nkeep_days = [3, 2, 1]", "the smallest first"),
            ("[history]\nkeep_days = [1, 2]", "line 2"),
            ("interval = 5\ninterval = 6", "line 2: duplicate key"),
            ("interval 5", "line 1"),
        ] {
            let fault = fault(text);
            assert!(fault.contains(shown), "{text}: {fault}");
            assert!(!fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn the_later_file_goes_over_the_earlier() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("nettopd.toml");
        let parts = folder.path().join("conf.d");
        assert_eq!(read_all(&main, &parts).unwrap(), Settings::default(), "nothing is there");
        fs::write(&main, "interval = 1\nrows = 100").unwrap();
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("20-b.toml"), "interval = 3\n[history]\nsize_mb = 9").unwrap();
        fs::write(parts.join("10-a.toml"), "interval = 2\nnumeric = true\n[history]\nsize_mb = 8").unwrap();
        fs::write(parts.join("30-c.toml.bak"), "nonsense").unwrap();
        let settings = read_all(&main, &parts).unwrap();
        assert_eq!((settings.interval, settings.rows, settings.numeric), (Some(3.0), Some(100), Some(true)));
        assert_eq!(settings.history.size_mb, Some(9));
        fs::write(parts.join("40-d.toml"), "rows = 1").unwrap();
        assert!(read_all(&main, &parts).unwrap_err().to_string().contains("40-d.toml, line 1: 1 is not in"));
        assert!(read(Some(&folder.path().join("none.toml"))).is_err(), "one that is named has to be there");
    }
}
