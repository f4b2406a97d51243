//! Whether a run is recorded, and where.

use std::{
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use nettop_history::Limits;
use nettop_model::Filter;
use nix::unistd::geteuid;

use super::recorder::{Moment, Recorder, limits};
use crate::{
    config::{Config, HistoryConfig},
    defaults,
    error::Usage,
    query::{history::RecordArgs, report::Reports},
};

/// A recorder, if this run is to be recorded: by default an endless run of everything whose output is no terminal.
///
/// # Errors
///
/// [`Usage`] if a file is named and only a part would be recorded.
pub fn recorder(reports: &Reports, filter: &Filter) -> anyhow::Result<Option<Recorder>> {
    let Some(RecordArgs { history, no_history, history_size, history_keep, history_arguments, no_history_resources }) =
        &reports.record
    else {
        tracing::info!("no history is recorded");
        return Ok(None);
    };
    let timing = reports.timing();
    let is_whole = filter.pids.is_empty()
        && filter.uids.is_empty()
        && filter.devices.is_empty()
        && filter.names.is_empty()
        && filter.hidden_families == [false; 2];
    let path = match history {
        Some(_) if !is_whole => {
            return Err(Usage::new("a history has everything: leave out --history, or -p, -u, -i, -c, --unit, --container, --pod, -4 and -6").into());
        }
        Some(path) => path.clone(),
        None => {
            // Whoever looks at a table on a terminal asked for no file, and would keep the service from its own.
            let is_daemon =
                is_whole && !no_history && !reports.once && timing.count.is_none() && !io::stdout().is_terminal();
            match Path::new(defaults::HISTORY_FILE) {
                default if is_daemon && is_own(default) => default.into(),
                _ => {
                    tracing::info!("no history is recorded");
                    return Ok(None);
                }
            }
        }
    };
    let limits = Limits { keep: *history_keep, size_bytes: u64::from(*history_size) << 20, ..Limits::default() };
    let period = Duration::from_secs_f64(timing.interval_s());
    let recorder = Recorder::new(path, limits, period, "/proc", Moment::now());
    Ok(Some(recorder.with_arguments(*history_arguments).with_resources(!no_history_resources)))
}

/// The recorder of the service, if it is to have one.
pub fn of_service(config: &Config) -> Option<Recorder> {
    let HistoryConfig { enabled, file, arguments, resources, .. } = &config.history;
    if !enabled || file == Path::new(defaults::HISTORY_FILE) && !is_own(file) {
        tracing::info!("no history is recorded");
        return None;
    }
    let period = Duration::from_secs_f64(config.interval);
    let recorder = Recorder::new(file.clone(), limits(config), period, "/proc", Moment::now());
    Some(recorder.with_arguments(*arguments).with_resources(*resources))
}

/// Whether the folder of the default file is there, and ours.
fn is_own(default: &Path) -> bool {
    let Some(folder) = default.parent().and_then(|folder| fs::metadata(folder).ok()).filter(fs::Metadata::is_dir)
    else {
        return false;
    };
    let is_own = folder.uid() == geteuid().as_raw();
    if !is_own {
        tracing::warn!(
            "the folder of {} belongs to user {}; name a file with --history",
            default.display(),
            folder.uid()
        );
    }
    is_own
}
