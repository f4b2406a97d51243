//! Makes the documents that are sent: each snapshot is encoded once for all who want all of it, and what is being sent
//! may take so much memory and no more.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::StatusCode;
use nettop_history::Reader;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::params::Wanted;
use crate::{
    Usage,
    cli::{DropsFormat, SocketsArgs},
    history::{self, args::HistoryArgs},
    identity::escape::escape,
    kernel::listing::Walks,
    report::{Filter, Snapshot, drops_document, select},
    sockets,
};

/// Answers that are made at once; others wait for their turn.
const AT_ONCE: usize = 2;
const KIB: usize = 1024;

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
pub(super) struct Latest {
    /// Counts the intervals.
    pub(super) number: u64,
    pub(super) at: Instant,
    pub(super) snapshot: Arc<Snapshot>,
    whole: OnceCell<Bytes>,
}

impl Latest {
    pub(super) fn new(number: u64, snapshot: Arc<Snapshot>) -> Self {
        Self { number, at: Instant::now(), snapshot, whole: OnceCell::new() }
    }
}

/// Makes answers.
#[derive(Debug)]
pub(super) struct Kitchen {
    turns: Arc<Semaphore>,
    /// KiB that answers may still take.
    room: Arc<Semaphore>,
    room_kib: usize,
    time: Duration,
}

impl Kitchen {
    pub(super) fn new(room_kib: usize, time: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), room: Arc::new(Semaphore::new(room_kib)), room_kib, time }
    }

    /// A snapshot in one line, or the part of it that is wanted.
    pub(super) async fn snapshot(&self, latest: &Arc<Latest>, wanted: Option<Arc<Wanted>>) -> Result<Bytes, Refused> {
        if let Some(wanted) = wanted {
            let snapshot = Arc::clone(&latest.snapshot);
            return self.make(move || Ok(serde_json::to_vec(&select(&snapshot, &wanted.filter))?)).await;
        }
        let whole = latest.whole.get_or_try_init(|| {
            let snapshot = Arc::clone(&latest.snapshot);
            // Waits for nobody's question: many want it.
            self.run(None, move || Ok(serde_json::to_vec(&*snapshot)?))
        });
        whole.await.cloned()
    }

    pub(super) async fn drops(&self, latest: &Arc<Latest>, wanted: Wanted) -> Result<Bytes, Refused> {
        let snapshot = Arc::clone(&latest.snapshot);
        self.make(move || {
            let Wanted { filter, all_drops } = wanted;
            // Its rows are not shown.
            let nobody = Snapshot { rows: Vec::new(), ..select(&snapshot, &Filter { ..filter }) };
            drops_document(&nobody, DropsFormat::Ndjson, all_drops)
        })
        .await
    }

    pub(super) async fn sockets(&self, walks: &Arc<Walks>, args: SocketsArgs) -> Result<Bytes, Refused> {
        let walks = Arc::clone(walks);
        self.make(move || Ok(serde_json::to_vec(&sockets::now(&args, &walks)?)?)).await
    }

    pub(super) async fn history(&self, file: &Path, args: HistoryArgs) -> Result<Bytes, Refused> {
        let (file, time) = (file.to_owned(), self.time);
        self.make(move || {
            let deadline = Instant::now() + time;
            let mut reader = Reader::open(&file)?;
            reader.answer_before(deadline)?;
            let answer = history::answer(&args, &reader);
            if answer.is_err() && Instant::now() >= deadline {
                anyhow::bail!(TooLong);
            }
            Ok(serde_json::to_vec(&answer?)?)
        })
        .await
    }

    /// Does blocking work when it is its turn.
    async fn make(&self, work: impl FnOnce() -> anyhow::Result<Vec<u8>> + Send + 'static) -> Result<Bytes, Refused> {
        let turn = timeout(self.time, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refused::busy("others ask too much; try again later")) };
        self.run(Some(turn), work).await
    }

    /// Whoever waits may go away: the turn is over only when the work is.
    async fn run(
        &self,
        turn: Option<OwnedSemaphorePermit>,
        work: impl FnOnce() -> anyhow::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes, Refused> {
        let work = spawn_blocking(move || {
            let made = work();
            drop(turn);
            made
        });
        // SQLite notices its own deadline a little later than it is.
        let Ok(done) = timeout(self.time + Duration::from_secs(1), work).await else { return Err(too_long()) };
        let made = done.map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made"))?;
        match made {
            Ok(mut bytes) => {
                if !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                self.admit(bytes)
            }
            Err(error) if error.is::<TooLong>() => Err(too_long()),
            Err(error) => Err(Refused::failed(&error)),
        }
    }

    /// Counts what is sent until it is, however many read it.
    fn admit(&self, bytes: Vec<u8>) -> Result<Bytes, Refused> {
        let kib = bytes.len().div_ceil(KIB);
        let permits = u32::try_from(kib).ok().and_then(|kib| Arc::clone(&self.room).try_acquire_many_owned(kib).ok());
        let Some(permit) = permits else {
            return Err(Refused::busy(format!(
                "the answer has {} MiB, and all that are sent at a time may have {}; select less, or try again later",
                kib.div_ceil(KIB),
                self.room_kib / KIB
            )));
        };
        Ok(Bytes::from_owner(Held { bytes, _room: permit }))
    }
}

/// Bytes that are sent, and the room they take.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The deadline of a question has passed.
#[derive(Debug, thiserror::Error)]
#[error("the answer takes too long")]
struct TooLong;

fn too_long() -> Refused {
    Refused::busy("the answer takes too long; ask for a shorter period, or select less")
}
