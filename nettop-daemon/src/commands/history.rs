//! `nettopd history`.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use nettop_history::{Reader, moment, unix_now_s};
use nettop_model::history::Document;
use nix::unistd::{Gid, Group};

use crate::{
    client, defaults,
    error::{NotPermitted, Usage},
    query::{
        format::Format,
        global::Global,
        history::{HistoryArgs, HistoryQuery},
    },
    record::answer::{answer, period, utc as as_text},
    render::history::encode,
    sys::stdout,
};

/// Asks the daemon, which may read what it records, or the file.
///
/// # Errors
///
/// [`Usage`] for an invalid or future time, [`NotPermitted`], else if the file cannot be read.
pub fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<()> {
    if args.query.hogs && matches!(args.format, Format::Csv) {
        return Err(Usage::new("--hogs has no columns: ask for --format table or json, or leave out --hogs").into());
    }
    let is_the_daemons = args.history.as_os_str() == defaults::HISTORY_FILE && !global.has_own_hooks();
    let socket = client::socket(global).filter(|_| is_the_daemons);
    let target = client::target::history(&in_utc(&args.query)?);
    client::ask_or_else(
        socket.as_deref(),
        &target,
        |answer| print(args, &client::read(answer)?),
        || print(args, &of_file(args)?),
    )
}

fn of_file(args: &HistoryArgs) -> anyhow::Result<Document> {
    // A wrong period is an error for any file.
    if !args.query.last_boot {
        period(&args.query, unix_now_s())?;
    }
    check_readable(&args.history)?;
    answer(&args.query, &Reader::open(&args.history)?)
}

fn print(args: &HistoryArgs, document: &Document) -> anyhow::Result<()> {
    stdout::print(&encode(args, document)?)
}

/// The same question with times in UTC: `22:10` is another time in each zone.
///
/// # Errors
///
/// [`Usage`] for an invalid time.
fn in_utc(query: &HistoryQuery) -> anyhow::Result<HistoryQuery> {
    let utc =
        |text: &Option<String>| text.as_deref().map(|text| moment(text, unix_now_s()).map_err(Usage::new)).transpose();
    let [at, from, to] = [utc(&query.at)?, utc(&query.from)?, utc(&query.to)?].map(|ts| ts.map(as_text));
    Ok(HistoryQuery { at, from, to, ..query.clone() })
}

/// Reports what to do if the file cannot be opened.
///
/// # Errors
///
/// [`NotPermitted`] where another user could read it, else if it is not there or cannot be read.
pub fn check_readable(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no history {shown}: does nettopd record there? --history FILE names another")
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let remedy = group(path).map_or_else(String::new, |group| format!("join the group {group}, or "));
            Err(NotPermitted::new(format!("not permitted to read the history {shown}: {remedy}run as root")).into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the history {shown}")),
    }
}

/// Who may read it, if that is anybody but root.
fn group(path: &Path) -> Option<String> {
    // Who may not enter the folder still sees whose it is.
    let found = fs::metadata(path).ok().or_else(|| fs::metadata(path.parent()?).ok())?;
    let gid = Gid::from_raw(found.gid());
    (gid.as_raw() != 0 && found.mode() & 0o050 != 0)
        .then(|| Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name))
}
