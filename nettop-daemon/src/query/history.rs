//! Options of the history: how it is recorded, and what is asked of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nettop_history::{Condition, Keep, Order};
use nettop_model::By;

use super::{
    format::Format,
    names::NamesArgs,
    parameters::{Parameters, Query, Value, texts, word},
};
use crate::{bounds, defaults};

/// How the history is recorded.
#[derive(Args, Debug, Clone)]
pub struct RecordArgs {
    #[arg(help = defaults::help("Record every interval to this SQLite file", format_args!(
        "{} where that folder is there and the user's own, unless standard output is a terminal or a COUNT or a selection is given",
        defaults::HISTORY_FILE,
    )))]
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    pub history: Option<PathBuf>,
    /// Record nothing
    #[arg(long, conflicts_with = "history")]
    pub no_history: bool,
    #[arg(long, value_name = "MB", default_value_t = defaults::HISTORY_SIZE_MB, help = bounds::HISTORY_SIZE_HELP)]
    #[arg(value_parser = bounds::history_size_mb())]
    pub history_size: u32,
    #[arg(long, value_name = "DAYS,DAYS,DAYS", default_value_t = defaults::HISTORY_KEEP, value_parser = keep)]
    #[arg(help = bounds::HISTORY_KEEP_HELP)]
    pub history_keep: Keep,
    /// Record the arguments of processes as well: they may hold secrets
    #[arg(long)]
    pub history_arguments: bool,
    /// Do not record what processes use: CPU, memory, disk and load
    #[arg(long)]
    pub no_history_resources: bool,
}

/// `nettopd history`.
#[derive(Args, Debug, Clone)]
pub struct HistoryArgs {
    /// The file that was recorded
    #[arg(long, value_name = "FILE", default_value = defaults::HISTORY_FILE)]
    pub history: PathBuf,
    #[command(flatten)]
    pub query: HistoryQuery,
    /// Also show who started each process, what it runs, and its container or pod; by process
    #[arg(short = 'e', long)]
    pub ancestry: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What is asked of a history.
#[derive(Args, Debug, Clone)]
pub struct HistoryQuery {
    /// The minute from this time: now, 22:10, 'yesterday 22:10', '2026-11-21 22:10', RFC 3339, -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = AT_EXCLUDES)]
    pub at: Option<String>,
    /// From this time [default: an hour before --to]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// To this time [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// The last ten minutes before this machine was started
    #[arg(long, conflicts_with_all = LAST_BOOT_EXCLUDES)]
    pub last_boot: bool,
    /// What a row is about
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
    /// What comes first
    #[arg(short, long, value_name = "COLUMN", value_enum, default_value_t)]
    pub sort: OrderArg,
    /// Instead of a table, the worst of each measure: CPU, memory, disk, load, bytes, and who ended badly
    #[arg(long)]
    pub hogs: bool,
    /// Rows to show; the others are added up
    #[arg(long, value_name = "N", default_value_t = defaults::HISTORY_TOP_ROWS)]
    pub top: usize,
    /// Only moments when this held of the host, as 'load > 4' or 'cpu > 20 and io > 10'
    #[arg(long, value_name = "CONDITION")]
    pub when: Option<Condition>,
    /// Only processes whose name begins with this; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub names: NamesArgs,
    /// Do not look up user names
    #[arg(short, long)]
    pub numeric: bool,
}

const AT_EXCLUDES: [&str; 3] = ["from", "to", "last_boot"];
const LAST_BOOT_EXCLUDES: [&str; 2] = ["from", "to"];

impl Default for HistoryQuery {
    fn default() -> Self {
        Self {
            at: None,
            from: None,
            to: None,
            last_boot: false,
            by: By::default(),
            sort: OrderArg::default(),
            hogs: false,
            top: defaults::HISTORY_TOP_ROWS,
            when: None,
            command: Vec::new(),
            names: NamesArgs::default(),
            numeric: false,
        }
    }
}

impl Query for HistoryQuery {
    const EXCLUDES: &'static [(&'static str, &'static [&'static str])] =
        &[("at", &AT_EXCLUDES), ("last_boot", &LAST_BOOT_EXCLUDES)];

    fn parameters(&mut self) -> Parameters<'_> {
        let Self { at, from, to, last_boot, by, sort, hogs, top, when, command, names, numeric } = self;
        let mut parameters: Parameters<'_> = vec![
            ("at", at),
            ("from", from),
            ("to", to),
            ("when", when),
            ("top", top),
            ("by", by),
            ("sort", sort),
            ("last_boot", last_boot),
            ("hogs", hogs),
            ("numeric", numeric),
            ("command", command),
        ];
        parameters.extend(names.parameters());
        parameters
    }
}

/// Columns to sort by, largest first.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum OrderArg {
    /// Both ways
    #[default]
    Bytes,
    XmitKb,
    RecvKb,
    Packets,
    Peak,
    Drops,
    Retrans,
    /// Time on a CPU
    Cpu,
    /// Resident memory
    Mem,
    /// Bytes from and to storage
    Disk,
    /// Threads in the load average
    Load,
    /// Processes that ended by a signal, then those with a code
    Exits,
}

impl Value for OrderArg {
    fn from_text(text: &str) -> Result<Self, String> {
        word(text)
    }

    fn texts(&self) -> Vec<String> {
        texts(self)
    }
}

impl OrderArg {
    pub const fn order(self) -> Order {
        match self {
            Self::Bytes => Order::Bytes,
            Self::XmitKb => Order::TxBytes,
            Self::RecvKb => Order::RxBytes,
            Self::Packets => Order::Packets,
            Self::Peak => Order::Peak,
            Self::Drops => Order::Drops,
            Self::Retrans => Order::Retransmits,
            Self::Cpu => Order::Cpu,
            Self::Mem => Order::Memory,
            Self::Disk => Order::Disk,
            Self::Load => Order::Load,
            Self::Exits => Order::Exits,
        }
    }
}

/// Coarse rows are made of fine ones, which cannot be kept longer.
///
/// # Errors
///
/// If a number is less than the one before, is 0, or is above 100,000. The message has an example.
pub fn keep_of(days: [u32; 3]) -> Result<Keep, String> {
    if days.is_sorted() && days[0] > 0 && days[2] <= 100_000 {
        Ok(Keep { days })
    } else {
        Err(format!("give three numbers of days, the smallest first, as {}", defaults::HISTORY_KEEP))
    }
}

/// Days, with commas between.
///
/// # Errors
///
/// If the text is not three whole numbers with commas between, or [`keep_of`] refuses them.
pub fn keep(text: &str) -> Result<Keep, String> {
    let days: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    // None at all is refused in the same words.
    keep_of(days.ok().and_then(|days| days.try_into().ok()).unwrap_or_default())
}
