//! Names of addresses as processes asked name servers for them: bounded, forgotten after a while, and never waited for.

mod message;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lru::LruCache;
use nettop_common::{AnswerHead, OwnerKey, abi::IPPROTO_TCP};
use nettop_kernel::answers::Answer;

use self::{message::Message, streams::Streams};
use crate::sys::lock::lock;

/// Names that processes asked for, and as many by address alone.
const MAX_NAMES: usize = 16_384;
/// All their letters, of each of the two.
const MAX_NAME_BYTES: usize = 4 << 20;
/// Connections last longer than what they were made by: a name is kept for some time, however short its record's is.
const MIN_LIFETIME: Duration = Duration::from_secs(600);
const MAX_LIFETIME: Duration = Duration::from_secs(86_400);

/// All of this machine that the running command saw.
static OF_MACHINE: LazyLock<Arc<PeerNames>> = LazyLock::new(Arc::default);

/// Who asked: pid and start time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub pid: u32,
    pub start_time_ns: u64,
}

impl From<&OwnerKey> for Process {
    fn from(key: &OwnerKey) -> Self {
        Self { pid: key.tgid, start_time_ns: key.start_time_ns }
    }
}

/// A name, escaped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    pub text: Arc<str>,
    pub source: Source,
}

/// Whence a name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The process asked for it.
    Dns,
    /// Somebody else on this machine did.
    DnsOther,
}

impl Source {
    /// As documents have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::DnsOther => "dns-other",
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.source == Source::Dns { "" } else { "~" };
        write!(to, "{mark}{}", self.text)
    }
}

/// What was answered.
#[derive(Default)]
pub struct PeerNames {
    tables: Mutex<Tables>,
    /// Of the one who learns: others never wait for it to read a message.
    streams: Mutex<Streams>,
    lost: AtomicU64,
}

impl std::fmt::Debug for PeerNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerNames").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Tables {
    asked: Names<(Process, IpAddr)>,
    /// Whoever asked last.
    by_address: Names<IpAddr>,
}

impl PeerNames {
    /// Those of the running command.
    pub fn of_machine() -> Arc<Self> {
        Arc::clone(&OF_MACHINE)
    }

    /// As if each of these had asked for its name.
    #[cfg(test)]
    pub fn of(all: &[(Process, &str, &str)]) -> Arc<Self> {
        let (names, now) = (Self::default(), Instant::now());
        let mut tables = lock(&names.tables);
        for (process, name, address) in all {
            let (known, address) =
                (Known { name: (*name).into(), until: now + MAX_LIFETIME }, address.parse().unwrap());
            tables.asked.put((*process, address), known.clone(), now);
            tables.by_address.put(address, known, now);
        }
        drop(tables);
        Arc::new(names)
    }

    /// Learns from what a name server sent.
    pub fn learn(&self, answer: &Answer<'_>) {
        self.learn_at(answer, Instant::now());
    }

    fn learn_at(&self, answer: &Answer<'_>, now: Instant) {
        let head = &answer.head;
        let is_whole = head.bytes == head.whole_bytes;
        let mut messages = Vec::new();
        let mut read = |message: &[u8]| messages.extend(Message::parse(message));
        let is_read = if head.protocol == u32::from(IPPROTO_TCP) {
            lock(&self.streams).add(head.socket_cookie, head.sequence, answer.payload, is_whole, read)
        } else {
            if is_whole {
                read(answer.payload);
            }
            is_whole
        };
        let mut tables = lock(&self.tables);
        let forgotten: u64 = messages.iter().map(|message| tables.note(head, message, now)).sum();
        self.lost.fetch_add(forgotten + u64::from(!is_read), Ordering::Relaxed);
    }

    /// The name by which a process found an address, or somebody else did.
    pub fn name(&self, process: Process, address: IpAddr) -> Option<Name> {
        self.name_at(process, address, Instant::now())
    }

    fn name_at(&self, process: Process, address: IpAddr, now: Instant) -> Option<Name> {
        let address = address.to_canonical();
        let tables = lock(&self.tables);
        let own = tables.asked.get(&(process, address), now).map(|text| Name { text, source: Source::Dns });
        own.or_else(|| tables.by_address.get(&address, now).map(|text| Name { text, source: Source::DnsOther }))
    }

    /// Answers that could not be read whole, and names that were forgotten for others before their time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Tables {
    /// Notes the addresses of a message. Returns how many names had to go for it.
    fn note(&mut self, head: &AnswerHead, message: &Message, now: Instant) -> u64 {
        let name: Arc<str> = message.name.as_str().into();
        let mut lost = 0;
        for (address, lifetime) in &message.addresses {
            let known = Known { name: Arc::clone(&name), until: now + (*lifetime).clamp(MIN_LIFETIME, MAX_LIFETIME) };
            // The kernel has no pid.
            if head.owner.tgid != 0 {
                lost += self.asked.put(((&head.owner).into(), *address), known.clone(), now);
            }
            // Anybody can call this machine by any name.
            if !address.is_loopback() {
                lost += self.by_address.put(*address, known, now);
            }
        }
        lost
    }
}

#[derive(Clone)]
struct Known {
    name: Arc<str>,
    until: Instant,
}

/// Names by key, the least recently noted first to go.
struct Names<K: std::hash::Hash + Eq> {
    names: LruCache<K, Known>,
    bytes: usize,
}

impl<K: std::hash::Hash + Eq> Default for Names<K> {
    fn default() -> Self {
        Self { names: LruCache::unbounded(), bytes: 0 }
    }
}

impl<K: std::hash::Hash + Eq> Names<K> {
    /// Returns how many went before their time.
    fn put(&mut self, key: K, known: Known, now: Instant) -> u64 {
        self.bytes += known.name.len();
        if let Some(before) = self.names.put(key, known) {
            self.bytes -= before.name.len();
        }
        let mut lost = 0;
        while self.names.len() > MAX_NAMES || self.bytes > MAX_NAME_BYTES {
            let Some((_, oldest)) = self.names.pop_lru() else { break };
            self.bytes -= oldest.name.len();
            lost += u64::from(oldest.until > now);
        }
        lost
    }

    fn get(&self, key: &K, now: Instant) -> Option<Arc<str>> {
        self.names.peek(key).filter(|known| known.until > now).map(|known| Arc::clone(&known.name))
    }
}
