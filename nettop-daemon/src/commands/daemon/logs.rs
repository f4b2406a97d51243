//! The log: to the journal in its own protocol where systemd has started nettopd, else to standard error. What is repeated
//! is left out and counted.

use std::{
    collections::HashMap,
    env,
    io::{self, IsTerminal as _},
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nettop_kernel::log;
use nix::sys::stat::fstat;
use tracing::{Event, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    Layer, Registry,
    filter::LevelFilter,
    layer::{Context, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::{config::settings::LogLevel, sys::lock::lock};

/// How often one place in the code may log in a [`LOG_WINDOW`].
const MAX_LINES_PER_WINDOW: u32 = 10;
const LOG_WINDOW: Duration = Duration::from_secs(60);

/// The running log.
pub struct Logs {
    level: reload::Handle<LevelFilter, Registry>,
    limiter: Limiter,
}

impl Logs {
    /// Starts it for the whole process.
    ///
    /// # Errors
    ///
    /// If there is one already.
    pub fn start(level: LogLevel) -> anyhow::Result<Self> {
        let (filter, level) = reload::Layer::new(filter(level));
        let limiter = Limiter::default();
        let journal = is_journal(io::stderr(), env::var("JOURNAL_STREAM").ok().as_deref());
        let journal = if journal { tracing_journald::layer().ok() } else { None };
        let journal = journal.map(|layer| layer.with_syslog_identifier("nettopd".into()));
        let is_terminal = io::stderr().is_terminal();
        let stderr = journal.is_none().then(|| {
            tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(is_terminal)
        });
        let layers = tracing_subscriber::registry().with(filter).with(limiter.clone()).with(journal).with(stderr);
        layers.try_init().context("cannot start the log")?;
        Ok(Self { level, limiter })
    }

    /// Logs by another level from now on.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::warn!("the log's level cannot be changed: {error}");
        }
    }

    /// Logs how much was left out, at most once in a [`LOG_WINDOW`].
    pub fn report_suppressed(&self) {
        let left_out = self.limiter.take_left_out(Instant::now());
        if left_out > 0 {
            tracing::warn!("{left_out} messages were left out of the log: they repeated others");
        }
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Whether a stream is the one that systemd connected to the journal: `JOURNAL_STREAM` is its device and inode.
fn is_journal(stream: impl AsFd, named: Option<&str>) -> bool {
    fstat(stream).is_ok_and(|stat| named == Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_str()))
}

/// Lets each place in the code log a little at a time.
#[derive(Clone, Default)]
struct Limiter {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    places: HashMap<Identifier, LogCount>,
    left_out: u64,
    reported_at: Option<Instant>,
}

/// How often a place logged in its window.
struct LogCount {
    since: Instant,
    times: u32,
}

impl Limiter {
    fn may_log(&self, place: Identifier, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let count = state.places.entry(place).or_insert(LogCount { since: now, times: 0 });
        if now.duration_since(count.since) >= LOG_WINDOW {
            *count = LogCount { since: now, times: 0 };
        }
        let may_log = count.times < MAX_LINES_PER_WINDOW;
        count.times += u32::from(may_log);
        state.left_out += u64::from(!may_log);
        may_log
    }

    fn take_left_out(&self, now: Instant) -> u64 {
        let mut state = lock(&self.state);
        if state.left_out == 0 || state.reported_at.is_some_and(|at| now.duration_since(at) < LOG_WINDOW) {
            return 0;
        }
        state.reported_at = Some(now);
        std::mem::take(&mut state.left_out)
    }
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // The eBPF programs log different things in one place, and have a bound of their own.
        event.metadata().target() == log::TARGET || self.may_log(event.metadata().callsite(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn what_is_repeated_is_left_out_and_counted() {
        let (limiter, lines) = (Limiter::default(), Lines::default());
        let layers = tracing_subscriber::registry()
            .with(limiter.clone())
            .with(tracing_subscriber::fmt::layer().with_writer(lines.clone()));
        tracing::subscriber::with_default(layers, || {
            for n in 0..1000 {
                tracing::warn!("again {n}");
            }
            tracing::warn!("something else");
            for n in 0..1000 {
                tracing::warn!(target: log::TARGET, "row {n}");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("again").count(), MAX_LINES_PER_WINDOW as usize);
        assert!(text.contains("something else"));
        assert_eq!(text.matches("row").count(), 1000, "the eBPF programs have their own bound");
        let now = Instant::now();
        assert_eq!(limiter.take_left_out(now), 990);
        assert_eq!(limiter.take_left_out(now), 0);
    }

    #[test]
    fn a_place_may_speak_again_in_the_next_window() {
        let limiter = Limiter::default();
        let event = tracing::warn_span!("a place");
        let place = event.metadata().map(tracing::Metadata::callsite);
        let Some(place) = place else { return };
        let now = Instant::now();
        for _ in 0..MAX_LINES_PER_WINDOW {
            assert!(limiter.may_log(place.clone(), now));
        }
        assert!(!limiter.may_log(place.clone(), now + LOG_WINDOW / 2));
        assert!(limiter.may_log(place, now + LOG_WINDOW));
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = File::open("/proc/self/exe").unwrap();
        let metadata = file.metadata().unwrap();
        let named = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_journal(&file, Some(&named)));
        assert!(!is_journal(&file, Some("1:2")));
        assert!(!is_journal(&file, None));
    }
}
