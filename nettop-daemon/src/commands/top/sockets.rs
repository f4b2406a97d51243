//! Lists sockets while they are shown: asks the daemon, or reads here.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use nettop_kernel::{Kernel, socket_iterators::SocketIterators};
use nettop_model::sockets::Document;
use nettop_top::Event;
use nix::unistd::geteuid;
use tokio::sync::mpsc::Sender;

use super::source::Source;
use crate::{
    client,
    measure::sockets,
    query::{global::Global, sockets::SocketsQuery},
};

/// More are not listed; a filter or a chosen process leaves fewer.
const MAX_SOCKETS: usize = 20_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A thread that lists.
pub struct Lister(SyncSender<Vec<u32>>);

impl Lister {
    pub fn new(global: &Global, source: Option<&Source>, events: Sender<Event>) -> Self {
        let (sender, asked) = sync_channel(1);
        // Root finds out more by itself: a daemon without capabilities sees neither paths nor all tables.
        let daemon = source.and_then(|source| source.daemon.clone()).filter(|_| !geteuid().is_root());
        let global = global.clone();
        std::thread::spawn(move || answer(&global, daemon.as_ref(), &asked, &events));
        Self(sender)
    }

    /// Of these processes, or all. One question is under way at a time.
    pub fn ask(&self, pids: Vec<u32>) {
        let _ = self.0.try_send(pids);
    }
}

fn answer(global: &Global, daemon: Option<&PathBuf>, asked: &Receiver<Vec<u32>>, events: &Sender<Event>) {
    let mut iterators = None;
    while let Ok(pids) = asked.recv() {
        let query = SocketsQuery { pid: pids, ..SocketsQuery::default() };
        let listed = match daemon {
            Some(_) => client::ask(global, &client::target::sockets(&query)).and_then(|answer| client::read(&answer)),
            None => here(global, &query, &mut iterators),
        };
        let listed = listed.map(Box::new).map_err(|error| format!("sockets cannot be listed: {error:#}"));
        if events.blocking_send(Event::Sockets(listed)).is_err() {
            return;
        }
    }
}

/// By iterators that are loaded once.
fn here(global: &Global, query: &SocketsQuery, loaded: &mut Option<SocketIterators>) -> anyhow::Result<Document> {
    let iterators = match loaded.take() {
        Some(iterators) => iterators,
        None => Kernel::examine(global.forced())?.iterators()?,
    };
    let listed = sockets::now(query, &[], &iterators, MAX_SOCKETS, Instant::now() + TIMEOUT);
    *loaded = Some(iterators);
    listed
}
