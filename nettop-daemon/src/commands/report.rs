//! `nettopd` and `nettopd drops`: reports of each interval, the daemon's or measured here, until stopped.

use std::time::{Duration, Instant as Moment};

use anyhow::{Context as _, bail};
use nettop_kernel::Kernel;
use nettop_model::{
    Filter, Snapshot, group,
    snapshot::{GroupReport, RowReport},
    sort, sort_groups,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    client::{self, Lines},
    identity::users::{self, Users},
    measure::{
        View,
        sampler::Sampler,
        usage::{LAST_TIMEOUT, REPORT_TIMEOUT},
    },
    query::{global::Global, report::Reports, unmatched, user::uids},
    record::{choose::recorder, recorder::Recorder},
    render::sink::Sink,
    sys::{
        allocator, clock, runtime,
        signals::{Signals, let_signals_end},
    },
};

/// Reports to the end.
///
/// # Errors
///
/// [`crate::error::Usage`] for an unknown user, [`nettop_kernel::Refusal`] for what the kernel lacks or forbids.
pub fn run(global: &Global, reports: &Reports) -> anyhow::Result<()> {
    let target = client::target::reports(reports).filter(|_| !global.has_own_hooks());
    let socket = client::socket(global).filter(|_| target.is_some());
    let (socket, target) = (socket.as_deref(), target.unwrap_or_default());
    let standalone = || measure(global, reports);
    if reports.once {
        client::ask_or_else(socket, &target, |answer| show(reports, answer), standalone)
    } else {
        client::follow_or_else(socket, &target, async |lines| follow(reports, lines).await, standalone)
    }
}

/// The daemon's only report.
fn show(reports: &Reports, answer: &[u8]) -> anyhow::Result<()> {
    let mut sink = Sink::new(reports.output);
    let snapshot = snapshot_of(reports, answer)?;
    unmatched::in_report(&reports.selection, &snapshot);
    sink.put(&snapshot)?;
    sink.finish(None)
}

/// The daemon's reports as they come. A slow reader costs reports, which are counted, and not the connection.
async fn follow(reports: &Reports, mut lines: Lines) -> anyhow::Result<()> {
    let mut signals = Signals::watch()?;
    let mut sink = Sink::new(reports.output);
    let mut has_reported = false;
    let ended: anyhow::Result<Option<Moment>> = async {
        loop {
            let line = tokio::select! {
                line = lines.next() => line.context("the daemon is no longer heard")?,
                _ = signals.next() => return Ok(Some(Moment::now())),
                () = sink.ended() => return Ok(None),
            };
            let Some(line) = line else { bail!("the daemon has ended the stream") };
            let mut snapshot = snapshot_of(reports, &line)?;
            snapshot.loss.reports_skipped = sink.skipped;
            if !std::mem::replace(&mut has_reported, true) {
                unmatched::in_report(&reports.selection, &snapshot);
            }
            sink.put(&snapshot)?;
            drop((line, snapshot));
            allocator::give_back_unused();
        }
    }
    .await;
    // Also after an error: reports that wait are written.
    let written = sink.finish(*ended.as_ref().unwrap_or(&None));
    ended.map(drop).and(written)
}

/// A document of the daemon as it would have been made here.
fn snapshot_of(reports: &Reports, document: &[u8]) -> anyhow::Result<Snapshot> {
    let mut snapshot: Snapshot = client::read(document)?;
    sort(&mut snapshot.rows, reports.sort);
    sort_groups(&mut snapshot.groups, reports.sort);
    if reports.numeric {
        snapshot.rows.iter_mut().for_each(|row| row.user = None);
        let processes = snapshot.resources.iter_mut().flat_map(|resources| &mut resources.processes);
        processes.for_each(|process| process.user = None);
    }
    if reports.output.shows_only_busy() {
        snapshot.rows.retain(RowReport::is_busy);
        snapshot.groups.retain(GroupReport::is_busy);
    }
    Ok(snapshot)
}

/// Reads each interval, names, balances and reports.
fn measure(global: &Global, reports: &Reports) -> anyhow::Result<()> {
    let timing = reports.timing();
    let filter = filter(reports)?;
    runtime::start()?.block_on(async {
        let mut signals = Signals::watch()?;
        let mut history = recorder(reports, &filter)?;
        // Nobody waits for another report.
        let is_only = timing.count == Some(1);
        let timeout = if is_only { users::DOCUMENT_TIMEOUT } else { users::INTERVAL_TIMEOUT };
        let (kernel, mut sampler) = start(global, reports, filter, timeout, history.as_ref())?;
        if let Some(history) = &mut history {
            history.start(sampler.hooks_missing(), sampler.losses_before());
        }
        let shows_resources = reports.output.shows_resources();
        let reads_usage = shows_resources || history.as_ref().is_some_and(Recorder::records_resources);
        let mut usage = reads_usage.then(|| sampler.start_usage(&kernel)).flatten();
        drop(kernel);
        let mut sink = Sink::new(reports.output);
        let period = Duration::from_secs_f64(timing.interval_s());
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut left = timing.count;
        let (mut asked_at, mut has_reported) = (None, false);
        let ended: anyhow::Result<()> = async {
            while left != Some(0) {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = signals.next() => asked_at = Some(Moment::now()),
                    () = sink.ended() => break,
                }
                if asked_at.is_some() {
                    // A second signal ends it without the last report.
                    let_signals_end()?;
                    sink.repeat_all();
                }
                if let Some(usage) = &mut usage {
                    usage.ask();
                }
                let mut snapshot = sampler.sample(sink.skipped)?;
                let timeout = match shows_resources {
                    true if is_only => LAST_TIMEOUT,
                    true => REPORT_TIMEOUT,
                    false => Duration::ZERO,
                };
                let used = usage.as_mut().and_then(|usage| usage.take(timeout));
                if let Some(history) = &mut history {
                    history.record(&mut snapshot, used.as_ref());
                }
                if let Some(used) = used.filter(|_| shows_resources) {
                    sampler.add_resources(&mut snapshot, &used);
                }
                if !reports.output.shows_arguments() {
                    snapshot.rows.iter_mut().for_each(|row| row.process.arguments = None);
                }
                if !std::mem::replace(&mut has_reported, true) {
                    unmatched::in_report(&reports.selection, &snapshot);
                }
                group(&mut snapshot, reports.by, reports.sort);
                sink.put(&snapshot)?;
                drop(snapshot);
                allocator::give_back_unused();
                left = if asked_at.is_some() { Some(0) } else { left.map(|left| left - 1) };
            }
            Ok(())
        }
        .await;
        drop(sampler);
        let unasked = signals.let_through().await?;
        asked_at = asked_at.or(unasked.map(|_| Moment::now()));
        // Also after an error: what was measured is recorded.
        if let Some(history) = history {
            history.finish(usage);
        }
        let written = sink.finish(asked_at);
        ended.and(written)
    })
}

fn start(
    global: &Global,
    reports: &Reports,
    filter: Filter,
    timeout: Duration,
    history: Option<&Recorder>,
) -> anyhow::Result<(Kernel, Sampler)> {
    let kernel = Kernel::examine(global.forced())?;
    let mut programs = kernel.start(reports.limits, None)?;
    if global.recovery_probe {
        programs.attach_recovery();
    }
    let only_busy = reports.output.shows_only_busy();
    let users = (!reports.numeric).then_some(Users::with_timeout(timeout));
    let view = View {
        filter,
        sort: reports.sort,
        only_busy,
        users,
        with_arguments: reports.output.shows_arguments() || history.is_some_and(Recorder::records_arguments),
        names_timeout: timeout,
        since: clock::now(),
    };
    let sampler = Sampler::start(&kernel, programs, view, reports.output.shows_drops() || history.is_some())?;
    Ok((kernel, sampler))
}

fn filter(reports: &Reports) -> anyhow::Result<Filter> {
    let uids = uids(&reports.selection.user)?;
    Ok(Filter { hidden_families: reports.hidden_families, ..reports.selection.filter(uids) })
}
