//! Reads the command line. An error is one line, and for a mistyped command it names the one that was meant.

use std::{ffi::OsString, io::IsTerminal as _};

use clap::{
    Arg, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use crate::{
    cli::Cli,
    error::{Usage, most_similar},
    sys::stdout,
};

impl Cli {
    /// What was typed; none if only help or the version was asked for, which it prints.
    ///
    /// # Errors
    ///
    /// [`Usage`] if it is wrong, or if standard output cannot be written.
    pub fn read() -> anyhow::Result<Option<Self>> {
        let error = match Self::parse_words(std::env::args_os()) {
            Ok(cli) => return Ok(Some(cli)),
            Err(error) => error,
        };
        if error.use_stderr() {
            return Err(Usage::new(one_line(&error)).into());
        }
        let text = error.render();
        let is_coloured =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let text = if is_coloured { text.ansi().to_string() } else { text.to_string() };
        stdout::print(text.as_bytes())?;
        Ok(None)
    }

    /// What is not global belongs behind its sub-command: clap would pass over it.
    pub(super) fn parse_words(
        words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut definition = Self::command();
        let mut words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        // `nettopd help sockets` is `nettopd sockets --help`.
        if words.get(1).is_some_and(|word| word == "help") {
            words.remove(1);
            words.truncate(2);
            if let Some(word) = words.get(1).filter(|word| definition.find_subcommand(word).is_none()) {
                return Err(no_command(&mut definition, &word.to_string_lossy()));
            }
            words.push("--help".into());
        }
        let found = definition.try_get_matches_from_mut(words).map_err(|error| {
            let word = interval_of(&error).filter(|word| is_word(word)).map(ToOwned::to_owned);
            word.map_or(error, |word| no_command(&mut definition, &word))
        })?;
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
}

/// The word in place of an interval or a command, if it is no interval.
fn interval_of(error: &clap::Error) -> Option<&str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    (text(ContextKind::InvalidArg) == Some("[INTERVAL]")).then(|| text(ContextKind::InvalidValue))?
}

/// Whether this was not meant as a number.
fn is_word(text: &str) -> bool {
    text.parse::<f64>().is_err() && text.starts_with(|first: char| first.is_alphabetic())
}

fn no_command(definition: &mut clap::Command, word: &str) -> clap::Error {
    let names = definition.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name);
    let remedy = match most_similar(word, names) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "'nettopd help' names all".to_owned(),
    };
    let what = format!("there is no command '{word}', and it is no interval in seconds; {remedy}");
    definition.error(ErrorKind::InvalidSubcommand, what)
}

/// clap's paragraphs in one line: what is wrong, what may be meant, where the rest is written.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut message = String::new();
    let mut has_remedy = false;
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            message += "; ";
            message += tip;
            has_remedy = true;
        } else {
            if !message.is_empty() {
                message.push(' ');
            }
            message += line;
            has_remedy |= line.starts_with('[');
        }
    }
    if !has_remedy && error.kind() != ErrorKind::InvalidSubcommand {
        message += "; see 'nettopd --help'";
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        one_line(&Cli::parse_words([&["nettopd"], words].concat()).unwrap_err())
    }

    #[test]
    fn a_mistyped_command_is_named() {
        for (word, meant) in [("socket", "sockets"), ("conections", "connections"), ("statsu", "status")] {
            let message = refused(&[word]);
            assert!(message.starts_with(&format!("there is no command '{word}'")), "{message}");
            assert!(message.ends_with(&format!("did you mean '{meant}'?")), "{message}");
        }
        for words in [&["fly"][..], &["help", "fly"]] {
            assert!(refused(words).ends_with("; 'nettopd help' names all"), "{}", refused(words));
        }
        assert!(refused(&["-1x"]).contains("-1"));
        assert!(refused(&["5s"]).contains("'[INTERVAL]'"), "{}", refused(&["5s"]));
    }

    #[test]
    fn help_is_a_command() {
        let help = |words: &[&str]| Cli::parse_words([&["nettopd"], words].concat()).unwrap_err();
        for (words, same) in [(&["help"][..], &["--help"][..]), (&["help", "sockets"], &["sockets", "--help"])] {
            assert_eq!(help(words).kind(), ErrorKind::DisplayHelp);
            assert_eq!(help(words).to_string(), help(same).to_string());
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (words, message) in [
            (
                &["--format", "xml"][..],
                "invalid value 'xml' for '--format <FORMAT>' [possible values: table, json, ndjson, csv]",
            ),
            (&["--formta", "csv"], "unexpected argument '--formta' found; a similar argument exists: '--format'"),
            (&["completions"], "the following required arguments were not provided: <SHELL>; see 'nettopd --help'"),
            (
                &["0"],
                "invalid value '0' for '[INTERVAL]': an interval is from 0.05 to 86400 seconds; see 'nettopd --help'",
            ),
            (&["5", "drops"], "the argument '[INTERVAL]' cannot be used before 'drops'; see 'nettopd --help'"),
        ] {
            assert_eq!(refused(words), message);
        }
        assert_eq!(refused(&["-u"]).lines().count(), 1);
    }
}
