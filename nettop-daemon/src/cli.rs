//! The command line.

use std::{convert::Infallible, ffi::OsString, path::PathBuf};

use clap::{
    Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};

use crate::{
    config::{ConfigArgs, DaemonArgs},
    connections::ConnectionsArgs,
    history::args::{HistoryArgs, RecordArgs},
    kernel::{hooks::Backend, programs::Limits},
    packets::PacketsArgs,
    report::Output,
    sockets::{LISTEN, Selector, Socket, is_tcp},
    trace::TraceArgs,
    version,
};

/// Account every packet to the process, user and network device it belongs to.
///
/// Without --once, reports every INTERVAL seconds until it is interrupted, or COUNT times.
#[derive(Parser, Debug, Clone)]
#[command(name = "nettopd", version, long_version = version::LONG.as_str())]
#[command(max_term_width = 100, after_help = EXIT_CODES)]
#[command(override_usage = USAGE, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub timing: Timing,
    /// Print one JSON document after one interval, and end
    #[arg(long, conflicts_with = "count")]
    pub once: bool,
    #[command(flatten)]
    pub selection: Selection,
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
    /// Sort rows by this column
    #[arg(short, long, value_name = "COLUMN", default_value = "packets")]
    pub sort: Sort,
    /// Output format [default: table; with --once: json]
    #[arg(long)]
    pub format: Option<Format>,
    /// Most rows for processes; what does not fit is counted in overflow rows
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub rows: u32,
    #[command(flatten)]
    pub table: DropsTable,
    #[command(flatten)]
    pub record: RecordArgs,
    /// Use this back end where there are several, and no other; `nettopd check` tells what there is
    #[arg(long, value_name = "BACKEND", env = "NETTOPD_BACKEND", global = true)]
    pub backend: Option<Backend>,
    /// Attach second looks from the start, and not only when the kernel has skipped a run; for tests
    #[arg(long, hide = true, global = true)]
    pub second_look: bool,
    /// The daemon's socket, '' for none [default: as configured, or /run/nettopd/nettopd.sock]
    #[arg(long, value_name = "PATH", env = "NETTOPD_SOCKET", value_parser = path, global = true)]
    pub socket: Option<PathBuf>,
    /// Measure without asking a daemon
    #[arg(long, global = true)]
    pub standalone: bool,
    /// Say more on standard error; twice for the kernel's own messages
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// When reports are made.
#[derive(Args, Debug, Clone, Default)]
pub struct Timing {
    /// Seconds between reports [default: 5; with --once: 1]
    #[arg(value_parser = seconds)]
    pub interval: Option<f64>,
    /// Number of reports before nettopd ends
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// How much is told of drops.
#[derive(Args, Debug, Clone)]
pub struct DropsTable {
    /// Most kinds of drops that are told apart; what does not fit is counted as others
    #[arg(long, value_name = "KINDS", default_value_t = 8192)]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
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
}

/// What nettopd does beside reporting.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Tell how the daemon does
    Status {
        #[arg(long, default_value = "text")]
        format: CheckFormat,
    },
    /// Run as a service: measure, record and answer until told to stop; print nothing
    Daemon(Box<DaemonArgs>),
    /// Look at the configuration of the daemon
    Config(ConfigArgs),
    /// Tell which packets the kernel drops: where, why, and whose
    Drops {
        #[command(flatten)]
        timing: Timing,
        /// Print one report after one interval, and end
        #[arg(long, conflicts_with = "count")]
        once: bool,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        table: DropsTable,
        /// Also show frees that lost nothing: ends of connections and the like
        #[arg(long)]
        all: bool,
        #[arg(long, default_value = "text")]
        format: DropsFormat,
    },
    /// Tell of connections as they are accepted, opened, closed, or come to nothing
    Connections(ConnectionsArgs),
    /// Tell of packets as they pass, headers only, with the process that each belongs to
    Packets(PacketsArgs),
    /// Tell socket calls of processes and their children as they enter and leave
    Trace(TraceArgs),
    /// List sockets with all processes that hold them
    Sockets(SocketsArgs),
    /// Tell what was recorded: who moved how much, at any time that is kept
    History(HistoryArgs),
    /// Tell what this kernel offers, which hooks are used, and whether they count right; attach nothing for good
    Check {
        #[arg(long, default_value = "text")]
        format: CheckFormat,
    },
    /// Print completions for a shell, to be put where it looks for them
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
}

/// Which sockets are listed, and how.
#[derive(Args, Debug, Clone)]
pub struct SocketsArgs {
    /// Watch for so many seconds first, and show what each socket moved meanwhile, busiest first
    #[arg(value_parser = seconds)]
    pub interval: Option<f64>,
    /// Only listeners, and UDP sockets that are not connected
    #[arg(short, long)]
    pub listening: bool,
    /// What one end has to be, in lsof's words
    #[arg(short, long, value_name = "SPEC")]
    #[arg(help = "Only these: [4|6][PROTOCOL][@HOST][:PORT], as for lsof; may be repeated")]
    pub internet: Vec<Selector>,
    /// Only those that this process holds; may be repeated
    #[arg(short, long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Only those of this user, by name or number; may be repeated
    #[arg(short, long, value_name = "USER")]
    pub user: Vec<String>,
    /// Only those that a process holds whose name begins with this; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub command: Vec<String>,
    /// Show users, ports and addresses by number
    #[arg(short, long)]
    pub numeric: bool,
    /// Also ask the resolver for names of addresses, for 2 s at most; without it only /etc/hosts has them
    #[arg(long, conflicts_with = "numeric")]
    pub resolve: bool,
    /// Below each socket, what TCP knows of it, and the files, units and containers of its processes
    #[arg(short, long)]
    pub extended: bool,
    #[arg(long, default_value = "table")]
    pub format: SocketsFormat,
}

/// How `nettopd sockets` prints.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketsFormat {
    /// Columns for people
    Table,
    /// One indented document, `nettop.sockets/1`
    Json,
    /// The same in one line
    Ndjson,
    /// One line per socket and process that holds it
    Csv,
}

impl SocketsArgs {
    /// Whether a socket is asked for. `uids` are those of the users.
    pub fn selects(&self, socket: &Socket, uids: &[u32]) -> bool {
        let Socket { record, holders } = socket;
        let listens = record.state == LISTEN || record.remote_port == 0 && !is_tcp(record);
        let is_named = |name: &String| holders.iter().any(|holder| holder.comm.starts_with(name.as_bytes()));
        (!self.listening || listens)
            && (self.internet.is_empty() || self.internet.iter().any(|selector| selector.selects(record)))
            && (self.pid.is_empty() || holders.iter().any(|holder| self.pid.contains(&holder.tgid)))
            && (uids.is_empty() || uids.contains(&record.uid))
            && (self.command.is_empty() || self.command.iter().any(is_named))
    }
}

/// How `nettopd check` prints.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFormat {
    /// Lines for people
    Text,
    /// One document, `nettop.check/1`
    Json,
}

/// How `nettopd drops` prints.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropsFormat {
    /// Lines for people
    Text,
    /// One indented document per report, `nettop.drops/1`
    Json,
    /// One document per line and report
    Ndjson,
    /// One line per kind of drop
    Csv,
}

const USAGE: &str = "nettopd [OPTIONS] [INTERVAL [COUNT]]\n       nettopd [-v] COMMAND";
const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed while running, 2 wrong usage, 69 the kernel lacks something or no daemon answers, 77 not permitted, \
78 wrong configuration.";

/// Columns to sort by: numbers largest first, the others in order.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum Sort {
    /// Packets both ways
    Packets,
    Pid,
    Uid,
    Dev,
    XmitPk,
    RecvPk,
    XmitKb,
    RecvKb,
    Drops,
    Retrans,
    Command,
}

/// How reports are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns for people
    Table,
    /// One indented document per report
    Json,
    /// One document per line and report
    Ndjson,
    /// One line per row, device and loss counter
    Csv,
}

impl Cli {
    /// What was typed. Ends the process where that is wrong, or only help was asked for.
    pub fn read() -> Self {
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// What is not global belongs behind its sub-command: clap would pass over it.
    fn of(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut definition = Self::command();
        let found = definition.try_get_matches_from_mut(words)?;
        if let Some(name) = found.subcommand_name() {
            let is_typed = |id: &str| found.value_source(id) == Some(ValueSource::CommandLine);
            let is_own = |argument: &&Arg| !argument.is_global_set() && is_typed(argument.get_id().as_str());
            let stray = definition.get_arguments().find(is_own).map(ToString::to_string);
            if let Some(stray) = stray {
                let what = format!("the argument '{stray}' cannot be used before '{name}'");
                return Err(definition.error(ErrorKind::ArgumentConflict, what));
            }
        }
        Self::from_arg_matches(&found)
    }

    /// When reports are made, and what they show.
    pub fn watch(&self) -> (Timing, &Selection) {
        match &self.command {
            Some(Command::Drops { timing, once, selection, .. }) => (timing.once(*once), selection),
            _ => (self.timing.once(self.once), &self.selection),
        }
    }

    /// What is written of each interval.
    pub fn output(&self) -> Output {
        if let Some(Command::Drops { format, all, .. }) = self.command {
            return Output::Drops { format, all };
        }
        let drops = self.drops || matches!(self.sort, Sort::Drops | Sort::Retrans);
        Output::Report { format: self.format(), drops }
    }

    /// How large tables are made.
    pub const fn limits(&self) -> Limits {
        Limits { rows: self.rows, drops: self.drop_kinds() }
    }

    /// How many kinds of drops are told apart.
    const fn drop_kinds(&self) -> u32 {
        match &self.command {
            Some(Command::Drops { table, .. }) => table.drop_kinds,
            _ => self.table.drop_kinds,
        }
    }

    /// The format asked for, or its default.
    pub fn format(&self) -> Format {
        self.format.unwrap_or(if self.once { Format::Json } else { Format::Table })
    }
}

impl Timing {
    /// For one report, if that is all.
    fn once(&self, once: bool) -> Self {
        if !once {
            return self.clone();
        }
        Self { interval: self.interval.or(Some(1.0)), count: Some(1) }
    }

    /// The interval asked for, or its default.
    pub fn interval_s(&self) -> f64 {
        self.interval.unwrap_or(5.0)
    }
}

/// May be empty.
fn path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(text.into())
}

/// An interval.
pub fn seconds(text: &str) -> Result<f64, String> {
    in_range(text.parse().map_err(|_| "not a number of seconds".to_owned())?)
}

/// An interval that is neither absurdly short nor absurdly long.
pub fn in_range(seconds: f64) -> Result<f64, String> {
    const RANGE: std::ops::RangeInclusive<f64> = 0.05..=86_400.0;
    if RANGE.contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("an interval is from {} to {} seconds", RANGE.start(), RANGE.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_goes_with_every_command_may_stand_before_it_and_nothing_else() {
        let of = |words: &[&str]| Cli::of([&["nettopd"], words].concat()).map_err(|error| error.to_string());
        let verbose = of(&["-vv", "--standalone", "sockets", "-l"]).unwrap();
        assert_eq!((verbose.verbose, verbose.standalone), (2, true));
        for stray in [&["--once", "sockets"][..], &["5", "drops"], &["-p", "1", "history"], &["--rows", "100", "check"]]
        {
            let error = of(stray).unwrap_err();
            assert!(error.contains("cannot be used before"), "{stray:?}: {error}");
        }
        assert!(of(&["5", "2"]).is_ok() && of(&["-i", "lo", "--once"]).is_ok());
    }

    #[test]
    fn absurd_intervals_are_refused() {
        for absurd in ["0", "-1", "nan", "inf", "1e99", "0.001", "five"] {
            assert!(Cli::try_parse_from(["nettopd", absurd]).is_err(), "{absurd}");
        }
        assert!(Cli::try_parse_from(["nettopd", "0.2", "3"]).is_ok());
        assert!(Cli::try_parse_from(["nettopd", "1", "0"]).is_err());
    }
}
