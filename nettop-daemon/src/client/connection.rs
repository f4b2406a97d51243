//! One question over the socket, and its answer: whole, or line by line. Waits for some seconds and takes no more than it
//! can hold.

use std::{
    error::Error as _,
    io::{self, ErrorKind},
    mem,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::handshake,
    header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use crate::sys::{escape::escape, runtime};

/// The daemon gives itself ten seconds at most.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// More than all answers together that a daemon sends.
const MAX_ANSWER_BYTES: usize = 160 << 20;
const MAX_REASON_BYTES: usize = 64 << 10;

/// Why there is no answer.
pub(super) enum Unanswered {
    /// No daemon runs, or it has nothing of the kind.
    Nobody,
    /// The daemon answers others.
    Refused,
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Unanswered {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Asks a daemon for a path with its parameters, and takes the whole answer.
pub(super) fn ask(socket: &Path, target: &str) -> Result<Bytes, Unanswered> {
    let whole = async {
        let body = open(socket, target).await?;
        Ok(read(body, MAX_ANSWER_BYTES).await?)
    };
    block_on(async {
        timeout(ANSWER_TIMEOUT, whole).await.unwrap_or_else(|_| Err(anyhow!("it takes too long").into()))
    })
}

/// Asks for lines that have no end, and does something with them.
pub(super) fn follow<T>(
    socket: &Path,
    target: &str,
    with: impl AsyncFnOnce(Lines) -> anyhow::Result<T>,
) -> Result<anyhow::Result<T>, Unanswered> {
    block_on(async {
        let body = open(socket, target).await?;
        Ok(with(Lines { body, rest: Vec::new(), searched: 0 }).await)
    })
}

/// Lines as they come.
pub struct Lines {
    body: Incoming,
    /// What is not handed out yet.
    rest: Vec<u8>,
    /// So much of it has no end of a line.
    searched: usize,
}

impl Lines {
    /// The next line, with its end; none when there are no more, as when the daemon ends inside of one. What is not waited
    /// for to its end is not lost.
    ///
    /// # Errors
    ///
    /// If the connection fails, or a line is longer than any can be.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
                let left = self.rest.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(mem::replace(&mut self.rest, left)));
            }
            self.searched = self.rest.len();
            if self.rest.len() > MAX_ANSWER_BYTES {
                bail!("a line of its answer has no end");
            }
            let frame = match self.body.frame().await.transpose() {
                Err(error) if is_end(&error) => return Ok(None),
                frame => frame?,
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}

/// Whether the other side closed the connection, wherever it was in its answer.
fn is_end(error: &hyper::Error) -> bool {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
        || error.is_incomplete_message()
}

fn block_on<T>(asked: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    runtime::start()?.block_on(asked)
}

/// Sends the question, and waits for the answer's beginning.
async fn open(socket: &Path, target: &str) -> Result<Incoming, Unanswered> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Unanswered::Nobody,
        ErrorKind::PermissionDenied => Unanswered::Refused,
        _ => error.into(),
    })?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let request = Request::get(target).header(HOST, "nettopd").body(Empty::<Bytes>::new())?;
    let response = timeout(RESPONSE_TIMEOUT, sender.send_request(request)).await.context("it takes too long")??;
    let (status, body) = (response.status(), response.into_body());
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::FORBIDDEN => Err(Unanswered::Refused),
        StatusCode::NOT_FOUND => Err(Unanswered::Nobody),
        _ => Err(anyhow!("{}", reason(status, &read(body, MAX_REASON_BYTES).await?)).into()),
    }
}

async fn read(body: Incoming, most_bytes: usize) -> anyhow::Result<Bytes> {
    let whole = Limited::new(body, most_bytes).collect().await;
    Ok(whole.map_err(|error| anyhow!("its answer broke off: {error}"))?.to_bytes())
}

/// What the daemon says of it.
fn reason(status: StatusCode, answer: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let error = document["error"].as_str().map(|error| escape(error.as_bytes()));
    error.unwrap_or_else(|| status.to_string())
}
