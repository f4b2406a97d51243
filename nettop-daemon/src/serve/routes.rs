//! Which path has which document.

use std::{convert::Infallible, fs, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use nettop_model::{
    By,
    status::{HistoryStatus, LastInterval, SCHEMA, Status},
};

use super::{
    answers::{Asker, Extent, Latest, Part, Refused},
    follow::{self, Follower},
    params::{self, Nothing},
    shared::{Broken, Shared},
};
use crate::{
    identity::containers::Containers,
    query::{
        history::HistoryQuery,
        report::{DropsQuery, SnapshotQuery, StreamQuery},
        sockets::SocketsQuery,
    },
};

pub(super) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Answers any request.
pub(super) async fn answer<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    asker: &Asker,
    follower: &Arc<Follower>,
) -> Response<Body> {
    let uri = request.uri();
    let path = uri.path();
    let made = match path {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here: GET and HEAD only"))
        }
        "/v1/stream" => return stream(shared, request, asker, follower).await,
        "/v1/status" => params::parse::<Nothing>(uri).and_then(|Nothing {}| status(shared)),
        "/v1/snapshot" => snapshot(shared, request, asker).await,
        "/v1/drops" => drops(shared, request, asker).await,
        "/v1/sockets" => sockets(shared, request, asker).await,
        "/v1/history" => history(shared, request, asker).await,
        _ => Err(Refused::new(
            StatusCode::NOT_FOUND,
            "there is /v1/status, /v1/snapshot, /v1/stream, /v1/drops, /v1/sockets and /v1/history",
        )),
    };
    made.map_or_else(|refused| refuse(&refused), |bytes| respond(StatusCode::OK, whole(bytes)))
}

/// One line of JSON with the reason.
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

/// What is asked for of snapshots, if it is not all.
async fn part(shared: &Shared, query: &SnapshotQuery) -> Result<Option<Arc<Part>>, Refused> {
    let SnapshotQuery { selection, by, arguments, resources } = query;
    let by = by.unwrap_or_default();
    if selection.is_empty() && by == By::Process && !arguments && !resources {
        return Ok(None);
    }
    let filter = params::filter(selection, &shared.sources.users, shared.limits.naming).await?;
    Ok(Some(Arc::new(Part { filter, by, with_arguments: *arguments, with_resources: *resources })))
}

fn latest(shared: &Shared) -> Result<Arc<Latest>, Refused> {
    shared.sources.latest.borrow().clone().ok_or_else(|| Refused::busy("the first interval is not over; try again"))
}

async fn snapshot<B>(shared: &Shared, request: &Request<B>, asker: &Asker) -> Result<Bytes, Refused> {
    let part = part(shared, &params::parse(request.uri())?).await?;
    shared.answers.snapshot(asker, &latest(shared)?, part, Extent::Whole).await
}

async fn drops<B>(shared: &Shared, request: &Request<B>, asker: &Asker) -> Result<Bytes, Refused> {
    let query: DropsQuery = params::parse(request.uri())?;
    let filter = params::filter(&query.selection, &shared.sources.users, shared.limits.naming).await?;
    shared.answers.drops(asker, &latest(shared)?, filter, query.all).await
}

async fn sockets<B>(shared: &Shared, request: &Request<B>, asker: &Asker) -> Result<Bytes, Refused> {
    let query: SocketsQuery = params::parse(request.uri())?;
    let Some(iterators) = &shared.sources.iterators else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "this daemon cannot list sockets"));
    };
    let uids = params::uids(&query.user, &shared.sources.users, shared.limits.naming).await?;
    shared.answers.sockets(asker, iterators, query, uids).await
}

async fn history<B>(shared: &Shared, request: &Request<B>, asker: &Asker) -> Result<Bytes, Refused> {
    let query: HistoryQuery = params::parse(request.uri())?;
    let Some(file) = &shared.sources.history else {
        return Err(Refused::new(StatusCode::NOT_FOUND, "this daemon records no history"));
    };
    if !file.exists() {
        return Err(Refused::new(StatusCode::NOT_FOUND, "nothing is recorded so far"));
    }
    shared.answers.history(asker, file, query).await
}

/// Each interval's snapshot as it ends, a line each.
async fn stream<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    asker: &Asker,
    follower: &Arc<Follower>,
) -> Response<Body> {
    let asked = async {
        let query: StreamQuery = params::parse(request.uri())?;
        Ok((part(shared, &query.snapshot).await?, query.whole))
    };
    let (part, is_whole) = match asked.await {
        Ok(asked) => asked,
        Err(refused) => return refuse(&refused),
    };
    let body = follow::start(shared, part, is_whole, asker.clone(), Arc::clone(follower));
    let mut response = respond(StatusCode::OK, body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn status(shared: &Shared) -> Result<Bytes, Refused> {
    let latest = shared.sources.latest.borrow().clone();
    let snapshot = latest.as_ref().map(|latest| &latest.snapshot);
    let shed = snapshot.map_or(0, |snapshot| snapshot.loss.history_shed);
    let status = Status {
        schema: SCHEMA.into(),
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
        lists_sockets: shared.sources.iterators.is_some(),
        container_names_closed: Containers::of_machine().closed(),
        clients: shared.clients.clients(),
    };
    let mut bytes = serde_json::to_vec(&status)
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes.into())
}
