//! The main loop: read each interval, name, balance, report, until told to stop.

use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::User;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    Usage,
    cli::{Cli, Format, Selection},
    clock, history,
    kernel::programs::Kernel,
    report::{Filter, Output, Sink, View},
    sampler::Sampler,
};

/// Runs nettopd to its end.
///
/// # Errors
///
/// [`Usage`] for an unknown user, [`crate::kernel::preflight::Refusal`] for what the kernel lacks or forbids.
pub fn run(cli: &Cli, output: Output) -> anyhow::Result<()> {
    let (timing, selection) = cli.watch();
    let filter = filter(cli, selection)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        // From here on a signal ends the loop below, and not the process with its hooks half attached.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut history = history::recorder(cli, &timing, &filter)?;
        let mut sampler = start(cli, filter, output.shows_drops() || history.is_some())?;
        if let Some(history) = &mut history {
            history.start(sampler.hooks_missing());
        }
        let (mut sink, mut writer) = Sink::new(output);
        let period = Duration::from_secs_f64(timing.interval_s());
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut left = timing.count;
        let ended: anyhow::Result<()> = async {
            while left != Some(0) {
                let last = tokio::select! {
                    _ = ticks.tick() => false,
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => true,
                    _ = &mut writer.ended => break,
                };
                let mut snapshot = sampler.sample(sink.skipped)?;
                if let Some(history) = &mut history {
                    history.record(&mut snapshot);
                }
                sink.put(&snapshot)?;
                left = if last { Some(0) } else { left.map(|left| left - 1) };
            }
            Ok(())
        }
        .await;
        drop(sampler);
        // Whatever ended it: what was measured is recorded.
        if let Some(history) = history {
            history.finish();
        }
        ended?;
        writer.finish(sink)
    })
}

fn start(cli: &Cli, filter: Filter, with_drops: bool) -> anyhow::Result<Sampler> {
    let kernel = Kernel::examine(cli.backend)?;
    let mut programs = kernel.start(cli.limits(), None)?;
    if cli.second_look {
        programs.look_twice();
    }
    let only_busy = cli.format() == Format::Table;
    let view = View { filter, sort: cli.sort, only_busy, numeric: cli.numeric, since: clock::now() };
    Sampler::start(&kernel, programs, view, with_drops)
}

fn filter(cli: &Cli, selection: &Selection) -> anyhow::Result<Filter> {
    let uids = selection.user.iter().map(|user| uid(user)).collect::<anyhow::Result<_>>()?;
    Ok(Filter {
        pids: selection.pid.clone(),
        uids,
        devices: selection.interface.clone(),
        hidden_families: [cli.ipv6, cli.ipv4],
    })
}

/// The number of a user.
///
/// # Errors
///
/// [`Usage`] if there is none.
pub fn uid(user: &str) -> anyhow::Result<u32> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let found = User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
    found.ok_or_else(|| Usage(format!("no user is named '{}'; give a name or a number", user)).into())
}
