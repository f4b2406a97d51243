//! Parameters of a request: the options of the command that shows the same, read by the command line's own definition.

use clap::Parser as _;
use hyper::Uri;

use super::answers::Refused;
use crate::{
    cli::{Cli, Command},
    identity::escape::escape,
    report::Filter,
    run,
    sockets::names_a_host,
};

/// What an endpoint takes.
pub(super) struct Takes {
    /// The command whose options these are.
    command: &'static str,
    /// Parameters with a value; each may be repeated where the option may.
    values: &'static [&'static str],
    flags: &'static [&'static str],
}

const SELECTION: &[&str] = &["pid", "user", "interface"];
pub(super) const NOTHING: Takes = Takes { command: "drops", values: &[], flags: &[] };
pub(super) const SNAPSHOT: Takes = Takes { command: "drops", values: SELECTION, flags: &[] };
pub(super) const DROPS: Takes = Takes { command: "drops", values: SELECTION, flags: &["all"] };
pub(super) const SOCKETS: Takes =
    Takes { command: "sockets", values: &["internet", "pid", "user", "command"], flags: &["listening", "numeric"] };
pub(super) const HISTORY: Takes = Takes {
    command: "history",
    values: &["at", "from", "to", "by", "sort", "top", "when"],
    flags: &["last_boot", "numeric"],
};

impl Takes {
    /// What a request asks for, as if it had been typed.
    ///
    /// # Errors
    ///
    /// 400, in one line.
    pub(super) fn parse(&self, uri: &Uri) -> Result<Command, Refused> {
        let mut args = vec!["nettopd".to_owned(), self.command.to_owned()];
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let option = name.replace('_', "-");
            if self.values.contains(&name.as_ref()) {
                // One word: no value is taken for an option.
                args.push(format!("--{option}={value}"));
            } else if self.flags.contains(&name.as_ref()) {
                match value.as_ref() {
                    "" | "1" | "true" => args.push(format!("--{option}")),
                    "0" | "false" => {}
                    _ => return Err(Refused::bad(format!("{name} is 1 or 0"))),
                }
            } else {
                let known = [self.values, self.flags].concat().join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                let name = escape(name.as_bytes());
                return Err(Refused::bad(format!("there is no parameter '{name}' here; there is {known}")));
            }
            if name == "internet" && names_a_host(&value) {
                return Err(Refused::bad("a host is given by its address; the daemon asks no name server"));
            }
        }
        let cli = Cli::try_parse_from(args).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            Refused::bad(escape(line.strip_prefix("error: ").unwrap_or(line).as_bytes()))
        })?;
        cli.command.ok_or_else(|| Refused::bad("no command is meant"))
    }
}

/// What a request selects of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    /// Also frees that lost nothing.
    pub(super) all_drops: bool,
}

impl Wanted {
    /// Looks up users, which may take a while.
    ///
    /// # Errors
    ///
    /// 400 for an unknown user.
    pub(super) fn of(command: &Command) -> Result<Self, Refused> {
        let Command::Drops { selection, all, .. } = command else {
            return Err(Refused::bad("no selection is meant"));
        };
        let uids: anyhow::Result<Vec<u32>> = selection.user.iter().map(|user| run::uid(user)).collect();
        let filter = Filter {
            pids: selection.pid.clone(),
            uids: uids.map_err(|error| Refused::bad(escape(error.to_string().as_bytes())))?,
            devices: selection.interface.clone(),
            ..Filter::default()
        };
        Ok(Self { filter, all_drops: *all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(takes: &Takes, query: &str) -> Result<Command, String> {
        takes.parse(&format!("/x?{query}").parse().unwrap()).map_err(|refused| refused.message)
    }

    #[test]
    fn parameters_are_the_options_of_the_command() {
        let Ok(Command::Drops { selection, all, .. }) = parse(&DROPS, "pid=1&pid=2&interface=eth%2B0&all=1") else {
            panic!("drops")
        };
        assert_eq!((selection.pid, selection.interface, all), (vec![1, 2], vec!["eth+0".to_owned()], true));
        let Ok(Command::History(args)) = parse(&HISTORY, "at=yesterday+22:10&by=unit&top=3&when=load%20%3E%204") else {
            panic!("history")
        };
        assert_eq!((args.at.as_deref(), args.top), (Some("yesterday 22:10"), 3));
        assert_eq!(args.when.unwrap().to_string(), "load > 4");
        assert!(parse(&SOCKETS, "listening&numeric=0&internet=tcp@127.0.0.1:22").is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused_in_one_harmless_line() {
        for (takes, query) in [
            (&DROPS, "pid=x"),
            (&DROPS, "pid=%1b[2J"),
            (&DROPS, "%0a=1"),
            (&DROPS, "all=perhaps"),
            (&NOTHING, "pid=1"),
            (&SNAPSHOT, "all=1"),
            (&HISTORY, "history=/etc/shadow"),
            (&HISTORY, "top=--format=csv"),
            (&HISTORY, "at=now&from=now"),
            (&HISTORY, "when=1%3B+DROP+TABLE"),
            (&SOCKETS, "internet=tcp@example.com"),
            (&SOCKETS, "resolve=1"),
            (&SOCKETS, "interval=5"),
        ] {
            let message = parse(takes, query).expect_err(query);
            assert!(!message.is_empty() && !message.chars().any(char::is_control), "{query}: {message:?}");
        }
        let refused = Wanted::of(&parse(&SNAPSHOT, "user=no-such-user").unwrap()).err().unwrap();
        assert!(refused.message.contains("no user is named 'no-such-user'"), "{}", refused.message);
    }
}
