//! `nettopd daemon`: loads, gives up every capability, then measures, records and publishes until told to stop.

mod capabilities;
mod logs;
mod manager;
mod status;
mod store;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    api,
    cli::{Cli, Sort},
    config::{Config, DaemonArgs},
    history::{self, Recorder},
    kernel::{
        listing::Walks,
        programs::{Kernel, Programs},
    },
    report::{Filter, Snapshot, View},
    sampler::Sampler,
};
use logs::Logs;

/// The latest snapshot, for whoever subscribes. There is none before the first sample.
pub type Published = watch::Receiver<Option<Arc<Snapshot>>>;

/// How long after the start the first sample is taken, whatever the interval: readiness waits for it.
const FIRST: Duration = Duration::from_secs(1);

/// Runs the service to its end.
///
/// # Errors
///
/// [`crate::config::Fault`] for its configuration, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or
/// forbids.
pub fn run(cli: &Cli, args: &DaemonArgs) -> anyhow::Result<()> {
    let mut flags = args.settings.clone().with_global(cli.backend, cli.verbose);
    flags.socket = cli.socket.clone();
    // Its default would end this process: until it is handled, it waits.
    SigSet::from(Signal::SIGHUP).thread_block().context("cannot hold SIGHUP back")?;
    let config = Config::load(args.config.as_deref(), &flags)?;
    let logs = Logs::start(config.log_level)?;
    let kernel = Kernel::examine(config.forced())?;
    // Before anything is attached: where another daemon answers, this one ends.
    let socket = if config.socket.as_os_str().is_empty() { None } else { Some(api::Socket::bind(&config.socket)?) };
    let (mut programs, since) = store::start(&kernel, config.limits())?;
    let (publish, published) = watch::channel(None);
    let walks = socket.is_some().then(|| kernel.walks());
    capabilities::give_up(&programs, &config.keep_capabilities)?;
    if cli.second_look {
        programs.look_twice();
    }
    let _api = socket.map(|socket| api(socket, published, walks, &config)).transpose()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut service = Service::start(&kernel, programs, since, config, logs)?;
        service.serve(&publish, || Config::load(args.config.as_deref(), &flags)).await
    })
}

/// Starts the API, on a thread that has what capabilities are left: none.
fn api(
    socket: api::Socket,
    snapshots: Published,
    walks: Option<anyhow::Result<Walks>>,
    config: &Config,
) -> anyhow::Result<api::Server> {
    let walks =
        walks.and_then(|walks| walks.inspect_err(|error| tracing::warn!("sockets cannot be listed: {error:#}")).ok());
    let history = config.history.enabled.then(|| config.history.file.clone());
    api::Server::start(socket, api::Sources { snapshots, walks: walks.map(Arc::new), history })
}

struct Service {
    config: Config,
    logs: Logs,
    sampler: Sampler,
    history: Option<Recorder>,
    ticks: Interval,
    /// Namespaces that the log has named.
    unread: BTreeSet<u32>,
}

impl Service {
    fn start(kernel: &Kernel, programs: Programs, since: String, config: Config, logs: Logs) -> anyhow::Result<Self> {
        // What a snapshot is reduced to is for those who ask for one.
        let (filter, numeric) = (Filter::default(), config.numeric);
        let view = View { filter, sort: Sort::Packets, only_busy: false, numeric, since };
        let sampler = Sampler::start(kernel, programs, view, true)?;
        let mut history = history::of_service(&config);
        if let Some(history) = &mut history {
            history.start(sampler.hooks_missing());
        }
        let period = period(&config);
        Ok(Self { ticks: ticks(period.min(FIRST), period), config, logs, sampler, history, unread: BTreeSet::new() })
    }

    /// Measures until told to stop. The watchdog is fed from here and nowhere else: a disk or a reader that hangs is no
    /// reason to start again, a sampler that hangs is.
    async fn serve(
        &mut self,
        publish: &watch::Sender<Option<Arc<Snapshot>>>,
        load: impl Fn() -> Result<Config, crate::config::Fault>,
    ) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        SigSet::from(Signal::SIGHUP).thread_unblock().context("cannot let SIGHUP through")?;
        let watchdog = manager::watchdog_period();
        let mut watchdog = ticks(watchdog, watchdog);
        let mut status = String::new();
        let result: anyhow::Result<()> = loop {
            let is_last = tokio::select! {
                _ = self.ticks.tick() => false,
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = watchdog.tick() => {
                    manager::alive();
                    continue;
                }
                _ = hangup.recv() => {
                    let is_ready = !status.is_empty();
                    if is_ready {
                        manager::reloading();
                    }
                    self.reload(load());
                    if is_ready {
                        manager::ready(&status);
                    }
                    continue;
                }
            };
            if is_last {
                manager::stopping();
            }
            let snapshot = match self.sample() {
                Ok(snapshot) => snapshot,
                Err(error) => break Err(error),
            };
            let is_first = status.is_empty();
            status = status::line(&snapshot, self.history.as_ref());
            publish.send_replace(Some(Arc::new(snapshot)));
            if is_last {
                break Ok(());
            }
            if is_first {
                tracing::info!("ready: {status}");
                manager::ready(&status);
            } else {
                manager::status(&status);
            }
            self.logs.tell_left_out();
        };
        // Whatever ended it: what was measured is recorded.
        if let Some(history) = self.history.take() {
            history.finish();
        }
        result
    }

    fn sample(&mut self) -> anyhow::Result<Snapshot> {
        let mut snapshot = self.sampler.sample(0)?;
        if let Some(history) = &mut self.history {
            history.record(&mut snapshot);
        }
        let unread: BTreeSet<u32> = self.sampler.namespaces_unread().iter().map(|netns| netns.inode).collect();
        for netns in unread.difference(&self.unread) {
            tracing::info!(
                "network namespace {netns} is not entered: its packets are counted, its devices have no names and no balance"
            );
        }
        self.unread = unread;
        Ok(snapshot)
    }

    /// Takes over what a new configuration changes: all of it that can be, or, if it is wrong, nothing.
    fn reload(&mut self, loaded: Result<Config, crate::config::Fault>) {
        let new = match loaded {
            Ok(new) => new,
            Err(fault) => {
                tracing::error!("the configuration is not taken over: {fault}");
                return;
            }
        };
        let changes = self.config.changes(&new);
        if changes.is_empty() {
            tracing::info!("the configuration is read again: nothing has changed");
        }
        for change in &changes {
            let when = if change.needs_restart { ", with the next start" } else { "" };
            tracing::info!(
                "the configuration is read again: {} = {}{when} (was {})",
                change.key,
                change.new,
                change.old
            );
        }
        let old = self.config.clone();
        self.config.adopt(&new);
        self.apply(&old);
    }

    fn apply(&mut self, old: &Config) {
        let new = &self.config;
        if new.log_level != old.log_level {
            self.logs.set_level(new.log_level);
        }
        if new.numeric != old.numeric {
            self.sampler.set_numeric(new.numeric);
        }
        if new.interval != old.interval {
            self.ticks = ticks(period(new), period(new));
        }
        if let Some(history) = &mut self.history {
            history.adjust(new);
        }
    }
}

fn period(config: &Config) -> Duration {
    Duration::from_secs_f64(config.interval)
}

fn ticks(first: Duration, period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
