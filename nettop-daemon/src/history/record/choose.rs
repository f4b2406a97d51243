//! Whether a run is recorded, and where.

use std::{
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use nettop_history::Limits;
use nix::unistd::geteuid;

use super::{Moment, Recorder};
use crate::{
    Usage,
    cli::{Cli, Timing},
    history::args::{DEFAULT, RecordArgs},
    report::Filter,
};

/// A recorder, if this run is to be recorded: the daemon's is; one with a selection sees only a part, one of some reports
/// or on a terminal is a look.
///
/// # Errors
///
/// [`Usage`] if a file is named and only a part would be recorded.
pub fn recorder(cli: &Cli, timing: &Timing, filter: &Filter) -> anyhow::Result<Option<Recorder>> {
    let RecordArgs { history, no_history, history_size, history_keep } = &cli.record;
    let is_whole = filter.pids.is_empty()
        && filter.uids.is_empty()
        && filter.devices.is_empty()
        && filter.hidden_families == [false; 2];
    let path = match history {
        Some(_) if !is_whole => {
            return Err(Usage("a history has everything: leave out --history, or -p, -u, -i, -4 and -6".into()).into());
        }
        Some(path) => path.clone(),
        None => {
            // Who looks at a table on a terminal did not ask for a file, and would keep the service from its own.
            let is_daemon = is_whole
                && !no_history
                && cli.command.is_none()
                && !cli.once
                && timing.count.is_none()
                && !io::stdout().is_terminal();
            let default = Path::new(DEFAULT);
            let folder = default.parent().and_then(|folder| fs::metadata(folder).ok());
            let Some(folder) = folder.filter(|folder| is_daemon && folder.is_dir()) else {
                tracing::info!("no history is recorded");
                return Ok(None);
            };
            if folder.uid() != geteuid().as_raw() {
                tracing::warn!(
                    "no history is recorded: the folder of {DEFAULT} belongs to user {}; name a file with --history",
                    folder.uid()
                );
                return Ok(None);
            }
            default.into()
        }
    };
    let limits = Limits { keep: *history_keep, size_bytes: history_size << 20, ..Limits::default() };
    Ok(Some(Recorder::new(path, limits, Duration::from_secs_f64(timing.interval_s()), "/proc", Moment::now())))
}
