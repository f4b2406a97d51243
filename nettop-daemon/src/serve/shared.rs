//! What all clients of the API share.

use std::{path::PathBuf, sync::Arc, time::Duration};

use nettop_kernel::socket_iterators::SocketIterators;
use tokio::{sync::watch, time::Instant};

use super::{
    answers::{AnswerWorker, Latest},
    clients::ClientLimit,
};
use crate::identity::users::Numbers;

/// What ends a stream before its time.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What the API shows.
#[derive(Debug)]
pub struct Sources {
    /// The last interval's, once there is one.
    pub latest: watch::Receiver<Option<Arc<Latest>>>,
    /// Loaded while that was permitted.
    pub iterators: Option<Arc<SocketIterators>>,
    /// The file that is recorded.
    pub history: Option<PathBuf>,
    /// Numbers of users by name.
    pub users: Arc<Numbers>,
}

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub clients: usize,
    pub clients_of_user: usize,
    /// Beyond those, they are refused; beyond these, not answered.
    pub turned_away: usize,
    /// For the request's head.
    pub asking: Duration,
    /// For each 64 KiB of an answer.
    pub reading: Duration,
    /// For all of it, where it is no stream.
    pub staying: Duration,
    /// For making it.
    pub answering: Duration,
    /// For names of users that it is to select.
    pub naming: Duration,
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
            naming: Duration::from_secs(2),
            head_bytes: 16 << 10,
            room_kib: 128 << 10,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sources: Sources,
    pub(super) answers: AnswerWorker,
    pub(super) clients: Arc<ClientLimit>,
    pub(super) started: String,
    pub(super) start: Instant,
    pub(super) limits: Limits,
}
