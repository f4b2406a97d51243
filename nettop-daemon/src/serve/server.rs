//! Admits as many clients as there is room for, and cuts off the slow ones.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use hyper::{StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Gid;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot},
    time::{Instant, sleep},
};

use super::shared::{Limits, Shared, Sources};
use crate::{
    serve::{
        Socket,
        answers::{AnswerWorker, Asker, Refused},
        clients::{ClientLimit, ClientPermit},
        follow::Follower,
        peer, routes,
        slow_reader::WriteDeadline,
    },
    sys::{clock::now, runtime},
};

impl Limits {
    /// The defaults. Tests of large answers give a slow machine more time for them, in seconds.
    fn of_environment() -> Self {
        let usual = Self::default();
        let answering = std::env::var("NETTOPD_API_ANSWER_S").ok().and_then(|text| text.parse().ok());
        let answering = answering.map_or(usual.answering, Duration::from_secs);
        Self { answering, staying: usual.staying.max(answering * 2), ..usual }
    }
}

/// The running API; dropping it ends it, and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    #[cfg(test)]
    pub(super) clients: Arc<ClientLimit>,
}

impl Server {
    /// Serves on a thread of its own, which has the capabilities that the caller has now.
    ///
    /// # Errors
    ///
    /// If the thread or its runtime cannot be started.
    pub fn start(socket: Socket, sources: Sources) -> anyhow::Result<Self> {
        Self::with_limits(socket, sources, Limits::of_environment())
    }

    /// As [`Self::start`], with limits that the caller chooses.
    ///
    /// # Errors
    ///
    /// If the thread or its runtime cannot be started.
    pub fn with_limits(socket: Socket, sources: Sources, limits: Limits) -> anyhow::Result<Self> {
        // Threads for questions and encodings.
        let runtime = runtime::start_with_threads(8, "nettopd-ask")?;
        let (stop, stopped) = oneshot::channel();
        let clients = ClientLimit::new(limits.clients, limits.clients_of_user);
        #[cfg(test)]
        let clients_of_test = Arc::clone(&clients);
        let serving = move || {
            runtime.block_on(serve(socket, sources, clients, limits, stopped));
            // Nobody waits for an answer that nobody will read.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("nettopd-api".into()).spawn(serving);
        let thread = thread.context("cannot start the thread of the API")?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            #[cfg(test)]
            clients: clients_of_test,
        })
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

async fn serve(
    socket: Socket,
    sources: Sources,
    clients: Arc<ClientLimit>,
    limits: Limits,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = match socket.listener.try_clone().and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("nobody can ask this daemon: {error}");
            return;
        }
    };
    let shared = Arc::new(Shared {
        sources,
        answers: AnswerWorker::new(limits.room_kib, limits.answering),
        clients,
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
                // Most likely out of descriptors: clients will leave.
                tracing::debug!("cannot accept a client: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, group: Option<Gid>, door: &Arc<Semaphore>, stream: UnixStream) {
    let permit = match peer::permitted(&stream, group) {
        Ok(Some(user)) => shared.clients.take(user).ok_or_else(|| Refused::busy("too many clients; try again later")),
        Ok(None) => Err(Refused::new(StatusCode::FORBIDDEN, "only root and members of the group nettopd may ask")),
        Err(error) => Err(Refused::new(StatusCode::FORBIDDEN, format!("the kernel does not report who asks: {error}"))),
    };
    let refused = match permit {
        Ok(permit) => {
            tokio::spawn(serve_client(Arc::clone(shared), stream, permit));
            return;
        }
        Err(refused) => refused,
    };
    shared.clients.count(|clients| clients.refused += 1);
    // The refusal needs a place as well, if a smaller one.
    if let Ok(place) = Arc::clone(door).try_acquire_owned() {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|_| async { Ok::<_, hyper::Error>(routes::refuse(&refused)) });
            let connection = http(&shared.limits)
                .serve_connection(TokioIo::new(WriteDeadline::new(stream, shared.limits.reading)), service);
            let _ = tokio::time::timeout(shared.limits.asking, connection).await;
            drop(place);
        });
    }
}

/// One request, one answer.
async fn serve_client(shared: Arc<Shared>, stream: UnixStream, permit: ClientPermit) {
    let follower = Arc::new(Follower::default());
    let asker = Asker { turns: Arc::clone(&permit.turns) };
    let service = service_fn(|request| {
        let (shared, asker, follower) = (&shared, &asker, &follower);
        async move { Ok::<_, hyper::Error>(routes::answer(shared, &request, asker, follower).await) }
    });
    let io = TokioIo::new(WriteDeadline::new(stream, shared.limits.reading));
    let connection = http(&shared.limits).serve_connection(io, service);
    let stayed_too_long = async {
        sleep(shared.limits.staying).await;
        if follower.follows() {
            std::future::pending::<()>().await;
        }
    };
    let is_slow = tokio::select! {
        biased;
        // hyper does not look at the stream again before the peer has read what was sent.
        () = follower.missed_one() => true,
        ended = connection => ended.is_err_and(|error| is_slow(&error)),
        () = stayed_too_long => true,
    };
    if is_slow {
        shared.clients.count(|clients| clients.dropped += 1);
    }
    drop(permit);
}

/// Whether a connection was cut off for its time, and not for its request or since it went away.
fn is_slow(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    error.is_timeout() || source.is_some_and(|source| source.kind() == std::io::ErrorKind::TimedOut)
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Who has its answer makes room for others. Who has sent everything may shut its end, as `nc -N` does.
    http.keep_alive(false).half_close(true);
    http.timer(TokioTimer::new()).header_read_timeout(limits.asking);
    // A large answer is not copied.
    http.max_buf_size(limits.head_bytes).max_headers(64).writev(true);
    http
}
