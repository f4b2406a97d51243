//! What is measured now: the daemon's stream, or a sampler here. Either is on a thread of its own, and never waits for the
//! screen.

use std::{
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

use anyhow::Context as _;
use nettop_history::local_time;
use nettop_kernel::Kernel;
use nettop_model::{Filter, Snapshot, Sort};
use nettop_top::{Event, Measured};
use tokio::{
    sync::mpsc::{Sender, error::TrySendError},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    client::{self, Lines},
    defaults,
    error::Unavailable,
    identity::users::{self, Users},
    measure::{View, sampler::Sampler, usage::REPORT_TIMEOUT},
    query::{global::Global, top::TopArgs},
    sys::{allocator, clock, runtime},
};

/// How long after a lost daemon it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Each line has all: what is shown is the last.
const STREAM: &str = "/v1/stream?whole=1&resources=1";

/// Where frames come from.
pub struct Source {
    /// None: from here.
    pub daemon: Option<PathBuf>,
}

impl Source {
    /// Starts it, and returns once it is known that it works: whoever may not measure learns that before the screen opens.
    /// None where only the record is shown.
    ///
    /// # Errors
    ///
    /// As [`client::follow_or_else`] where no daemon answers and this user may not measure.
    pub fn start(global: &Global, args: &TopArgs, sender: Sender<Event>) -> anyhow::Result<Option<Self>> {
        if args.file.is_some() {
            return Ok(None);
        }
        let socket = client::socket(global).filter(|_| args.interval.is_none() && !global.has_own_hooks());
        let (begun, begins) = sync_channel(1);
        let (global, args) = (global.clone(), args.clone());
        let from = socket.clone();
        std::thread::spawn(move || run(&global, &args, from, &sender, &begun));
        match begins.recv().context("what measures has ended")? {
            Ok(is_daemons) => Ok(Some(Self { daemon: socket.filter(|_| is_daemons) })),
            // The record is there, and nothing else is needed.
            Err(error) if error.is::<NotNeeded>() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// No daemon answers, and the record is what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("nothing is measured now")]
struct NotNeeded;

type Begun = SyncSender<anyhow::Result<bool>>;

/// Follows the daemon, again and again once it answered; or measures.
fn run(global: &Global, args: &TopArgs, socket: Option<PathBuf>, sender: &Sender<Event>, begun: &Begun) {
    let mut was_followed = false;
    loop {
        let standalone = || match (was_followed, &args.at) {
            (true, _) => Err(Unavailable::new("it does not answer").into()),
            (false, Some(_)) => Err(NotNeeded.into()),
            (false, None) => measure(global, args, sender, begun),
        };
        let mut follows = false;
        let show = async |lines: Lines| {
            follows = true;
            // The second time nobody waits for it.
            let _ = begun.try_send(Ok(true));
            follow(lines, sender).await
        };
        let ended = client::follow_or_else(socket.as_deref(), STREAM, show, standalone);
        was_followed |= follows;
        let why = match ended {
            Ok(()) => return,
            Err(error) if was_followed => format!("!the daemon is no longer heard: {error:#}; it is asked again"),
            Err(error) => {
                let text = format!("!nothing is measured any more: {error:#}");
                if let Err(error) = begun.try_send(Err(error)) {
                    tracing::debug!("measuring ended: {error}");
                    let _ = sender.blocking_send(Event::Lost(text));
                }
                return;
            }
        };
        if sender.blocking_send(Event::Lost(why)).is_err() {
            return;
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// Hands on the daemon's documents. One that finds no room is left out, and counted.
async fn follow(mut lines: Lines, sender: &Sender<Event>) -> anyhow::Result<()> {
    let mut skipped = 0;
    while let Some(line) = lines.next().await? {
        let mut snapshot: Snapshot = client::read(&line)?;
        snapshot.loss.reports_skipped = skipped;
        if !put(sender, snapshot, &mut skipped) {
            return Ok(());
        }
        drop(line);
        allocator::give_back_unused();
    }
    Err(Unavailable::new("it has ended the stream").into())
}

/// Reads each interval, until the screen is closed.
fn measure(global: &Global, args: &TopArgs, sender: &Sender<Event>, begun: &Begun) -> anyhow::Result<()> {
    let kernel = Kernel::examine(global.forced())?;
    let mut programs = kernel.start(defaults::LIMITS, None)?;
    if global.recovery_probe {
        programs.attach_recovery();
    }
    let timeout = users::INTERVAL_TIMEOUT;
    let view = View {
        filter: Filter::default(),
        sort: Sort::Packets,
        only_busy: false,
        users: Some(Users::with_timeout(timeout)),
        with_arguments: false,
        names_timeout: timeout,
        since: clock::now(),
    };
    let mut sampler = Sampler::start(&kernel, programs, view, true)?;
    let mut usage = sampler.start_usage(&kernel);
    drop(kernel);
    let _ = begun.try_send(Ok(false));
    let period = Duration::from_secs_f64(args.interval.unwrap_or(defaults::TOP_INTERVAL_S));
    runtime::start()?.block_on(async {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut skipped = 0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return Ok(()),
            }
            if let Some(usage) = &mut usage {
                usage.ask();
            }
            let mut snapshot = sampler.sample(skipped)?;
            if let Some(used) = usage.as_mut().and_then(|usage| usage.take(REPORT_TIMEOUT)) {
                sampler.add_resources(&mut snapshot, &used);
            }
            if !put(sender, snapshot, &mut skipped) {
                return Ok(());
            }
            allocator::give_back_unused();
        }
    })
}

/// Whether anybody is there to take it.
fn put(sender: &Sender<Event>, snapshot: Snapshot, skipped: &mut u64) -> bool {
    match sender.try_send(Event::Measured(Box::new(measured(snapshot)))) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            *skipped += 1;
            true
        }
        Err(TrySendError::Closed(_)) => false,
    }
}

/// A snapshot with its time, as people here read it.
pub fn measured(snapshot: Snapshot) -> Measured {
    let at_ms = snapshot.time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    let local_time = local_time(at_ms.div_euclid(1000)).unwrap_or_else(|| snapshot.time.clone());
    Measured { snapshot, at_ms, local_time }
}
