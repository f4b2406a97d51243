//! A connection whose reader has to keep up: who takes too little for too long is cut off.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// This much within the time limit, or all there is, is enough.
const BYTES_PER_DEADLINE: usize = 64 << 10;

/// Wraps a stream. While the peer does not take all that it is offered, it has `limit` for each [`BYTES_PER_DEADLINE`].
#[derive(Debug)]
pub struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// Bytes the peer took since it fell behind; `None` if it has not.
    behind: Option<usize>,
}

impl<S> WriteDeadline<S> {
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, timer: Box::pin(sleep(limit)), behind: None }
    }

    /// Keeps the time of a write that was to be `offered` bytes.
    fn check_rate(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        match (&written, &mut self.behind) {
            (Poll::Ready(Ok(bytes)), _) if *bytes == offered => self.behind = None,
            (Poll::Ready(Ok(bytes)), Some(taken)) => {
                *taken += bytes;
                if *taken >= BYTES_PER_DEADLINE {
                    self.behind = None;
                }
            }
            (Poll::Pending, None) => {
                self.behind = Some(0);
                self.timer.as_mut().reset(Instant::now() + self.limit);
            }
            _ => {}
        }
        if written.is_pending() {
            ready!(self.timer.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader is too slow")));
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_rate(context, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.check_rate(context, written, parts.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off() {
        let (near, _far) = duplex(1 << 10);
        let error = WriteDeadline::new(near, LIMIT).write_all(&[0; 4 << 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_not_enough() {
        let (near, mut far) = duplex(1 << 10);
        let reader = tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                sleep(LIMIT / 8).await;
            }
        });
        let error = WriteDeadline::new(near, LIMIT).write_all(&[0; 4 << 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reader.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_up_gets_everything() {
        let (near, mut far) = duplex(1 << 10);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all.len())
        });
        let mut near = WriteDeadline::new(near, LIMIT);
        for _ in 0..4 {
            near.write_all(&[0; 64 << 10]).await.unwrap();
            sleep(LIMIT * 2).await;
        }
        drop(near);
        assert_eq!(reader.await.unwrap().unwrap(), 256 << 10);
    }
}
