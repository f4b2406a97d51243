//! Each of the daemon's intervals as it is over, until told to stop.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::{ask::Lines, request};
use crate::{cli::Cli, report::Sink};

/// Shows documents as they come. A slow reader costs reports, which are counted, and not the connection.
///
/// # Errors
///
/// If the daemon ends, or what it says is not understood or cannot be written.
pub(super) async fn show(cli: &Cli, mut lines: Lines) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let (mut sink, mut writer) = Sink::new(cli.output());
    loop {
        let line = tokio::select! {
            line = lines.next() => line.context("the daemon is no longer heard")?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = &mut writer.ended => break,
        };
        let Some(line) = line else { bail!("the daemon has ended") };
        let mut snapshot = request::snapshot_of(cli, &line)?;
        snapshot.loss.reports_skipped = sink.skipped;
        sink.put(&snapshot)?;
    }
    writer.finish(sink)
}
