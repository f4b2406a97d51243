//! `nettopd top`: what is shown, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::report::seconds;
use crate::defaults;

/// `nettopd top`.
#[derive(Args, Debug, Clone)]
pub struct TopArgs {
    #[arg(help = defaults::help(
        "Measure here, and show so many seconds at a time",
        format_args!("the daemon's interval, or {} where none answers", defaults::TOP_INTERVAL_S),
    ))]
    #[arg(value_parser = seconds)]
    pub interval: Option<f64>,
    /// Begin with this time of the record: 22:10, 'yesterday 22:10', '2026-11-21 22:10', RFC 3339, -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "interval")]
    pub at: Option<String>,
    /// Show this recorded file and nothing that is measured now; it may be another machine's
    #[arg(long, value_name = "FILE", conflicts_with = "interval")]
    pub file: Option<PathBuf>,
    /// Begin with this filter, as / takes it
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Colours [default: as TERM, COLORTERM and NO_COLOR say]
    #[arg(long, value_enum)]
    pub color: Option<ColorChoice>,
    /// Colours for a light background [default: as COLORFGBG says]
    #[arg(long)]
    pub light: bool,
    /// No characters but ASCII [default: as LC_ALL, LC_CTYPE, LANG and TERM say]
    #[arg(long)]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
    /// Keys of one's own, as TOML: action = "key", or a list [default: ~/.config/nettopd/keys.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

/// How many colours are used.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorChoice {
    Never,
    /// The terminal's own
    #[value(name = "16")]
    Sixteen,
    /// Of xterm's palette
    #[value(name = "256")]
    Many,
    /// Red, green and blue
    True,
}
