//! Learns names from what name servers answer, on a thread of its own: nobody waits for it.

use std::{sync::Arc, thread, time::Duration};

use nettop_kernel::answers::Answers;

use crate::identity::peer_names::PeerNames;

/// Between two looks: a storm of answers wakes the thread no more often. What does not fit the ring meanwhile is counted.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Learns until the process ends.
pub fn watch(mut answers: Answers, names: Arc<PeerNames>) {
    let started = thread::Builder::new().name("nettopd-dns".into()).spawn(move || {
        loop {
            if let Err(error) = answers.wait() {
                tracing::warn!("remote addresses get no more names: {error:#}");
                return;
            }
            answers.take(|answer| names.learn(&answer));
            thread::sleep(POLL_INTERVAL);
        }
    });
    if let Err(error) = started {
        tracing::warn!("remote addresses have no names: {error}");
    }
}
