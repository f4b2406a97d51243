//! What may be set, by flag or by key. What is absent is left to the layer below.

use std::{
    fmt::{Display, Formatter},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr as _,
};

use caps::Capability;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    bounds, defaults,
    query::{global::BackendChoice, history, report},
};

/// `nettopd daemon`.
#[derive(Args, Debug, Clone)]
pub struct DaemonArgs {
    #[arg(help = defaults::help(
        "Read this file",
        format_args!("{} and {}/*.toml, where they are", defaults::CONFIG_FILE, defaults::CONFIG_FOLDER),
    ))]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// `nettopd config`.
#[derive(Args, Debug, Clone)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What is done with the configuration.
#[derive(Subcommand, Debug, Clone)]
pub enum ConfigCommand {
    /// Print nothing if the configuration is sound, else what is wrong in which line
    Check {
        /// This file [default: as the daemon]
        file: Option<PathBuf>,
        /// Print what is in force, defaults included
        #[arg(long)]
        show: bool,
    },
}

/// What may be set.
#[derive(Args, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    #[arg(help = defaults::help("Seconds between readings", defaults::INTERVAL_S))]
    #[arg(long, value_name = "SECONDS", value_parser = report::seconds)]
    #[serde(deserialize_with = "interval")]
    pub interval: Option<f64>,
    #[arg(help = defaults::help(bounds::ROWS_HELP, defaults::ROWS))]
    #[arg(long, value_parser = bounds::table_size())]
    #[serde(deserialize_with = "table_size")]
    pub rows: Option<u32>,
    #[arg(help = defaults::help(bounds::DROP_KINDS_HELP, defaults::DROP_KINDS))]
    #[arg(long, value_name = "KINDS", value_parser = bounds::table_size())]
    #[serde(deserialize_with = "table_size")]
    pub drop_kinds: Option<u32>,
    /// Do not look up user names
    #[arg(short, long, num_args = 0, default_missing_value = "true")]
    pub numeric: Option<bool>,
    /// Read no names of containers from the files of their runtimes
    #[arg(long = "no-container-names", num_args = 0, default_missing_value = "false")]
    pub container_names: Option<bool>,
    /// As a flag it is that of all commands.
    #[arg(skip)]
    pub backend: Option<BackendChoice>,
    #[arg(help = defaults::help("What is logged", LogLevel::default()))]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Keep this capability, where all are dropped once the programs are attached; may be repeated. `all` keeps every one
    #[arg(long = "keep-capability", value_name = "NAME", value_parser = capability)]
    #[serde(deserialize_with = "capabilities")]
    pub keep_capabilities: Option<Vec<String>>,
    /// As a flag it is that of all commands, too.
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    #[command(flatten)]
    pub history: HistorySettings,
}

/// What may be set of the history.
#[derive(Args, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySettings {
    /// Record nothing
    #[arg(long = "no-history", num_args = 0, default_missing_value = "false", conflicts_with = "file")]
    pub enabled: Option<bool>,
    #[arg(help = defaults::help("Record to this SQLite file", defaults::HISTORY_FILE))]
    #[arg(long = "history", value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[arg(help = defaults::help(bounds::HISTORY_SIZE_HELP, defaults::HISTORY_SIZE_MB))]
    #[arg(long = "history-size", value_name = "MB", value_parser = bounds::history_size_mb())]
    #[serde(deserialize_with = "history_size_mb")]
    pub size_mb: Option<u32>,
    #[arg(help = defaults::help(bounds::HISTORY_KEEP_HELP, defaults::HISTORY_KEEP))]
    #[arg(long = "history-keep", value_name = "DAYS,DAYS,DAYS", value_parser = keep)]
    #[serde(deserialize_with = "keep_days")]
    pub keep_days: Option<[u32; 3]>,
    /// Record the arguments of processes as well: they may hold secrets
    #[arg(long = "history-arguments", num_args = 0, default_missing_value = "true")]
    pub arguments: Option<bool>,
    /// Do not record what processes use: CPU, memory, disk and load
    #[arg(long = "no-history-resources", num_args = 0, default_missing_value = "false")]
    pub resources: Option<bool>,
}

/// The least severe that is logged.
#[derive(ValueEnum, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    /// And the kernel's own messages.
    Debug,
}

impl Display for LogLevel {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| to.write_str(value.get_name()))
    }
}

impl Settings {
    /// These, and what they leave open from `below`.
    pub fn over(self, below: Self) -> Self {
        let (history, history_below) = (self.history, below.history);
        Self {
            interval: self.interval.or(below.interval),
            rows: self.rows.or(below.rows),
            drop_kinds: self.drop_kinds.or(below.drop_kinds),
            numeric: self.numeric.or(below.numeric),
            container_names: self.container_names.or(below.container_names),
            backend: self.backend.or(below.backend),
            log_level: self.log_level.or(below.log_level),
            keep_capabilities: self.keep_capabilities.or(below.keep_capabilities),
            socket: self.socket.or(below.socket),
            history: HistorySettings {
                enabled: history.enabled.or(history_below.enabled),
                file: history.file.or(history_below.file),
                size_mb: history.size_mb.or(history_below.size_mb),
                keep_days: history.keep_days.or(history_below.keep_days),
                arguments: history.arguments.or(history_below.arguments),
                resources: history.resources.or(history_below.resources),
            },
        }
    }

    /// With the flags that all commands have.
    pub fn with_global(mut self, backend: Option<BackendChoice>, verbose: u8) -> Self {
        self.backend = backend;
        let of_flag = [None, Some(LogLevel::Info), Some(LogLevel::Debug)][usize::from(verbose.min(2))];
        self.log_level = self.log_level.or(of_flag);
        self
    }
}

/// A name of capability.h, in any case, with CAP_ or without, or `all`.
fn capability(name: &str) -> Result<String, String> {
    if name == ALL {
        return Ok(name.into());
    }
    let canonical = caps::to_canonical(name);
    match Capability::from_str(&canonical) {
        Ok(capability) => Ok(capability.to_string()),
        Err(_) => Err(format!("there is no capability '{name}'")),
    }
}

/// In place of all names.
pub const ALL: &str = "all";

fn keep(text: &str) -> Result<[u32; 3], String> {
    history::keep(text).map(|keep| keep.days)
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    report::in_range(f64::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn table_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(&bounds::TABLE_SIZE, deserializer)
}

fn history_size_mb<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(&bounds::HISTORY_SIZE_MB, deserializer)
}

fn within<'de, D: Deserializer<'de>>(range: &RangeInclusive<u32>, deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let fitting = u32::try_from(number).ok().filter(|number| range.contains(number));
    fitting
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{number} is not in {} to {}", range.start(), range.end())))
}

fn keep_days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u32; 3]>, D::Error> {
    let days = <[u32; 3]>::deserialize(deserializer)?;
    history::keep_of(days).map(|keep| Some(keep.days)).map_err(D::Error::custom)
}

fn capabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let names: Result<_, _> = names.iter().map(|name| capability(name)).collect();
    names.map(Some).map_err(D::Error::custom)
}
