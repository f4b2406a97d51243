//! `nettopd daemon`: loads, gives up every capability, then measures, records and publishes until stopped.

mod capabilities;
mod fdstore;
mod logs;
mod manager;
mod status;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use nettop_kernel::{Kernel, Programs, socket_iterators::SocketIterators};
use nettop_model::{Filter, Snapshot, Sort};
use nix::sys::signal::{SigSet, Signal};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use self::logs::Logs;
use crate::{
    config::{Config, settings::DaemonArgs},
    error::Fault,
    identity::{
        containers::Containers,
        users::{self, Users},
    },
    measure::{
        View,
        sampler::Sampler,
        usage::{REPORT_TIMEOUT, UsageThread},
    },
    query::global::Global,
    record::{choose::of_service, recorder::Recorder},
    serve::{self, Latest},
    sys::{allocator, resident, runtime, signals::Signals},
};

/// The latest snapshot, for subscribers. There is none before the first sample.
pub type Published = watch::Receiver<Option<Arc<Latest>>>;

/// Delay from the start to the first sample, at any interval: readiness waits for it.
const FIRST_SAMPLE_DELAY: Duration = Duration::from_secs(1);

/// Runs the service to its end.
///
/// # Errors
///
/// [`Fault`] for its configuration, [`nettop_kernel::Refusal`] for what the kernel lacks or
/// forbids.
pub fn run(global: &Global, args: &DaemonArgs) -> anyhow::Result<()> {
    let mut flags = args.settings.clone().with_global(global.backend, global.verbose);
    flags.socket = global.socket.clone();
    // SIGHUP ends the process by default: held back until there is a handler.
    SigSet::from(Signal::SIGHUP).thread_block().context("cannot hold SIGHUP back")?;
    let config = Config::load(args.config.as_deref(), &flags)?;
    let logs = Logs::start(config.log_level)?;
    let kernel = Kernel::examine(config.backend.forced())?;
    // Before anything is attached: where another daemon answers, this one ends.
    let socket = if config.socket.as_os_str().is_empty() { None } else { Some(serve::Socket::bind(&config.socket)?) };
    let (mut programs, since) = fdstore::start(&kernel, config.limits())?;
    let (publish, published) = watch::channel(None);
    let iterators = socket.is_some().then(|| kernel.iterators());
    // While there may be CAP_IPC_LOCK.
    if let Err(error) = resident::lock_program() {
        tracing::warn!("readings may be late where memory is short: {error:#} (LimitMEMLOCK= of the unit)");
    }
    capabilities::give_up(&programs, &config.keep_capabilities)?;
    if global.recovery_probe {
        programs.attach_recovery();
    }
    let _api = socket.map(|socket| api(socket, published, iterators, &config)).transpose()?;
    runtime::start()?.block_on(async {
        let mut service = Service::start(&kernel, programs, since, config, logs)?;
        // Its BTF takes 15 MB.
        drop(kernel);
        service.serve(&publish, || Config::load(args.config.as_deref(), &flags)).await
    })
}

/// Starts the API, on a thread with the capabilities that are left: none.
fn api(
    socket: serve::Socket,
    latest: Published,
    iterators: Option<anyhow::Result<SocketIterators>>,
    config: &Config,
) -> anyhow::Result<serve::Server> {
    let iterators = iterators.and_then(|iterators| {
        iterators.inspect_err(|error| tracing::warn!("sockets cannot be listed: {error:#}")).ok()
    });
    let history = config.history.enabled.then(|| config.history.file.clone());
    serve::Server::start(
        socket,
        serve::Sources { latest, iterators: iterators.map(Arc::new), history, users: users::numbers() },
    )
}

struct Service {
    config: Config,
    logs: Logs,
    sampler: Sampler,
    /// What processes use, for the history and for who asks.
    usage: Option<UsageThread>,
    history: Option<Recorder>,
    ticks: Interval,
    /// Namespaces that the log has named.
    unread: BTreeSet<u32>,
}

impl Service {
    fn start(kernel: &Kernel, programs: Programs, since: String, config: Config, logs: Logs) -> anyhow::Result<Self> {
        // A snapshot is filtered for each request, not here.
        let (filter, users) = (Filter::default(), users(&config));
        Containers::of_machine().enable(config.container_names);
        let view = View {
            filter,
            sort: Sort::Packets,
            only_busy: false,
            users,
            // For the history, where that is configured, and for those who ask: `Latest` keeps them apart.
            with_arguments: true,
            names_timeout: Duration::ZERO,
            since,
        };
        let mut sampler = Sampler::start(kernel, programs, view, true)?;
        let mut history = of_service(&config);
        if let Some(history) = &mut history {
            history.start(sampler.hooks_missing(), sampler.losses_before());
        }
        let usage = config.history.resources.then(|| sampler.start_usage(kernel)).flatten();
        let period = period(&config);
        Ok(Self {
            ticks: ticks(period.min(FIRST_SAMPLE_DELAY), period),
            config,
            logs,
            sampler,
            usage,
            history,
            unread: BTreeSet::new(),
        })
    }

    /// Measures until stopped. Only this feeds the watchdog: a sampler that hangs is a reason to restart, a disk or a
    /// reader that hangs is not.
    async fn serve(
        &mut self,
        publish: &watch::Sender<Option<Arc<Latest>>>,
        load: impl Fn() -> Result<Config, Fault>,
    ) -> anyhow::Result<()> {
        let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
        let mut signals = Signals::watch()?;
        SigSet::from(Signal::SIGHUP).thread_unblock().context("cannot let SIGHUP through")?;
        let watchdog = manager::watchdog_period();
        let mut watchdog = ticks(watchdog, watchdog);
        let mut status = String::new();
        let result: anyhow::Result<()> = loop {
            let is_last = tokio::select! {
                _ = self.ticks.tick() => false,
                _ = signals.next() => true,
                _ = watchdog.tick() => {
                    manager::notify_watchdog();
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
            let latest = Latest::new(publish.borrow().as_deref(), snapshot);
            publish.send_replace(Some(Arc::new(latest)));
            if is_last {
                break Ok(());
            }
            if is_first {
                tracing::info!("ready: {status}");
                manager::ready(&status);
            } else {
                manager::status(&status);
            }
            self.logs.report_suppressed();
            allocator::give_back_unused();
        };
        // Also after an error: what was measured is recorded.
        if let Some(history) = self.history.take() {
            history.finish(self.usage.take());
        }
        result
    }

    fn sample(&mut self) -> anyhow::Result<Snapshot> {
        if let Some(usage) = &mut self.usage {
            usage.ask();
        }
        let mut snapshot = self.sampler.sample(0)?;
        let used = self.usage.as_mut().and_then(|usage| usage.take(REPORT_TIMEOUT));
        if let Some(history) = &mut self.history {
            history.record(&mut snapshot, used.as_ref());
        }
        if let Some(used) = used {
            self.sampler.add_resources(&mut snapshot, &used);
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

    /// Takes over all changes of a new configuration that it can, or none if it is wrong.
    fn reload(&mut self, loaded: Result<Config, Fault>) {
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
            self.sampler.set_users(users(new));
        }
        Containers::of_machine().enable(new.container_names);
        if new.interval != old.interval {
            self.ticks = ticks(period(new), period(new));
        }
        if let Some(history) = &mut self.history {
            history.adjust(new);
        }
    }
}

/// Names of users that are known already: nobody waits for others.
fn users(config: &Config) -> Option<Users> {
    (!config.numeric).then_some(Users::with_timeout(Duration::ZERO))
}

fn period(config: &Config) -> Duration {
    Duration::from_secs_f64(config.interval)
}

fn ticks(first: Duration, period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
