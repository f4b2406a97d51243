//! Which path has which document.

use std::{convert::Infallible, fs, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};

use super::{
    answers::{Latest, Refused},
    params::{self, Takes, Wanted},
    server::Shared,
    status::{HistoryStatus, LastInterval, Status},
};
use crate::cli::Command;

/// What ends a stream before its time.
type Broken = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Answers a request, whatever it is. Also says whether the answer goes on.
pub(super) async fn answer<B>(shared: &Arc<Shared>, request: &Request<B>) -> (Response<Body>, bool) {
    let uri = request.uri();
    let path = uri.path();
    let made = match path {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here: GET and HEAD only"))
        }
        "/v1/stream" => return stream(shared, request).await,
        "/v1/status" => params::NOTHING.parse(uri).and_then(|_| status(shared)),
        "/v1/snapshot" => snapshot(shared, request).await,
        "/v1/drops" => drops(shared, request).await,
        "/v1/sockets" => sockets(shared, request).await,
        "/v1/history" => history(shared, request).await,
        _ => Err(Refused::new(
            StatusCode::NOT_FOUND,
            "there is /v1/status, /v1/snapshot, /v1/stream, /v1/drops, /v1/sockets and /v1/history",
        )),
    };
    (made.map_or_else(|refused| refuse(&refused), |bytes| respond(StatusCode::OK, whole(bytes))), false)
}

/// One line of JSON that tells why.
pub(super) fn refuse(refused: &Refused) -> Response<Body> {
    let mut text = serde_json::json!({ "error": refused.message }).to_string();
    text.push('\n');
    let mut response = respond(refused.status, whole(text.into()));
    if refused.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is selected, if anything is.
async fn wanted<B>(takes: &Takes, request: &Request<B>) -> Result<Option<Wanted>, Refused> {
    let command = takes.parse(request.uri())?;
    if request.uri().query().unwrap_or_default().is_empty() {
        return Ok(None);
    }
    // A name service may take its time.
    let wanted = tokio::task::spawn_blocking(move || Wanted::of(&command)).await;
    wanted.map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the user could not be looked up"))?.map(Some)
}

fn latest(shared: &Shared) -> Result<Arc<Latest>, Refused> {
    shared.latest.borrow().clone().ok_or_else(|| Refused::busy("the first interval is not over; try again"))
}

async fn snapshot<B>(shared: &Shared, request: &Request<B>) -> Result<Bytes, Refused> {
    let wanted = wanted(&params::SNAPSHOT, request).await?;
    shared.kitchen.snapshot(&latest(shared)?, wanted.map(Arc::new)).await
}

async fn drops<B>(shared: &Shared, request: &Request<B>) -> Result<Bytes, Refused> {
    let wanted = wanted(&params::DROPS, request).await?;
    shared.kitchen.drops(&latest(shared)?, wanted.unwrap_or_default()).await
}

async fn sockets<B>(shared: &Shared, request: &Request<B>) -> Result<Bytes, Refused> {
    let Command::Sockets(args) = params::SOCKETS.parse(request.uri())? else {
        return Err(Refused::bad("no sockets are meant"));
    };
    let Some(walks) = &shared.sources.walks else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "this daemon cannot list sockets"));
    };
    shared.kitchen.sockets(walks, args).await
}

async fn history<B>(shared: &Shared, request: &Request<B>) -> Result<Bytes, Refused> {
    let Command::History(args) = params::HISTORY.parse(request.uri())? else {
        return Err(Refused::bad("no history is meant"));
    };
    let Some(file) = &shared.sources.history else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "this daemon records no history"));
    };
    if !file.exists() {
        return Err(Refused::new(StatusCode::NOT_FOUND, "nothing is recorded so far"));
    }
    shared.kitchen.history(file, args).await
}

/// Each interval's snapshot as it is over, a line each.
async fn stream<B>(shared: &Arc<Shared>, request: &Request<B>) -> (Response<Body>, bool) {
    let wanted = match wanted(&params::SNAPSHOT, request).await {
        Ok(wanted) => wanted.map(Arc::new),
        Err(refused) => return (refuse(&refused), false),
    };
    let (sender, body) = Channel::new(1);
    tokio::spawn(follow(Arc::clone(shared), sender, wanted));
    let mut response = respond(StatusCode::OK, body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    (response, true)
}

/// Sends until the reader goes away or misses an interval: what it gets has no holes.
async fn follow(
    shared: Arc<Shared>,
    mut sender: http_body_util::channel::Sender<Bytes, Broken>,
    wanted: Option<Arc<Wanted>>,
) {
    let mut latests = shared.latest.clone();
    let mut last = latests.borrow_and_update().as_ref().map_or(0, |latest| latest.number);
    while latests.changed().await.is_ok() {
        let Some(latest) = latests.borrow_and_update().clone() else { continue };
        if latest.number > last + 1 {
            shared.seats.count(|clients| clients.dropped += 1);
            sender.abort("the reader is too slow".into());
            return;
        }
        last = latest.number;
        match shared.kitchen.snapshot(&latest, wanted.clone()).await {
            Ok(bytes) => {
                drop(latest);
                if sender.send_data(bytes).await.is_err() {
                    return;
                }
            }
            Err(refused) => {
                sender.abort(refused.message.into());
                return;
            }
        }
    }
}

fn status(shared: &Shared) -> Result<Bytes, Refused> {
    let latest = shared.latest.borrow().clone();
    let snapshot = latest.as_ref().map(|latest| &latest.snapshot);
    let shed = snapshot.map_or(0, |snapshot| snapshot.loss.history_shed);
    let status = Status {
        schema: Status::schema(),
        version: env!("CARGO_PKG_VERSION").into(),
        commit: Some(env!("NETTOP_COMMIT")).filter(|commit| *commit != "unknown").map(Into::into),
        pid: std::process::id(),
        started: shared.started.clone(),
        uptime_s: shared.start.elapsed().as_secs(),
        last: latest.as_ref().map(|latest| LastInterval {
            time: latest.snapshot.time.clone(),
            interval_ms: latest.snapshot.interval_ms,
            age_ms: u64::try_from(latest.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            read_us: latest.snapshot.read_us,
            rows: latest.snapshot.rows.len(),
        }),
        hooks: snapshot.map(|snapshot| snapshot.hooks.clone()).unwrap_or_default(),
        loss: snapshot.map(|snapshot| snapshot.loss),
        history: shared.sources.history.as_ref().map(|file| HistoryStatus {
            file: file.clone(),
            size_bytes: fs::metadata(file).ok().map(|file| file.len()),
            shed,
        }),
        lists_sockets: shared.sources.walks.is_some(),
        clients: shared.seats.clients(),
    };
    let mut bytes = serde_json::to_vec(&status)
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes.into())
}
