//! Lets clients in, as many as there is room for, and sees them off when they are slow.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use hyper::{StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Gid;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot, watch},
    time::{Instant, sleep},
};

use super::{
    Socket,
    answers::{Kitchen, Latest, Refused},
    pace::Paced,
    peer, routes,
    seats::{Seat, Seats},
};
use crate::{clock::now, kernel::listing::Walks, report::Snapshot};

/// What the API tells of.
#[derive(Debug)]
pub struct Sources {
    /// The last interval's, once there is one.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Loaded while that was permitted.
    pub walks: Option<Arc<Walks>>,
    /// The file that is recorded.
    pub history: Option<PathBuf>,
}

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub clients: usize,
    pub clients_of_user: usize,
    /// Beyond those, they are told so; and beyond these, nothing.
    pub turned_away: usize,
    /// For the request's head.
    pub asking: Duration,
    /// For each 64 KiB of an answer.
    pub reading: Duration,
    /// For all of it, where it is no stream.
    pub staying: Duration,
    /// For making it.
    pub answering: Duration,
    pub head_bytes: usize,
    /// All answers that are being sent.
    pub room_kib: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 32,
            clients_of_user: 16,
            turned_away: 64,
            asking: Duration::from_secs(5),
            reading: Duration::from_secs(5),
            staying: Duration::from_secs(60),
            answering: Duration::from_secs(5),
            head_bytes: 16 << 10,
            room_kib: 128 << 10,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sources: Sources,
    pub(super) latest: watch::Receiver<Option<Arc<Latest>>>,
    pub(super) kitchen: Kitchen,
    pub(super) seats: Arc<Seats>,
    pub(super) started: String,
    pub(super) start: Instant,
    limits: Limits,
}

/// The running API; dropping it ends it, and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on a thread of its own, which has the capabilities that the caller has now.
    ///
    /// # Errors
    ///
    /// If the thread or its runtime cannot be started.
    pub fn start(socket: Socket, sources: Sources) -> anyhow::Result<Self> {
        Self::with_limits(socket, sources, Limits::default())
    }

    pub fn with_limits(socket: Socket, sources: Sources, limits: Limits) -> anyhow::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // Questions, encodings, and look-ups of users.
        let runtime = runtime.enable_all().max_blocking_threads(8).thread_name("nettopd-ask");
        let runtime = runtime.build().context("cannot start the runtime of the API")?;
        let (stop, stopped) = oneshot::channel();
        let serving = move || {
            runtime.block_on(serve(socket, sources, limits, stopped));
            // Nobody waits for an answer that nobody will read.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("nettopd-api".into()).spawn(serving);
        let thread = thread.context("cannot start the thread of the API")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the API's thread panicked");
        }
    }
}

async fn serve(socket: Socket, sources: Sources, limits: Limits, mut stopped: oneshot::Receiver<()>) {
    let listener = match socket.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("nobody can ask this daemon: {error}");
            return;
        }
    };
    let (sender, latest) = watch::channel(None);
    tokio::spawn(number(sources.snapshots.clone(), sender));
    let shared = Arc::new(Shared {
        sources,
        latest,
        kitchen: Kitchen::new(limits.room_kib, limits.answering),
        seats: Seats::new(limits.clients, limits.clients_of_user),
        started: now(),
        start: Instant::now(),
        limits,
    });
    let door = Arc::new(Semaphore::new(limits.turned_away));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(&shared, socket.group, &door, stream),
            Err(error) => {
                // Out of descriptors, most likely: those who are in will leave.
                tracing::debug!("cannot accept a client: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Numbers the snapshots, so that a stream notices what it missed.
async fn number(mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>, sender: watch::Sender<Option<Arc<Latest>>>) {
    let mut number = 0;
    snapshots.mark_changed();
    while snapshots.changed().await.is_ok() {
        if let Some(snapshot) = snapshots.borrow_and_update().clone() {
            number += 1;
            sender.send_replace(Some(Arc::new(Latest::new(number, snapshot))));
        }
    }
}

fn admit(shared: &Arc<Shared>, group: Option<Gid>, door: &Arc<Semaphore>, stream: UnixStream) {
    let seat = match peer::permitted(&stream, group) {
        Ok(Some(user)) => shared.seats.take(user).ok_or_else(|| Refused::busy("too many clients; try again later")),
        Ok(None) => Err(Refused::new(StatusCode::FORBIDDEN, "only root and members of the group nettopd may ask")),
        Err(error) => Err(Refused::new(StatusCode::FORBIDDEN, format!("the kernel does not tell who asks: {error}"))),
    };
    let refused = match seat {
        Ok(seat) => {
            tokio::spawn(attend(Arc::clone(shared), stream, seat));
            return;
        }
        Err(refused) => refused,
    };
    shared.seats.count(|clients| clients.refused += 1);
    // To be told so it needs a place as well, if a smaller one.
    if let Ok(place) = Arc::clone(door).try_acquire_owned() {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|_| async { Ok::<_, hyper::Error>(routes::refuse(&refused)) });
            let connection =
                http(&shared.limits).serve_connection(TokioIo::new(Paced::new(stream, shared.limits.reading)), service);
            let _ = tokio::time::timeout(shared.limits.asking, connection).await;
            drop(place);
        });
    }
}

/// One request, one answer.
async fn attend(shared: Arc<Shared>, stream: UnixStream, seat: Seat) {
    let streams = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (shared, streams) = (&shared, &streams);
        async move {
            let (response, goes_on) = routes::answer(shared, &request).await;
            streams.store(goes_on, Ordering::Relaxed);
            Ok::<_, hyper::Error>(response)
        }
    });
    let io = TokioIo::new(Paced::new(stream, shared.limits.reading));
    let mut connection = std::pin::pin!(http(&shared.limits).serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(shared.limits.staying) => None,
    };
    let is_slow = match ended {
        None if streams.load(Ordering::Relaxed) => connection.await.is_err_and(|error| is_slow(&error)),
        None => true,
        Some(ended) => ended.is_err_and(|error| is_slow(&error)),
    };
    if is_slow {
        shared.seats.count(|clients| clients.dropped += 1);
    }
    drop(seat);
}

/// Whether a connection was cut off for its time, and not for what it said or since it went away.
fn is_slow(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_timeout() || source.is_some_and(|source| source.kind() == std::io::ErrorKind::TimedOut)
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Who has its answer makes room for others. Who has said everything may shut its end, as `nc -N` does.
    http.keep_alive(false).half_close(true);
    http.timer(TokioTimer::new()).header_read_timeout(limits.asking);
    // A large answer is not copied.
    http.max_buf_size(limits.head_bytes).max_headers(64).writev(true);
    http
}
