//! `nettopd top`: the full-screen view of what is measured, here or by the daemon, and of what was recorded.

mod files;
mod input;
mod output;
mod record;
mod signals;
mod sockets;
mod source;
mod stream;
mod terminal;
#[cfg(test)]
mod tests;

use std::{io::IsTerminal as _, sync::Arc};

use anyhow::bail;
use nettop_top::{Colors, Effect, Event, Options, State, Theme, check_filter, update};
use tokio::sync::{
    mpsc::{Receiver, Sender, channel},
    oneshot,
};

use self::{
    record::Record,
    signals::{Asked, Signals},
    sockets::Lister,
    source::Source,
    stream::Stream,
    terminal::Screen,
};
use crate::{
    error::Usage,
    query::{
        global::Global,
        top::{ColorChoice, TopArgs},
    },
    sys::{runtime, stdout},
};

/// Keys, answers and lines that wait to be shown. Whoever has more waits.
const MAX_WAITING: usize = 64;
/// Intervals that wait, each of any size. More are left out, and counted.
const MAX_INTERVALS_WAITING: usize = 2;

/// Shows it until it is ended.
///
/// # Errors
///
/// [`Usage`] where standard input or output is no terminal that can show it, or for an invalid time or filter,
/// [`crate::error::Fault`] for an invalid file of keys; where there is nothing to show, the message says what to do.
pub fn run(global: &Global, args: &TopArgs) -> anyhow::Result<()> {
    let term = std::env::var("TERM").unwrap_or_default();
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(
            Usage::new("nettopd top needs a terminal for input and output; 'nettopd' prints a table anywhere").into()
        );
    }
    if matches!(term.as_str(), "" | "dumb" | "unknown") {
        return Err(Usage::new(format!(
            "the terminal cannot move its cursor (TERM is '{term}'); 'nettopd' prints a table anywhere"
        ))
        .into());
    }
    let keymap = files::keymap(args.keys.as_deref())?;
    let filter = args.filter.clone().unwrap_or_default();
    check_filter(&filter).map_err(|why| Usage::new(format!("--filter: {why}")))?;
    let at_ms = args.at.as_deref().map(record::time).transpose().map_err(Usage::new)?;
    let (sender, events) = channel(MAX_WAITING);
    let (into_intervals, intervals) = channel(MAX_INTERVALS_WAITING);
    let record = Record::open(args, sender.clone())?;
    let source = Source::start(global, args, into_intervals)?;
    let options = Options {
        is_ascii: args.ascii || !has_unicode(&term),
        theme: theme(args, &term),
        keymap,
        has_record: record.is_some(),
        has_live: source.is_some(),
    };
    runtime::start()?.block_on(async {
        // From here on a signal cannot leave the terminal as it is.
        let signals = Signals::watch()?;
        let state = State::new(options, Screen::size()?);
        let screen = Screen::open(!args.no_mouse)?;
        let sockets = Lister::new(global, source.as_ref(), sender.clone());
        let keys_ended = input::start(sender.clone());
        let mut top = Top { screen, state, record, sockets, stream: None, sender, left: None };
        top.state.has_mouse = !args.no_mouse;
        if !filter.is_empty() {
            top.take(Event::Filter(filter))?;
        }
        if args.file.is_some() || at_ms.is_some() {
            let now_ms = nettop_history::unix_now_s() * 1000;
            top.take(Event::Time(Ok(at_ms.unwrap_or(now_ms))))?;
        }
        let ended = top.go(signals, events, intervals, keys_ended).await;
        let Top { screen, left, .. } = top;
        let output = Arc::clone(screen.output());
        drop(screen);
        ended?;
        match left {
            // One that takes nothing more gets nothing.
            Some(text) if output.is_idle() => stdout::print(text.as_bytes()),
            _ => Ok(()),
        }
    })
}

/// What runs.
struct Top {
    screen: Screen,
    state: State,
    record: Option<Record>,
    sockets: Lister,
    stream: Option<Stream>,
    sender: Sender<Event>,
    /// What is left on the terminal at the end.
    left: Option<String>,
}

impl Top {
    /// Until the end. Nothing is drawn unless something happened.
    async fn go(
        &mut self,
        mut signals: Signals,
        mut events: Receiver<Event>,
        mut intervals: Receiver<Event>,
        mut keys_ended: oneshot::Receiver<std::io::Error>,
    ) -> anyhow::Result<()> {
        let mut is_drawn = false;
        let mut is_measured = self.state.options.has_live;
        let output = Arc::clone(self.screen.output());
        loop {
            // A terminal that has not taken the last screen gets the next once it has.
            if !is_drawn && output.is_idle() {
                self.screen.draw(&self.state)?;
                is_drawn = true;
            }
            let is_over = tokio::select! {
                happened = output.happened() => {
                    happened?;
                    continue;
                }
                Ok(error) = &mut keys_ended => bail!("keys are no longer read: {error}"),
                event = events.recv() => match event {
                    Some(event) => self.take(event)?,
                    None => true,
                },
                event = intervals.recv(), if is_measured => match event {
                    Some(event) => self.take(event)?,
                    None => {
                        is_measured = false;
                        self.take(Event::Lost("!nothing is measured any more".into()))?
                    }
                },
                asked = signals.next() => match asked {
                    Asked::End => true,
                    Asked::Stop => {
                        self.screen.suspend()?;
                        false
                    }
                    Asked::GoOn => {
                        self.screen.resume()?;
                        false
                    }
                },
            };
            is_drawn = false;
            if is_over {
                return Ok(());
            }
            // What came meanwhile is shown at once.
            for _ in 0..MAX_WAITING {
                let Ok(event) = events.try_recv().or_else(|_| intervals.try_recv()) else { break };
                if self.take(event)? {
                    return Ok(());
                }
            }
        }
    }

    /// Whether that was the end.
    fn take(&mut self, event: Event) -> anyhow::Result<bool> {
        let effects = update(&mut self.state, event);
        self.do_all(effects)
    }

    fn do_all(&mut self, effects: Vec<Effect>) -> anyhow::Result<bool> {
        for effect in effects {
            match effect {
                Effect::Quit { leave } => {
                    self.left = leave;
                    return Ok(true);
                }
                Effect::Sockets { pids } => self.sockets.ask(pids),
                Effect::ReadTime(text) => {
                    self.take(Event::Time(record::time(&text)))?;
                }
                Effect::Record { number, to } => {
                    if !self.record.as_ref().is_some_and(|record| record.ask(number, to)) {
                        let why = "the record is not read yet; ask again".to_owned();
                        self.take(Event::Recorded(number, Vec::new(), Some(why)))?;
                    }
                }
                Effect::Stream { number, command, args } => {
                    match Stream::start(number, command, &args, self.sender.clone()) {
                        Ok(stream) => self.stream = Some(stream),
                        Err(error) => drop(update(&mut self.state, Event::StreamEnded(number, format!("{error:#}")))),
                    }
                }
                Effect::StopStream => self.stream = None,
                Effect::Save { extension, text } => {
                    let how = files::save(extension, &text).unwrap_or_else(|error| format!("{error:#}"));
                    update(&mut self.state, Event::Done(how));
                }
                Effect::Mouse(is_used) => self.screen.use_mouse(is_used),
                Effect::Redraw => self.screen.clear(),
                Effect::Suspend => self.screen.suspend()?,
            }
        }
        Ok(false)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `vt100` and its kind, not `vte`.
fn is_vt(term: &str) -> bool {
    term.strip_prefix("vt").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether the terminal shows more than ASCII. The console has no blocks, and older ones nothing of it.
fn has_unicode(term: &str) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default().to_lowercase();
    let is_plain = is_vt(term) || term == "linux";
    !is_plain && (locale.contains("utf-8") || locale.contains("utf8"))
}

fn theme(args: &TopArgs, term: &str) -> Theme {
    let colors = match args.color {
        Some(ColorChoice::Never) => Colors::Never,
        Some(ColorChoice::Sixteen) => Colors::Sixteen,
        Some(ColorChoice::Many) => Colors::Many,
        Some(ColorChoice::True) => Colors::True,
        None if variable("NO_COLOR").is_some() || is_vt(term) => Colors::Never,
        None if variable("COLORTERM").is_some_and(|color| color == "truecolor" || color == "24bit") => Colors::True,
        None if term.contains("256color") => Colors::Many,
        None => Colors::Sixteen,
    };
    // As rxvt and others set it: the last number is the background's.
    let background = variable("COLORFGBG").and_then(|colors| colors.rsplit(';').next()?.parse::<u8>().ok());
    Theme { colors, is_light: args.light || background.is_some_and(|color| color == 7 || color == 15) }
}
