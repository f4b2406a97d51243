//! A stream of documents: each interval's as it ends. A reader so slow that it would miss one is cut off.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::{Notify, oneshot, watch};

use crate::serve::{
    answers::{Asker, Extent, Latest, Part},
    shared::{Broken, Shared},
};

/// What a connection knows of the stream it carries, if it carries one.
#[derive(Debug, Default)]
pub(super) struct Follower {
    follows: AtomicBool,
    missed_one: Notify,
}

impl Follower {
    /// Whether it carries a stream.
    pub(super) fn follows(&self) -> bool {
        self.follows.load(Ordering::Relaxed)
    }

    /// Waits until a document is left out.
    pub(super) async fn missed_one(&self) {
        self.missed_one.notified().await;
    }
}

/// A document that the kernel has not taken whole.
struct Unsent {
    bytes: Bytes,
    /// Dropped with it.
    _taken: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a stream that begins with the next interval.
pub(super) fn start(
    shared: &Arc<Shared>,
    part: Option<Arc<Part>>,
    is_whole: bool,
    asker: Asker,
    follower: Arc<Follower>,
) -> Channel<Bytes, Broken> {
    let (sender, body) = Channel::new(1);
    follower.follows.store(true, Ordering::Relaxed);
    // Before the answer's head is sent: who has that misses nothing from then on.
    let mut latests = shared.sources.latest.clone();
    let last = latests.borrow_and_update().as_ref().map(|latest| latest.number);
    tokio::spawn(follow(Arc::clone(shared), latests, last, sender, (part, is_whole, asker), follower));
    body
}

/// Sends until the reader goes away or would miss an interval: what it gets has no holes. While one document is on its way
/// the next waits; a third ends the stream.
async fn follow(
    shared: Arc<Shared>,
    mut latests: watch::Receiver<Option<Arc<Latest>>>,
    mut last: Option<u64>,
    mut sender: Sender<Bytes, Broken>,
    (part, is_whole, asker): (Option<Arc<Part>>, bool, Asker),
    follower: Arc<Follower>,
) {
    let mut extent = Extent::Whole;
    let mut unsent: Option<oneshot::Receiver<()>> = None;
    while latests.changed().await.is_ok() {
        let Some(latest) = latests.borrow_and_update().clone() else { continue };
        if last.is_some_and(|last| latest.number > last + 1) {
            return cut_off(sender, &follower);
        }
        last = Some(latest.number);
        if let Some(taken) = unsent.take() {
            tokio::select! {
                biased;
                // Its result does not matter: it ends with the document.
                _ = taken => {}
                _ = latests.changed() => return cut_off(sender, &follower),
            }
        }
        match shared.answers.snapshot(&asker, &latest, part.clone(), extent).await {
            Ok(bytes) => {
                drop(latest);
                if !is_whole {
                    extent = Extent::Changes;
                }
                let (taken, is_taken) = oneshot::channel();
                unsent = Some(is_taken);
                if sender.send_data(Bytes::from_owner(Unsent { bytes, _taken: taken })).await.is_err() {
                    return;
                }
            }
            Err(refused) => return sender.abort(refused.message.into()),
        }
    }
}

/// Nothing that looks like an end is sent.
fn cut_off(sender: Sender<Bytes, Broken>, follower: &Follower) {
    sender.abort("the reader is too slow".into());
    follower.missed_one.notify_one();
}
