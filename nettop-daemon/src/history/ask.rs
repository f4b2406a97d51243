//! `nettopd history`: the question of the command line, put to the file.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use nettop_history::{Boot, Question, Reader, SLOT_S, moment};
use nix::unistd::{Gid, Group};

use super::{
    args::HistoryArgs,
    render::{self, Document},
};
use crate::{NotPermitted, Usage};

/// What `--at` and `--last-boot` show.
const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3600;
const LAST_WORDS_S: i64 = 600;
/// Parts of the picture of a row.
const COLUMNS: usize = 24;

/// `nettopd history`.
///
/// # Errors
///
/// [`Usage`] for a time that is none or to come, [`NotPermitted`], else if the file cannot be read.
pub fn run(args: &HistoryArgs) -> anyhow::Result<()> {
    // What cannot be asked is wrong of any file.
    if !args.last_boot {
        period(args, now())?;
    }
    look(&args.history)?;
    print(args, &answer(args, &Reader::open(&args.history)?)?)
}

/// Writes an answer to standard output, wherever it comes from.
///
/// # Errors
///
/// If it cannot be encoded or written.
pub fn print(args: &HistoryArgs, document: &Document) -> anyhow::Result<()> {
    let encoded = render::encode(args, document)?;
    match std::io::stdout().lock().write_all(&encoded) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

/// What a file answers.
///
/// # Errors
///
/// [`Usage`] for a time that is none or to come, else if the file cannot be read.
pub fn answer(args: &HistoryArgs, reader: &Reader) -> anyhow::Result<Document> {
    let boot = if args.last_boot { Some(last_boot(reader)?) } else { None };
    let (from, to) = match &boot {
        Some(boot) => (boot.last - LAST_WORDS_S, boot.last),
        None => period(args, now())?,
    };
    let question = Question {
        boot: boot.as_ref().map(|boot| boot.id),
        from,
        to,
        by: args.by.of(),
        order: args.sort.of(),
        top: args.top,
        when: args.when.clone(),
        columns: COLUMNS,
    };
    let answer = reader.answer(&question)?;
    Ok(render::document(args, &answer, boot.as_ref()))
}

/// The same question with times that mean the same everywhere: a clock's `22:10` is another in each zone.
///
/// # Errors
///
/// [`Usage`] for a time that is none.
pub fn in_utc(args: &HistoryArgs) -> anyhow::Result<HistoryArgs> {
    let utc = |text: &Option<String>| text.as_deref().map(|text| moment(text, now()).map_err(Usage)).transpose();
    let [at, from, to] = [utc(&args.at)?, utc(&args.from)?, utc(&args.to)?].map(|ts| ts.map(render::utc));
    Ok(HistoryArgs { at, from, to, ..args.clone() })
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn last_boot(reader: &Reader) -> anyhow::Result<Boot> {
    let current = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot tell this boot")?;
    reader.last_boot(current.trim())?.context("no boot before this one was recorded")
}

/// Says what to do about a file that cannot be opened.
fn look(path: &Path) -> anyhow::Result<()> {
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
    // Whoever may not enter the folder still sees whose it is.
    let found = fs::metadata(path).ok().or_else(|| fs::metadata(path.parent()?).ok())?;
    let gid = Gid::from_raw(found.gid());
    (gid.as_raw() != 0 && found.mode() & 0o050 != 0)
        .then(|| Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name))
}

/// From and to, in whole slots.
fn period(args: &HistoryArgs, now: i64) -> anyhow::Result<(i64, i64)> {
    let time = |text: &str| moment(text, now).map_err(Usage);
    let past = |text: &str| match time(text)? {
        ts if ts > now => Err(Usage(format!("'{text}' is in the future"))),
        ts => Ok(ts),
    };
    let floor = |ts: i64| ts - ts.rem_euclid(SLOT_S);
    let ceil = |ts: i64| floor(ts + SLOT_S - 1);
    let (from, to) = if let Some(at) = &args.at {
        // The last minute, where the one from then on is not over.
        let from = floor(past(at)?).min(ceil(now) - MINUTE_S);
        (from, from + MINUTE_S)
    } else {
        let to = args.to.as_deref().map_or(Ok(now), time)?;
        let from = args.from.as_deref().map_or(Ok(to - HOUR_S), past)?;
        (floor(from), ceil(to))
    };
    if from >= to {
        return Err(Usage("the period ends before it begins; --from comes before --to".into()).into());
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(args: &[&str]) -> Result<(i64, i64), String> {
        let cli = Cli::try_parse_from([&["nettopd", "history"], args].concat()).unwrap();
        let Some(Command::History(args)) = cli.command else { panic!("{cli:?}") };
        period(&args, NOW).map_err(|error| error.downcast::<Usage>().unwrap().to_string())
    }

    /// 2026-11-18T10:53:25Z.
    const NOW: i64 = 1_794_999_205;

    #[test]
    fn a_period_is_whole_slots_of_what_has_been() {
        assert_eq!(asked(&[]), Ok((NOW - 3605, NOW + 5)));
        assert_eq!(asked(&["--at", "now"]), Ok((NOW - 55, NOW + 5)));
        assert_eq!(asked(&["--at", "-30s"]), Ok((NOW - 55, NOW + 5)), "the last minute");
        assert_eq!(asked(&["--at", "-90s"]), Ok((NOW - 95, NOW - 35)));
        assert_eq!(asked(&["--from", "-2h"]), Ok((NOW - 7205, NOW + 5)));
        assert_eq!(asked(&["--to", "-2h"]), Ok((NOW - 7200 - 3605, NOW - 7195)), "the hour before");
        assert_eq!(asked(&["--from", "-2h", "--to", "-1h"]), Ok((NOW - 7205, NOW - 3595)));
    }

    #[test]
    fn what_is_to_come_is_no_period() {
        for args in [["--at", "2026-11-18T10:53:26Z"], ["--from", "2031-01-01"]] {
            assert_eq!(asked(&args), Err(format!("'{}' is in the future", args[1])));
        }
        let backwards = asked(&["--from", "-1h", "--to", "-2h"]).unwrap_err();
        assert!(backwards.ends_with("--from comes before --to"), "{backwards}");
    }
}
