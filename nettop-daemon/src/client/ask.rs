//! One question over the socket, and its answer. Waits for some seconds and takes no more than it can hold.

use std::{io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1::handshake, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use crate::identity::escape::escape;

/// The daemon gives itself ten seconds at most.
const FIRST_WORD: Duration = Duration::from_secs(15);
const WHOLE: Duration = Duration::from_secs(60);
const MOST_BYTES: usize = 512 << 20;

/// What became of a question.
pub(super) enum Asked {
    Answered(Bytes),
    /// No daemon runs, or it has nothing of the kind.
    Nobody,
    /// The daemon answers others.
    Refused,
    Failed(anyhow::Error),
}

/// Asks a daemon for a path with its parameters.
pub(super) fn ask(socket: &Path, target: &str) -> Asked {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Asked::Failed(error.into()),
    };
    runtime.block_on(async {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => Asked::Nobody,
                    ErrorKind::PermissionDenied => Asked::Refused,
                    _ => Asked::Failed(error.into()),
                };
            }
        };
        match timeout(WHOLE, exchange(stream, target)).await {
            Ok(Ok((StatusCode::OK, answer))) => Asked::Answered(answer),
            Ok(Ok((StatusCode::FORBIDDEN, _))) => Asked::Refused,
            Ok(Ok((StatusCode::NOT_FOUND, _))) => Asked::Nobody,
            Ok(Ok((status, answer))) => Asked::Failed(anyhow!("{}", reason(status, &answer))),
            Ok(Err(error)) => Asked::Failed(error),
            Err(_) => Asked::Failed(anyhow!("it takes too long")),
        }
    })
}

async fn exchange(stream: UnixStream, target: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(target).header(HOST, "nettopd").body(Empty::<Bytes>::new())?;
    let response = timeout(FIRST_WORD, sender.send_request(request)).await.context("it takes too long")??;
    let status = response.status();
    let body = match Limited::new(response.into_body(), MOST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => bail!("its answer broke off: {error}"),
    };
    connection.abort();
    Ok((status, body))
}

/// What the daemon says of it.
fn reason(status: StatusCode, answer: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = document["error"].as_str().map(|error| escape(error.as_bytes()));
    error.unwrap_or_else(|| status.to_string())
}
