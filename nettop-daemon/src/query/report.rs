//! Which reports are wanted, and when.

use std::{convert::Infallible, path::PathBuf};

use clap::Args;
use nettop_kernel::Limits;
use nettop_model::{By, Filter, Sort};

use super::{
    format::{Columns, Drops, DropsFormat, Format, Output},
    history::RecordArgs,
    names::NamesArgs,
    parameters::{Parameters, Query},
};
use crate::{bounds, defaults};

/// `nettopd`, without a command.
#[derive(Args, Debug, Clone)]
pub struct ReportArgs {
    #[command(flatten)]
    pub timing: Timing,
    /// Print one JSON document after one interval, and end
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    #[command(flatten)]
    pub selection: Selection,
    /// Add rows up by what they have in common
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
    /// Count IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Count IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Do not look up user names
    #[arg(short, long)]
    pub numeric: bool,
    /// Also show columns of drops and of segments sent again
    #[arg(short, long)]
    pub drops: bool,
    /// Also show who started each process, what it runs, its unit or container, and its arguments
    #[arg(short = 'e', long)]
    pub ancestry: bool,
    /// Also show what processes use besides the network: CPU, memory, disk and load
    #[arg(long)]
    pub resources: bool,
    /// Show each process below those that started it
    #[arg(long, conflicts_with = "by")]
    pub tree: bool,
    /// Sort rows by this column
    #[arg(short, long, value_name = "COLUMN", value_enum, default_value_t)]
    pub sort: Sort,
    /// Output format [default: table; with --once: json]
    #[arg(long)]
    pub format: Option<Format>,
    /// With ndjson, repeat in each line what has not changed since the one before
    #[arg(long)]
    pub whole: bool,
    #[arg(long, default_value_t = defaults::ROWS, value_parser = bounds::table_size(), help = bounds::ROWS_HELP)]
    pub rows: u32,
    #[command(flatten)]
    pub table: DropsTable,
    #[command(flatten)]
    pub record: RecordArgs,
}

/// `nettopd drops`.
#[derive(Args, Debug, Clone)]
pub struct DropsArgs {
    #[command(flatten)]
    pub timing: Timing,
    /// Print one report after one interval, and end
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    #[command(flatten)]
    pub query: DropsQuery,
    #[command(flatten)]
    pub table: DropsTable,
    /// Also show who started each process, what it runs, its unit or container, and its arguments
    #[arg(short = 'e', long)]
    pub ancestry: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: DropsFormat,
}

/// Which drops are wanted.
#[derive(Args, Debug, Clone, Default)]
pub struct DropsQuery {
    #[command(flatten)]
    pub selection: Selection,
    /// Also show frees that lost nothing: ends of connections and the like
    #[arg(long)]
    pub all: bool,
}

/// A snapshot.
#[derive(Args, Debug, Clone, Default)]
pub struct SnapshotQuery {
    #[command(flatten)]
    pub selection: Selection,
    /// What rows are added up by
    #[arg(long, value_enum)]
    pub by: Option<By>,
    /// Arguments of processes as well
    #[arg(long)]
    pub arguments: bool,
    /// What processes use as well
    #[arg(long)]
    pub resources: bool,
}

/// A stream of snapshots.
#[derive(Args, Debug, Clone, Default)]
pub struct StreamQuery {
    #[command(flatten)]
    pub snapshot: SnapshotQuery,
    /// Repeat in each line what has not changed since the one before
    #[arg(long)]
    pub whole: bool,
}

impl Query for DropsQuery {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { selection, all } = self;
        let mut parameters = selection.parameters();
        parameters.push(("all", all));
        parameters
    }
}

impl Query for SnapshotQuery {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { selection, by, arguments, resources } = self;
        let mut parameters = selection.parameters();
        parameters.push(("by", by));
        parameters.push(("arguments", arguments));
        parameters.push(("resources", resources));
        parameters
    }
}

impl Query for StreamQuery {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { snapshot, whole } = self;
        let mut parameters: Parameters<'_> = vec![("whole", whole)];
        parameters.extend(snapshot.parameters());
        parameters
    }
}

/// Reports as a command wants them.
#[derive(Debug, Clone)]
pub struct Reports {
    pub timing: Timing,
    pub once: bool,
    pub selection: Selection,
    pub by: By,
    /// Indexed by [`nettop_common::Family`].
    pub hidden_families: [bool; 2],
    pub numeric: bool,
    pub sort: Sort,
    pub output: Output,
    pub limits: Limits,
    /// None: nothing is recorded.
    pub record: Option<RecordArgs>,
}

impl Reports {
    /// When they are made.
    pub fn timing(&self) -> Timing {
        self.timing.once(self.once)
    }
}

impl From<&ReportArgs> for Reports {
    fn from(args: &ReportArgs) -> Self {
        let drops = args.drops || matches!(args.sort, Sort::Drops | Sort::Retrans);
        let resources = args.resources || args.sort.is_of_resources();
        let format = args.format.unwrap_or(if args.once { Format::Json } else { Format::Table });
        Self {
            timing: args.timing.clone(),
            once: args.once,
            selection: args.selection.clone(),
            by: args.by,
            hidden_families: [args.ipv6, args.ipv4],
            numeric: args.numeric,
            sort: args.sort,
            output: Output::Report {
                format,
                columns: Columns { drops, ancestry: args.ancestry, tree: args.tree, resources },
                whole: args.whole,
            },
            limits: Limits { rows: args.rows, drops: args.table.drop_kinds },
            record: Some(args.record.clone()),
        }
    }
}

impl From<&DropsArgs> for Reports {
    fn from(args: &DropsArgs) -> Self {
        Self {
            timing: args.timing.clone(),
            once: args.once,
            selection: args.query.selection.clone(),
            by: By::Process,
            hidden_families: [false; 2],
            numeric: false,
            sort: Sort::Packets,
            output: Output::Drops(Drops { format: args.format, all: args.query.all, ancestry: args.ancestry }),
            limits: Limits { rows: defaults::ROWS, drops: args.table.drop_kinds },
            record: None,
        }
    }
}

/// When reports are made.
#[derive(Args, Debug, Clone, Default)]
pub struct Timing {
    #[arg(help = defaults::help(
        "Seconds between reports",
        format_args!("{}; with --once: {}", defaults::INTERVAL_S, defaults::ONCE_INTERVAL_S),
    ))]
    #[arg(value_parser = seconds)]
    pub interval: Option<f64>,
    /// Number of reports before nettopd ends
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// How much is reported of drops.
#[derive(Args, Debug, Clone)]
pub struct DropsTable {
    #[arg(long, value_name = "KINDS", default_value_t = defaults::DROP_KINDS, value_parser = bounds::table_size())]
    #[arg(help = bounds::DROP_KINDS_HELP)]
    pub drop_kinds: u32,
}

/// What reports show.
#[derive(Args, Debug, Clone, Default)]
pub struct Selection {
    /// Only this process; may be repeated
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only this user, by name or number; may be repeated
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only this network device; may be repeated
    #[arg(short, long, value_name = "DEVICE")]
    pub interface: Vec<String>,
    /// Only processes whose name begins with this; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    #[command(flatten)]
    pub names: NamesArgs,
}

impl Query for Selection {
    fn parameters(&mut self) -> Parameters<'_> {
        let Self { pid, user, interface, command, names } = self;
        let mut parameters: Parameters<'_> =
            vec![("pid", pid), ("user", user), ("interface", interface), ("command", command)];
        parameters.extend(names.parameters());
        parameters
    }
}

impl Selection {
    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        let Self { pid, user, interface, command, names } = self;
        pid.is_empty() && user.is_empty() && interface.is_empty() && names.with(command).is_empty()
    }

    /// What it lets through, with numbers of its users.
    pub fn filter(&self, uids: Vec<u32>) -> Filter {
        let (pids, devices) = (self.pid.clone(), self.interface.clone());
        Filter { pids, uids, devices, names: self.names.with(&self.command), ..Filter::default() }
    }
}

impl Timing {
    /// For one report, if that is all.
    fn once(&self, once: bool) -> Self {
        if !once {
            return self.clone();
        }
        Self { interval: self.interval.or(Some(defaults::ONCE_INTERVAL_S)), count: Some(1) }
    }

    /// The interval asked for, or its default.
    pub fn interval_s(&self) -> f64 {
        self.interval.unwrap_or(defaults::INTERVAL_S)
    }
}

/// May be empty.
pub fn path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(text.into())
}

/// An interval.
///
/// # Errors
///
/// If the text is no number, or [`in_range`] refuses it.
pub fn seconds(text: &str) -> Result<f64, String> {
    in_range(text.parse().map_err(|_| "not a number of seconds".to_owned())?)
}

/// An interval that is neither absurdly short nor absurdly long.
///
/// # Errors
///
/// If it is too short or too long for an interval, or NaN. The message names the range.
pub fn in_range(seconds: f64) -> Result<f64, String> {
    const INTERVAL_RANGE_S: std::ops::RangeInclusive<f64> = 0.05..=86_400.0;
    if INTERVAL_RANGE_S.contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("an interval is from {} to {} seconds", INTERVAL_RANGE_S.start(), INTERVAL_RANGE_S.end()))
    }
}
