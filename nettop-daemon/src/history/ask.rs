//! `nettopd history`: the question of the command line, put to the file.

use std::{io::Write as _, time::SystemTime};

use anyhow::Context as _;
use nettop_history::{Boot, Question, Reader, SLOT_S, moment};

use super::{
    args::HistoryArgs,
    render::{self, Document},
};
use crate::Usage;

/// What `--at` and `--last-boot` show.
const MINUTE_S: i64 = 60;
const LAST_WORDS_S: i64 = 600;
/// Parts of the picture of a row.
const COLUMNS: usize = 24;

/// `nettopd history`.
///
/// # Errors
///
/// [`Usage`] for a time that is none, else if the file cannot be read.
pub fn run(args: &HistoryArgs) -> anyhow::Result<()> {
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
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// What a file answers.
///
/// # Errors
///
/// [`Usage`] for a time that is none, else if the file cannot be read.
pub fn answer(args: &HistoryArgs, reader: &Reader) -> anyhow::Result<Document> {
    let now = now();
    let boot = if args.last_boot { Some(last_boot(reader)?) } else { None };
    let (from, to) = match &boot {
        Some(boot) => (boot.last - LAST_WORDS_S, boot.last),
        None => period(args, now)?,
    };
    let question = Question {
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
    let current = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot tell this boot")?;
    reader.last_boot(current.trim())?.context("no boot before this one was recorded")
}

/// From and to, in whole slots.
fn period(args: &HistoryArgs, now: i64) -> anyhow::Result<(i64, i64)> {
    let time = |text: &str| moment(text, now).map_err(Usage);
    let floor = |ts: i64| ts - ts.rem_euclid(SLOT_S);
    let now = floor(now + SLOT_S - 1);
    let (from, to) = if let Some(at) = &args.at {
        // The last minute, where the one from then on is not over.
        let from = floor(time(at)?).min(now - MINUTE_S);
        (from, from + MINUTE_S)
    } else {
        let from = floor(time(args.from.as_deref().unwrap_or("-1h"))?);
        (from, floor(args.to.as_deref().map_or(Ok(now), time)? + SLOT_S - 1))
    };
    if from >= to {
        return Err(Usage("the period ends before it begins; --from comes before --to".into()).into());
    }
    Ok((from, to))
}
