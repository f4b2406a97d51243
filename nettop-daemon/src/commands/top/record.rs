//! The record, step by step: a thread of its own reads the file.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use anyhow::Context as _;
use nettop_history::{Bucket, Reader, local_time, moment, unix_now_s};
use nettop_model::snapshot::RowReport;
use nettop_top::{Event, Measured, Move};
use tokio::sync::mpsc::Sender;

use super::source::measured;
use crate::{
    commands::history::check_readable,
    defaults,
    identity::users::{self, Users},
    query::top::TopArgs,
    record::replay::snapshot,
};

/// Slots that are read for trends, with the shown one; fewer where they are large.
const WINDOW: usize = 32;
const MAX_WINDOW_BYTES: usize = 16 << 20;
/// About what the texts of a row take.
const TEXT_BYTES: usize = 256;
/// Questions that wait; more are not taken.
const MAX_WAITING: usize = 4;

/// The file, opened.
pub struct Record(SyncSender<(u64, Move)>);

impl Record {
    /// The file that was named, or the one of this machine, if there is one and this user may read it.
    ///
    /// # Errors
    ///
    /// If a file or a time was named and the file cannot be read, or is no history: as `nettopd history`.
    pub fn open(args: &TopArgs, events: Sender<Event>) -> anyhow::Result<Option<Self>> {
        let is_needed = args.file.is_some() || args.at.is_some();
        let path = args.file.clone().unwrap_or_else(|| PathBuf::from(defaults::HISTORY_FILE));
        if is_needed {
            check_readable(&path)?;
        }
        let reader = match Reader::open(&path) {
            Ok(reader) => reader,
            Err(error) if is_needed => return Err(error),
            Err(_) => return Ok(None),
        };
        if args.file.is_some() {
            let last = reader.buckets_until(i64::MAX, 1)?;
            last.first().with_context(|| format!("nothing is recorded in {}", shown(&path)))?;
        }
        let (sender, moves) = sync_channel(MAX_WAITING);
        // Numbers of users are another machine's.
        let users = args.file.is_none().then(|| Users::with_timeout(users::DOCUMENT_TIMEOUT));
        std::thread::spawn(move || answer(&reader, &moves, &events, users));
        Ok(Some(Self(sender)))
    }

    /// Asks for a part of it, by a number that the answer has; or does not, while too many questions wait.
    pub fn ask(&self, number: u64, to: Move) -> bool {
        self.0.try_send((number, to)).is_ok()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Milliseconds since 1970 of a time as people type it.
///
/// # Errors
///
/// If it is none, or is in the future. The message has the forms.
pub fn time(text: &str) -> Result<i64, String> {
    let now = unix_now_s();
    match moment(text, now)? {
        at if at > now => Err(format!("'{text}' is in the future")),
        at => Ok(at * 1000),
    }
}

fn answer(reader: &Reader, moves: &Receiver<(u64, Move)>, events: &Sender<Event>, mut users: Option<Users>) {
    while let Ok(first) = moves.recv() {
        // Only the last answer is shown.
        let (number, to) = moves.try_iter().last().unwrap_or(first);
        if let Some(users) = &mut users {
            users.renew();
        }
        let (frames, said) = go(reader, to, MAX_WINDOW_BYTES, users.as_mut())
            .unwrap_or_else(|error| (Vec::new(), Some(format!("cannot read the record: {error:#}"))));
        let sent = events.blocking_send(Event::Recorded(number, frames, said));
        if sent.is_err() {
            return;
        }
    }
}

/// The slots up to where it goes, and what is to be said of it.
pub(super) fn go(
    reader: &Reader,
    to: Move,
    max_bytes: usize,
    mut users: Option<&mut Users>,
) -> anyhow::Result<(Vec<Measured>, Option<String>)> {
    let (bucket, said) = match to {
        Move::To(at_ms) => to_time(reader, at_ms.div_euclid(1000))?,
        Move::Minutes(end_ms, minutes) => {
            let end = end_ms.div_euclid(1000);
            let (bucket, said) = to_time(reader, end.saturating_sub(1).saturating_add(minutes.saturating_mul(60)))?;
            match bucket {
                // What is shown is longer than a minute, or nothing is recorded beside it.
                Some(bucket) if bucket.end() == end => step(reader, end, minutes.signum())?,
                _ => (bucket, said),
            }
        }
        Move::From(end_ms, steps) => step(reader, end_ms.div_euclid(1000), steps)?,
    };
    let Some(bucket) = bucket else { return Ok((Vec::new(), said)) };
    let mut frames = Vec::new();
    let mut bytes = 0_usize;
    for before in reader.buckets_until(bucket.ts, WINDOW)?.into_iter().rev() {
        let recorded = reader.recorded(before, before == bucket)?;
        let items = recorded.rows.len() + recorded.devices.len() + recorded.drops.len() + recorded.usage.len();
        bytes = bytes.saturating_add(items * (size_of::<RowReport>() + TEXT_BYTES));
        if bytes > max_bytes && !frames.is_empty() {
            break;
        }
        frames.push(measured(snapshot(recorded, users.as_deref_mut())));
    }
    frames.reverse();
    Ok((frames, said))
}

/// The bucket with this time, else the last before it, else the first.
fn to_time(reader: &Reader, at: i64) -> anyhow::Result<(Option<Bucket>, Option<String>)> {
    Ok(match reader.buckets_until(at, 1)?.first().copied() {
        Some(bucket) if bucket.end() <= at => {
            let time = local_time(at).unwrap_or_default();
            (Some(bucket), Some(format!("nothing is recorded at {time}; this is the last before it")))
        }
        Some(bucket) => (Some(bucket), None),
        None => match reader.buckets_from(at, 1)?.first().copied() {
            Some(bucket) => (Some(bucket), Some("this is where the record begins".into())),
            None => (None, Some("nothing is recorded".into())),
        },
    })
}

/// The bucket so many from the one that ends then.
fn step(reader: &Reader, end: i64, steps: i64) -> anyhow::Result<(Option<Bucket>, Option<String>)> {
    let most = usize::try_from(steps.unsigned_abs()).unwrap_or(usize::MAX);
    if steps > 0 {
        let found = reader.buckets_from(end, most)?;
        return Ok((found.last().copied(), found.is_empty().then(|| "the record ends here".into())));
    }
    // The first of these is the shown one.
    let found = reader.buckets_until(end - 1, most + 1)?;
    let before = found.first().copied().filter(|_| found.len() > 1);
    Ok((before, before.is_none().then(|| "the record begins here".into())))
}
