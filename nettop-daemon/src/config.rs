//! The daemon's configuration: flags override files, files override defaults. Each flag is a key of the files too: both are
//! the same type.

mod file;
pub mod settings;

use std::path::{Path, PathBuf};

use nettop_kernel::Limits;
use serde::Serialize;

pub use settings::ALL as ALL_CAPABILITIES;

use self::settings::{LogLevel, Settings};
use crate::{defaults, error::Fault, query::global::BackendChoice};

/// What is in force. Serialized, it is a file that sets the same.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Config {
    /// Seconds between readings.
    pub interval: f64,
    pub rows: u32,
    pub drop_kinds: u32,
    pub numeric: bool,
    pub container_names: bool,
    pub backend: BackendChoice,
    pub log_level: LogLevel,
    pub keep_capabilities: Vec<String>,
    pub socket: PathBuf,
    pub history: HistoryConfig,
}

/// How the history is recorded.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    pub enabled: bool,
    pub file: PathBuf,
    pub size_mb: u32,
    pub keep_days: [u32; 3],
    pub arguments: bool,
    pub resources: bool,
}

/// Keys that a running daemon takes over; others wait for its next start.
const LIVE: [&str; 7] = [
    "interval",
    "numeric",
    "container_names",
    "log_level",
    "history.size_mb",
    "history.keep_days",
    "history.arguments",
];

/// A key whose value has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub old: String,
    pub new: String,
    /// Whether it waits for the next start.
    pub needs_restart: bool,
}

impl Config {
    /// Reads the files, and puts the flags over them.
    ///
    /// # Errors
    ///
    /// [`Fault`] for what cannot be read, is unknown, or is no value.
    pub fn load(file: Option<&Path>, flags: &Settings) -> Result<Self, Fault> {
        Ok(Self::new(flags.clone().over(file::read(file)?)))
    }

    fn new(settings: Settings) -> Self {
        let history = settings.history;
        Self {
            interval: settings.interval.unwrap_or(defaults::INTERVAL_S),
            rows: settings.rows.unwrap_or(defaults::ROWS),
            drop_kinds: settings.drop_kinds.unwrap_or(defaults::DROP_KINDS),
            numeric: settings.numeric.unwrap_or(defaults::NUMERIC),
            container_names: settings.container_names.unwrap_or(defaults::CONTAINER_NAMES),
            backend: settings.backend.unwrap_or_default(),
            log_level: settings.log_level.unwrap_or_default(),
            keep_capabilities: settings.keep_capabilities.unwrap_or_default(),
            socket: settings.socket.unwrap_or_else(|| defaults::SOCKET.into()),
            history: HistoryConfig {
                enabled: history.enabled.unwrap_or(defaults::HISTORY_ENABLED),
                file: history.file.unwrap_or_else(|| defaults::HISTORY_FILE.into()),
                size_mb: history.size_mb.unwrap_or(defaults::HISTORY_SIZE_MB),
                keep_days: history.keep_days.unwrap_or(defaults::HISTORY_KEEP.days),
                arguments: history.arguments.unwrap_or(defaults::HISTORY_ARGUMENTS),
                resources: history.resources.unwrap_or(defaults::HISTORY_RESOURCES),
            },
        }
    }

    /// Sizes of tables.
    pub const fn limits(&self) -> Limits {
        Limits { rows: self.rows, drops: self.drop_kinds }
    }

    /// As a file.
    pub fn shown(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// What differs in `new`.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (old, new) = (self.values(), new.values());
        let changed = old.into_iter().zip(new).filter(|((_, old), (_, new))| old != new);
        changed
            .map(|((key, old), (_, new))| Change { needs_restart: !LIVE.contains(&key.as_str()), key, old, new })
            .collect()
    }

    /// Takes over from `new` what a running daemon can.
    pub fn adopt(&mut self, new: &Self) {
        self.interval = new.interval;
        self.numeric = new.numeric;
        self.container_names = new.container_names;
        self.log_level = new.log_level;
        self.history.size_mb = new.history.size_mb;
        self.history.keep_days = new.history.keep_days;
        self.history.arguments = new.history.arguments;
    }

    /// Every key with its value, always in the same order.
    fn values(&self) -> Vec<(String, String)> {
        let mut values = Vec::new();
        for (key, value) in toml::Table::try_from(self).unwrap_or_default() {
            match value {
                toml::Value::Table(table) => {
                    values
                        .extend(table.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value.to_string())));
                }
                value => values.push((key, value.to_string())),
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Settings {
        file::parse(text, Path::new("test.toml")).unwrap()
    }

    /// The packaged file has every key, commented out, with its default.
    #[test]
    fn the_packaged_file_has_every_key_at_its_default() {
        let shipped = include_str!("../../packaging/nettopd.toml");
        let default = Config::new(Settings::default());
        assert_eq!(parsed(shipped), Settings::default(), "as shipped, it says nothing");
        // A key follows its mark at once, a sentence follows a space.
        let is_key = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
        let in_force: Vec<&str> = shipped.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
        let in_force = in_force.join("\n");
        assert_eq!(Config::new(parsed(&in_force)), default);
        let table: toml::Table = in_force.parse().unwrap();
        assert_eq!(table, toml::Table::try_from(&default).unwrap(), "a key is missing");
    }

    #[test]
    fn what_is_shown_says_the_same() {
        let mut config = Config::new(Settings::default());
        config.interval = 0.5;
        config.backend = BackendChoice::Kprobe;
        config.keep_capabilities = vec!["CAP_SYS_PTRACE".into()];
        config.history.keep_days = [1, 2, 3];
        assert_eq!(Config::new(parsed(&config.shown())), config);
    }

    #[test]
    fn flags_go_over_files() {
        let file = parsed("interval = 2\nrows = 100\n[history]\nsize_mb = 7\nenabled = false");
        let flags = Settings { interval: Some(1.0), ..Settings::default() };
        let config = Config::new(flags.over(file));
        assert_eq!((config.interval, config.rows, config.drop_kinds), (1.0, 100, 8192));
        assert_eq!((config.history.enabled, config.history.size_mb), (false, 7));
    }

    #[test]
    fn a_change_names_its_key_and_whether_it_waits() {
        let old = Config::new(Settings::default());
        let new = Config::new(parsed("interval = 2\nrows = 100\n[history]\nsize_mb = 7"));
        let changes = old.changes(&new);
        let shown: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.old.as_str(), c.new.as_str())).collect();
        assert!(shown.contains(&("interval", "5.0", "2.0")), "{shown:?}");
        assert!(shown.contains(&("history.size_mb", "512", "7")), "{shown:?}");
        let waiting: Vec<_> = changes.iter().filter(|c| c.needs_restart).map(|c| c.key.as_str()).collect();
        assert_eq!(waiting, ["rows"]);
        let mut adopted = old;
        adopted.adopt(&new);
        let left = adopted.changes(&new);
        assert!(left.iter().all(|change| change.needs_restart), "{left:?}");
    }
}
