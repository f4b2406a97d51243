//! What the command line asks for, as a request: the same words, as far as the daemon can answer.

use anyhow::Context as _;
use clap::{Parser as _, ValueEnum};
use serde::de::DeserializeOwned;

use crate::{
    cli::{Cli, Command, Format, Selection, SocketsArgs, Timing},
    history::{
        self,
        args::{DEFAULT, HistoryArgs},
    },
    identity::namespaces,
    report::{self, RowReport, Sink, Snapshot, sockets::Document},
    sockets,
};

/// A question for the daemon.
pub(super) struct Request {
    /// Path and parameters.
    pub(super) target: String,
    kind: Kind,
}

enum Kind {
    Snapshot,
    /// One snapshot after the other.
    Stream,
    Sockets(SocketsArgs),
    History(HistoryArgs),
}

impl Request {
    /// The question, unless it is one that only measuring can answer: an interval, a back end or a table of one's own,
    /// one version of IP.
    ///
    /// # Errors
    ///
    /// [`crate::Usage`] for a time that is none.
    pub(super) fn of(cli: &Cli) -> anyhow::Result<Option<Self>> {
        let is_own = cli.backend.is_some() || cli.second_look;
        Ok(match &cli.command {
            _ if is_own => None,
            None if !cli.ipv4 && !cli.ipv6 && cli.record.history.is_none() => {
                of_watch(cli, cli.once, &cli.timing, &cli.selection)
            }
            Some(Command::Drops { once, timing, selection, .. }) => of_watch(cli, *once, timing, selection),
            Some(Command::Sockets(args)) if args.interval.is_none() && !args.resolve => {
                Some(Self { target: of_sockets(args), kind: Kind::Sockets(args.clone()) })
            }
            Some(Command::History(args)) if args.history.as_os_str() == DEFAULT => {
                Some(Self { target: of_history(&history::in_utc(args)?), kind: Kind::History(args.clone()) })
            }
            _ => None,
        })
    }

    /// Whether answers come until nobody wants them any more.
    pub(super) const fn is_endless(&self) -> bool {
        matches!(self.kind, Kind::Stream)
    }

    /// Shows an answer as if it had been found out here.
    ///
    /// # Errors
    ///
    /// If it is not understood, or cannot be written.
    pub(super) fn show(&self, cli: &Cli, answer: &[u8]) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Snapshot | Kind::Stream => {
                let (mut sink, writer) = Sink::new(cli.output());
                sink.put(&snapshot_of(cli, answer)?)?;
                writer.finish(sink)
            }
            Kind::Sockets(args) => sockets::print(args, &parse::<Document>(answer)?, namespaces::current()?.inode),
            Kind::History(args) => history::print(args, &parse::<history::Document>(answer)?),
        }
    }
}

/// A document as it would have been made here.
///
/// # Errors
///
/// If it is not understood.
pub(super) fn snapshot_of(cli: &Cli, document: &[u8]) -> anyhow::Result<Snapshot> {
    let mut snapshot: Snapshot = parse(document)?;
    report::sort(&mut snapshot.rows, cli.sort);
    if cli.numeric {
        snapshot.rows.iter_mut().for_each(|row| row.user = None);
    }
    if cli.format() == Format::Table {
        snapshot.rows.retain(RowReport::is_busy);
    }
    Ok(snapshot)
}

/// One interval, or one after the other: those of the daemon.
fn of_watch(cli: &Cli, once: bool, timing: &Timing, selection: &Selection) -> Option<Request> {
    let is_the_daemons = timing.interval.is_none() && has_usual_tables(cli);
    let (path, kind) = if once { ("/v1/snapshot", Kind::Snapshot) } else { ("/v1/stream", Kind::Stream) };
    is_the_daemons.then(|| Request { target: selected(path, selection), kind })
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(answer).context("the daemon's answer is not understood; is it of this version?")
}

/// Whether tables are as large as if nothing had been said of them.
fn has_usual_tables(cli: &Cli) -> bool {
    Cli::try_parse_from(["nettopd"]).is_ok_and(|usual| usual.limits() == cli.limits())
}

fn selected(path: &'static str, selection: &Selection) -> String {
    let mut target = Target::new(path);
    target.all("pid", &selection.pid).all("user", &selection.user).all("interface", &selection.interface);
    target.finish()
}

fn of_sockets(args: &SocketsArgs) -> String {
    let mut target = Target::new("/v1/sockets");
    let internet: Vec<String> = args.internet.iter().flat_map(sockets::Selector::by_number).collect();
    target.all("internet", &internet).all("pid", &args.pid).all("user", &args.user).all("command", &args.command);
    target.flag("listening", args.listening).flag("numeric", args.numeric);
    target.finish()
}

fn of_history(args: &HistoryArgs) -> String {
    let mut target = Target::new("/v1/history");
    target.all("at", &args.at).all("from", &args.from).all("to", &args.to).all("when", &args.when);
    target.all("top", &[args.top]).all("by", &name(args.by)).all("sort", &name(args.sort));
    target.flag("last_boot", args.last_boot).flag("numeric", args.numeric);
    target.finish()
}

/// As the command line has it.
fn name(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

/// A path, to which parameters are added.
struct Target {
    path: &'static str,
    parameters: form_urlencoded::Serializer<'static, String>,
}

impl Target {
    fn new(path: &'static str) -> Self {
        Self { path, parameters: form_urlencoded::Serializer::new(String::new()) }
    }

    fn all<'a, T: ToString + 'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a T>) -> &mut Self {
        for value in values {
            self.parameters.append_pair(name, &value.to_string());
        }
        self
    }

    fn flag(&mut self, name: &str, is_set: bool) -> &mut Self {
        if is_set {
            self.parameters.append_pair(name, "1");
        }
        self
    }

    fn finish(mut self) -> String {
        let parameters = self.parameters.finish();
        if parameters.is_empty() { self.path.to_owned() } else { format!("{}?{parameters}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(args: &[&str]) -> Option<String> {
        let cli = Cli::try_parse_from([&["nettopd"], args].concat()).unwrap();
        Request::of(&cli).unwrap().map(|request| request.target)
    }

    #[test]
    fn what_the_daemon_can_answer_is_asked_for_in_the_same_words() {
        for (args, asked) in [
            (&["--once"][..], "/v1/snapshot"),
            (
                &["--once", "-p", "1", "-p", "2", "-u", "www data", "-i", "lo"],
                "/v1/snapshot?pid=1&pid=2&user=www+data&interface=lo",
            ),
            (&["drops", "--once"], "/v1/snapshot"),
            (&[], "/v1/stream"),
            (&["drops", "-i", "lo"], "/v1/stream?interface=lo"),
            (
                &["sockets", "-ln", "-i", "tcp@10.0.0.1:80"],
                "/v1/sockets?internet=tcp%40%5B10.0.0.1%5D%3A80-80&listening=1&numeric=1",
            ),
            (
                &["history", "--at", "2026-11-21T22:10:00Z", "--by", "unit", "-s", "peak", "--when", "load > 4"],
                "/v1/history?at=2026-11-21T22%3A10%3A00Z&when=load+%3E+4&top=20&by=unit&sort=peak",
            ),
            (&["history", "--last-boot"], "/v1/history?top=20&by=process&sort=bytes&last_boot=1"),
        ] {
            assert_eq!(target(args).as_deref(), Some(asked), "{args:?}");
        }
    }

    #[test]
    fn what_only_measuring_answers_is_not_asked_for() {
        for args in [
            &["1"][..],
            &["--history", "/tmp/x.db"],
            &["--once", "0.5"],
            &["--once", "-4"],
            &["--once", "--rows", "128"],
            &["--once", "--backend", "kprobe"],
            &["drops", "1"],
            &["drops", "--once", "1"],
            &["sockets", "5"],
            &["sockets", "--resolve"],
            &["history", "--history", "/tmp/x.db"],
            &["check"],
        ] {
            assert_eq!(target(args), None, "{args:?}");
        }
    }
}
