//! Makes the documents that are sent: each snapshot is encoded once for all who want all of it, and what is being sent
//! takes bounded memory.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::StatusCode;
use nettop_history::Reader;
use nettop_kernel::socket_iterators::SocketIterators;
use nettop_model::{
    By, DropsDocument, Filter, Known, Resources, ResourcesReport, Snapshot, Sort, group, select, selected_resources,
    snapshot::RowReport,
};
use serde::Serialize;
use tokio::{
    sync::{AcquireError, OnceCell, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::draft::{self, Draft, KIB};
use crate::{
    error::Usage,
    measure::sockets::{self, list::TooLong},
    query::{history::HistoryQuery, sockets::SocketsQuery},
    record::answer::answer,
    sys::escape::escape,
};

/// Answers that are made at once; others wait for their turn.
pub(super) const MAX_ANSWERS_AT_ONCE: usize = 2;
/// Sockets and further holders of one in an answer; each takes 2 KiB while it is made.
const MAX_SOCKETS: usize = 65_536;
/// Rows of an answer from the history.
const MAX_HISTORY_ROWS: usize = 10_000;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// One line.
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    fn failed(error: &anyhow::Error) -> Self {
        let status = if error.is::<Usage>() { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self::new(status, escape(format!("{error:#}").as_bytes()))
    }
}

/// The last snapshot, and what was made of it.
#[derive(Debug)]
pub struct Latest {
    /// Of the interval, so that a stream notices what it missed.
    pub(super) number: u64,
    pub(super) at: Instant,
    /// Without arguments of processes, and without what they use.
    pub(super) snapshot: Arc<Snapshot>,
    /// Those, for who asks for them: they may hold secrets.
    arguments: HashMap<Process, Arc<[String]>>,
    /// What processes use, for who asks: it is about as large as all else.
    resources: Option<ResourcesReport>,
    used: HashMap<Process, Arc<Resources>>,
    /// What followers know from the one before.
    known: Known,
    whole: OnceCell<Bytes>,
    changes: OnceCell<Bytes>,
}

/// Pid, start time and uid: after an exec as another user a process has other arguments.
type Process = (u32, Option<u64>, Option<u32>);

const fn process(row: &RowReport) -> Process {
    (row.pid, row.start_time_ns, row.uid)
}

/// What is asked for of snapshots.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) filter: Filter,
    pub(super) by: By,
    /// Whether rows have the arguments of their processes.
    pub(super) with_arguments: bool,
    /// Whether it has what processes use.
    pub(super) with_resources: bool,
}

/// How much of a snapshot is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// Without what the one before had and what has not changed.
    Changes,
}

impl Latest {
    /// The first, or the one that comes after `before`.
    pub fn new(before: Option<&Self>, mut snapshot: Snapshot) -> Self {
        let rows = snapshot.rows.iter_mut();
        let arguments = rows.filter_map(|row| Some((process(row), row.process.arguments.take()?))).collect();
        let rows = snapshot.rows.iter_mut();
        let used = rows.filter_map(|row| Some((process(row), row.resources.take()?))).collect();
        let resources = snapshot.resources.take();
        Self {
            number: before.map_or(1, |before| before.number + 1),
            at: Instant::now(),
            snapshot: Arc::new(snapshot),
            arguments,
            resources,
            used,
            known: before.map_or_else(Known::default, |before| Known::after(&before.snapshot)),
            whole: OnceCell::new(),
            changes: OnceCell::new(),
        }
    }
}

/// The user who asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// Its own, for all its connections.
    pub(super) turns: Arc<Semaphore>,
}

/// Makes answers.
#[derive(Debug)]
pub(super) struct AnswerWorker {
    turns: Arc<Semaphore>,
    /// KiB that answers may still take.
    room: Arc<Semaphore>,
    room_kib: usize,
    time: Duration,
}

impl AnswerWorker {
    pub(super) fn new(room_kib: usize, time: Duration) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_ANSWERS_AT_ONCE)),
            room: Arc::new(Semaphore::new(room_kib)),
            room_kib,
            time,
        }
    }

    /// A snapshot in one line, or the part of it that is wanted.
    pub(super) async fn snapshot(
        &self,
        asker: &Asker,
        latest: &Arc<Latest>,
        part: Option<Arc<Part>>,
        extent: Extent,
    ) -> Result<Bytes, Refused> {
        let from = Arc::clone(latest);
        if let Some(part) = part {
            let work = move |draft: &mut Draft, _| {
                let mut selected = select(&from.snapshot, &part.filter);
                for row in selected.rows.iter_mut().filter(|_| part.with_arguments) {
                    row.process.arguments = from.arguments.get(&process(row)).cloned();
                }
                if part.with_resources {
                    for row in &mut selected.rows {
                        row.resources = from.used.get(&process(row)).cloned();
                    }
                    let resources = from.resources.as_ref();
                    selected.resources = resources.map(|resources| selected_resources(resources, &part.filter));
                }
                group(&mut selected, part.by, Sort::Packets);
                match extent {
                    Extent::Whole => encode(draft, &selected),
                    Extent::Changes => encode(draft, &from.known.changes(selected)),
                }
            };
            return self.make(asker, work).await;
        }
        // These wait for no user's turn: many want them.
        let made = match extent {
            Extent::Whole => {
                let make = move |draft: &mut Draft, _| encode(draft, &*from.snapshot);
                latest.whole.get_or_try_init(|| self.run(None, make)).await
            }
            Extent::Changes => {
                let make = move |draft: &mut Draft, _| encode(draft, &from.known.changes((*from.snapshot).clone()));
                latest.changes.get_or_try_init(|| self.run(None, make)).await
            }
        };
        made.cloned()
    }

    pub(super) async fn drops(
        &self,
        asker: &Asker,
        latest: &Arc<Latest>,
        filter: Filter,
        all: bool,
    ) -> Result<Bytes, Refused> {
        let snapshot = Arc::clone(&latest.snapshot);
        self.make(asker, move |draft, _| encode(draft, &DropsDocument::from_snapshot(&snapshot, &filter, all))).await
    }

    pub(super) async fn sockets(
        &self,
        asker: &Asker,
        iterators: &Arc<SocketIterators>,
        query: SocketsQuery,
        uids: Vec<u32>,
    ) -> Result<Bytes, Refused> {
        let iterators = Arc::clone(iterators);
        self.make(asker, move |draft, deadline| {
            encode(draft, &sockets::now(&query, &uids, &iterators, MAX_SOCKETS, deadline)?)
        })
        .await
    }

    pub(super) async fn history(&self, asker: &Asker, file: &Path, query: HistoryQuery) -> Result<Bytes, Refused> {
        if query.top > MAX_HISTORY_ROWS {
            return Err(Refused::bad(format!("top is {MAX_HISTORY_ROWS} at most")));
        }
        let file = file.to_owned();
        self.make(asker, move |draft, deadline| {
            let mut reader = Reader::open(&file)?;
            reader.answer_before(deadline)?;
            let answer = answer(&query, &reader);
            if answer.is_err() && Instant::now() >= deadline {
                anyhow::bail!(TooLong);
            }
            encode(draft, &answer?)
        })
        .await
    }

    /// Does blocking work when it is its turn. A user's further questions wait without one, which leaves it to others.
    async fn make(&self, asker: &Asker, work: impl Work) -> Result<Bytes, Refused> {
        let turn = async {
            let own = Arc::clone(&asker.turns).acquire_owned().await?;
            Ok::<_, AcquireError>([own, Arc::clone(&self.turns).acquire_owned().await?])
        };
        let Ok(Ok(turn)) = timeout(self.time, turn).await else {
            return Err(Refused::busy("you or others ask too much at once; try again later"));
        };
        self.run(Some(turn), work).await
    }

    /// The client may go away: the turn is over only when the work is.
    async fn run(&self, turn: Option<[OwnedSemaphorePermit; 2]>, work: impl Work) -> Result<Bytes, Refused> {
        let (mut draft, deadline) = (Draft::new(&self.room), Instant::now() + self.time);
        let work = spawn_blocking(move || {
            let made = work(&mut draft, deadline).and_then(|()| draft.finish());
            drop(turn);
            made
        });
        // SQLite notices its own deadline a little late.
        let Ok(done) = timeout(self.time + Duration::from_secs(1), work).await else { return Err(too_long()) };
        let made = done.map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made"))?;
        made.map_err(|error| {
            if error.is::<TooLong>() {
                too_long()
            } else if error.is::<draft::Full>() {
                Refused::busy(format!(
                    "there is no room for the answer: all that are sent at a time may have {} MiB; select less, or try again later",
                    self.room_kib / KIB
                ))
            } else {
                Refused::failed(&error)
            }
        })
    }
}

/// Makes an answer, until a deadline.
trait Work: FnOnce(&mut Draft, Instant) -> anyhow::Result<()> + Send + 'static {}

impl<T: FnOnce(&mut Draft, Instant) -> anyhow::Result<()> + Send + 'static> Work for T {}

fn encode(draft: &mut Draft, document: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *draft, document).map_err(|error| draft.why(error))
}

fn too_long() -> Refused {
    Refused::busy("the answer takes too long; ask for a shorter period, or select less")
}
