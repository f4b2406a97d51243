//! What a history answers to a question.

use std::fs;

use anyhow::Context as _;
use nettop_history::{Boot, HOUR_S, MINUTE_S, Question, Reader, SLOT_S, moment, unix_now_s};
use nettop_model::{By, Names, history::Document};

pub use super::document::utc;
use super::{document::document, hogs::hogs};
use crate::{error::Usage, query::history::HistoryQuery};

/// What `--last-boot` shows.
const LAST_BOOT_PERIOD_S: i64 = 600;
/// Parts of a row's sparkline.
const SPARKLINE_COLUMNS: usize = 24;

/// What a file answers.
///
/// # Errors
///
/// [`Usage`] for an invalid or future time, else if the file cannot be read.
pub fn answer(query: &HistoryQuery, reader: &Reader) -> anyhow::Result<Document> {
    let boot = if query.last_boot { Some(last_boot(reader)?) } else { None };
    let (from, to) = match &boot {
        Some(boot) => (boot.last - LAST_BOOT_PERIOD_S, boot.last),
        None => period(query, unix_now_s())?,
    };
    let question = Question {
        boot: boot.as_ref().map(|boot| boot.id),
        from,
        to,
        by: query.by,
        order: query.sort.order(),
        top: query.top,
        when: query.when.clone(),
        names: names(query)?,
        columns: SPARKLINE_COLUMNS,
    };
    let answer = reader.answer(&question)?;
    let mut document = document(query, &answer, boot.as_ref());
    if query.hogs {
        document.hogs = Some(hogs(query, reader, &question)?);
    }
    Ok(document)
}

/// # Errors
///
/// [`Usage`] if they are to be selected of devices, which count for all processes.
fn names(query: &HistoryQuery) -> anyhow::Result<Names> {
    let names = query.names.with(&query.command);
    if query.by == By::Device && !names.is_empty() {
        return Err(Usage::new("devices count for all processes: leave out -c, --unit, --container and --pod").into());
    }
    Ok(names)
}

fn last_boot(reader: &Reader) -> anyhow::Result<Boot> {
    let current =
        fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot find out which boot this is")?;
    reader.last_boot(current.trim())?.context("no boot before this one was recorded")
}

/// From and to, in whole slots.
///
/// # Errors
///
/// [`Usage`] for an invalid or future time.
pub fn period(query: &HistoryQuery, now: i64) -> anyhow::Result<(i64, i64)> {
    let time = |text: &str| moment(text, now).map_err(Usage::new);
    let past = |text: &str| match time(text)? {
        ts if ts > now => Err(Usage::new(format!("'{text}' is in the future"))),
        ts => Ok(ts),
    };
    let floor = |ts: i64| ts - ts.rem_euclid(SLOT_S);
    let ceil = |ts: i64| floor(ts + SLOT_S - 1);
    // The end of this slot, though it may have begun in this second.
    let end = floor(now) + SLOT_S;
    let (from, to) = if let Some(at) = &query.at {
        // The last minute, if the one from then on is not over.
        let from = floor(past(at)?).min(end - MINUTE_S);
        (from, from + MINUTE_S)
    } else {
        let to = query.to.as_deref().map_or(Ok(now), time)?;
        let from = query.from.as_deref().map_or(Ok(to - HOUR_S), past)?;
        (floor(from), if to < now { ceil(to) } else { ceil(to).max(end) })
    };
    if from >= to {
        return Err(Usage::new("the period ends before it begins; --from comes before --to").into());
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Asked {
        #[command(flatten)]
        query: HistoryQuery,
    }

    fn asked(args: &[&str]) -> Result<(i64, i64), String> {
        asked_at(NOW, args)
    }

    fn asked_at(now: i64, args: &[&str]) -> Result<(i64, i64), String> {
        let asked = Asked::try_parse_from([&["history"], args].concat()).unwrap();
        period(&asked.query, now).map_err(|error| error.downcast::<Usage>().unwrap().to_string())
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
    fn a_slot_that_begins_in_this_second_is_in_the_period() {
        let now = NOW - 5;
        assert_eq!(asked_at(now, &[]), Ok((now - 3600, now + 10)));
        assert_eq!(asked_at(now, &["--to", "now"]), Ok((now - 3600, now + 10)));
        assert_eq!(asked_at(now, &["--at", "now"]), Ok((now - 50, now + 10)));
        assert_eq!(asked_at(now, &["--to", "-10s"]), Ok((now - 3610, now - 10)));
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
