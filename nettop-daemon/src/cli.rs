//! The command line.

mod read;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    commands::{
        check::CheckArgs, connections::ConnectionsArgs, packets::PacketsArgs, status::StatusArgs, trace::TraceArgs,
    },
    config::settings::{ConfigArgs, DaemonArgs},
    query::{
        global::Global,
        history::HistoryArgs,
        report::{DropsArgs, ReportArgs},
        sockets::SocketsArgs,
        top::TopArgs,
    },
    sys::version,
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
    pub report: ReportArgs,
    #[command(flatten)]
    pub global: Global,
}

/// What nettopd does beside reporting.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Show all of it on the whole screen: what is measured now, and what was recorded
    Top(TopArgs),
    /// Show the state of the daemon
    Status(StatusArgs),
    /// Run as a service: measure, record and answer until stopped; print nothing
    Daemon(Box<DaemonArgs>),
    /// Look at the configuration of the daemon
    Config(ConfigArgs),
    /// Show which packets the kernel drops: where, why, and whose
    Drops(DropsArgs),
    /// Print connections as they are accepted, opened, closed, or come to nothing
    Connections(ConnectionsArgs),
    /// Print packets as they pass, headers only, with the process that each belongs to
    Packets(PacketsArgs),
    /// Print socket calls of processes and their children as they enter and leave
    Trace(TraceArgs),
    /// List sockets with all processes that hold them
    Sockets(SocketsArgs),
    /// Show what was recorded: who moved how much, at any time that is kept
    History(HistoryArgs),
    /// Show what this kernel offers, which hooks are used, and whether they count right; attach nothing for good
    Check(CheckArgs),
    /// Print completions for a shell, to be put where it looks for them
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man { folder: PathBuf },
}

const USAGE: &str = "nettopd [OPTIONS] [INTERVAL [COUNT]]\n       nettopd [-v] COMMAND";
const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed while running, 2 wrong usage, 69 the kernel lacks something or no daemon answers, 73 another daemon \
answers there, 77 not permitted, 78 wrong configuration.";

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;
    use clap_complete::Shell;

    use super::*;
    use crate::commands::manual;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_goes_with_every_command_may_stand_before_it_and_nothing_else() {
        let parse =
            |words: &[&str]| Cli::parse_words([&["nettopd"], words].concat()).map_err(|error| error.to_string());
        let verbose = parse(&["-vv", "--standalone", "sockets", "-l"]).unwrap();
        assert_eq!((verbose.global.verbose, verbose.global.standalone), (2, true));
        for stray in [&["--once", "sockets"][..], &["5", "drops"], &["-p", "1", "history"], &["--rows", "100", "check"]]
        {
            let error = parse(stray).unwrap_err();
            assert!(error.contains("cannot be used before"), "{stray:?}: {error}");
        }
        assert!(parse(&["5", "2"]).is_ok() && parse(&["-i", "lo", "--once"]).is_ok());
    }

    #[test]
    fn absurd_intervals_are_refused() {
        for absurd in ["0", "-1", "nan", "inf", "1e99", "0.001", "five"] {
            assert!(Cli::try_parse_from(["nettopd", absurd]).is_err(), "{absurd}");
        }
        assert!(Cli::try_parse_from(["nettopd", "0.2", "3"]).is_ok());
        assert!(Cli::try_parse_from(["nettopd", "1", "0"]).is_err());
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Cli::command();
        manual::write_pages(command.clone(), folder.path()).unwrap();
        command.build();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        for command in shown.chain([&command]) {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name());
            let page = fs::read_to_string(folder.path().join(format!("{name}.8"))).unwrap();
            let options = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for long in options.filter_map(clap::Arg::get_long) {
                assert!(page.contains(&format!("\\-\\-{}", long.replace('-', "\\-"))), "{name} --{long}");
            }
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nettopd", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell} {}", command.get_name());
            }
        }
    }
}
