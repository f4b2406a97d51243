//! Names of containers and pods, as runtimes leave them on disk: read by threads of their own once a process of the container
//! is known, and kept as long as anything refers to it, whether the container is still there or not.

mod disk;
mod names;
mod sources;
#[cfg(test)]
mod tests;
mod workload;

use std::{
    collections::{HashMap, VecDeque},
    fmt::{Debug, Formatter},
    sync::{
        Arc, Condvar, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nettop_model::ContainerNames;

pub use self::sources::places;
use self::{names::shown, sources::Sources};
use crate::{
    identity::{cgroup::Place, lookups::NAME_SERVICE_STACK_BYTES},
    sys::lock::lock,
};

/// All of this machine's.
static CONTAINERS: LazyLock<Arc<Containers>> = LazyLock::new(|| Containers::below("/"));

/// After so long a name that is known is read again, and one that was not found.
const RENEW_AGE: Duration = Duration::from_secs(60);
const RETRY_AGE: Duration = Duration::from_secs(5);
/// Questions that wait; others are asked with the next use.
const MAX_LOOKUPS: usize = 4096;
/// Containers that were seen and that nothing refers to yet.
const MAX_SEEN: usize = 4096;

/// Containers that something refers to.
pub struct Containers {
    sources: Sources,
    is_enabled: AtomicBool,
    known: Mutex<Known>,
    answered: Condvar,
}

#[derive(Default)]
struct Known {
    by_place: HashMap<Place, Weak<Container>>,
    /// Above this, those that are gone are removed.
    most: usize,
    /// Of root, and of users: whose names and homes are on file systems that may hang.
    queues: [VecDeque<Arc<Container>>; 2],
    is_running: [bool; 2],
    /// Seen since what was recorded was last taken, and before.
    seen: [HashMap<Place, Arc<Container>>; 2],
}

/// One container or pod.
pub struct Container {
    place: Place,
    /// By the path alone.
    by_path: Arc<ContainerNames>,
    answer: Mutex<Answer>,
}

struct Answer {
    names: Arc<ContainerNames>,
    at: Option<Instant>,
    is_found: bool,
    is_asked: bool,
}

impl Containers {
    /// All of this machine's.
    pub fn of_machine() -> Arc<Self> {
        Arc::clone(&CONTAINERS)
    }

    /// Those whose files are below `root`.
    pub fn below(root: &str) -> Arc<Self> {
        Arc::new(Self {
            sources: Sources::new(root),
            is_enabled: AtomicBool::new(true),
            known: Mutex::default(),
            answered: Condvar::new(),
        })
    }

    /// Whether files are read; what paths name is known all the same.
    pub fn enable(&self, is_enabled: bool) {
        self.is_enabled.store(is_enabled, Ordering::Relaxed);
    }

    /// Folders with names that could not be read for lack of permission.
    pub fn closed(&self) -> Vec<String> {
        self.sources.closed()
    }

    /// The container of a place, whose names are asked for if they are not known.
    pub fn find(self: &Arc<Self>, place: Place) -> Arc<Container> {
        let container = self.find_or_make(&mut lock(&self.known), place);
        self.ask(&container);
        container
    }

    /// The same for one that nothing will refer to before what was recorded is taken.
    pub fn see(self: &Arc<Self>, place: Place) {
        let container = self.find(place);
        let mut known = lock(&self.known);
        if known.seen[0].len() < MAX_SEEN {
            known.seen[0].insert(container.place.clone(), container);
        }
    }

    /// Once what was recorded refers to those that were seen before it was taken.
    pub fn release(&self) {
        let mut known = lock(&self.known);
        let seen = std::mem::take(&mut known.seen[0]);
        let released = std::mem::replace(&mut known.seen[1], seen);
        drop(known);
        drop(released);
    }

    /// What it is called, as far as that is known; waits up to `timeout` for a first answer.
    pub fn names(self: &Arc<Self>, container: &Arc<Container>, timeout: Duration) -> Arc<ContainerNames> {
        if !self.is_enabled.load(Ordering::Relaxed) {
            return Arc::clone(&container.by_path);
        }
        self.ask(container);
        if !timeout.is_zero() {
            let known = lock(&self.known);
            let is_open = |_: &mut Known| lock(&container.answer).at.is_none() && lock(&container.answer).is_asked;
            drop(self.answered.wait_timeout_while(known, timeout, is_open).unwrap_or_else(PoisonError::into_inner));
        }
        Arc::clone(&lock(&container.answer).names)
    }

    fn find_or_make(&self, known: &mut Known, place: Place) -> Arc<Container> {
        if let Some(container) = known.by_place.get(&place).and_then(Weak::upgrade) {
            return container;
        }
        if known.by_place.len() > known.most {
            known.by_place.retain(|_, container| container.strong_count() > 0);
            known.most = 2 * known.by_place.len() + 64;
        }
        let by_path = Arc::new(ContainerNames {
            container_name: place.container.as_deref().filter(|_| !place.has_id()).and_then(shown),
            runtime: place.runtime.map(Into::into),
            ..ContainerNames::default()
        });
        let answer = Answer { names: Arc::clone(&by_path), at: None, is_found: false, is_asked: false };
        let container = Arc::new(Container { by_path, answer: Mutex::new(answer), place: place.clone() });
        known.by_place.insert(place, Arc::downgrade(&container));
        container
    }

    fn ask(self: &Arc<Self>, container: &Arc<Container>) {
        // A name is its own where there is no id.
        if !container.place.has_id() && container.place.pod_uid.is_none() || !self.is_enabled.load(Ordering::Relaxed) {
            return;
        }
        {
            let answer = lock(&container.answer);
            let age = if answer.is_found { RENEW_AGE } else { RETRY_AGE };
            if answer.is_asked || answer.at.is_some_and(|at| at.elapsed() < age) {
                return;
            }
        }
        let mut known = lock(&self.known);
        let queue = usize::from(container.place.uid.is_some());
        if known.queues[queue].len() >= MAX_LOOKUPS {
            return;
        }
        if !known.is_running[queue] {
            let containers = Arc::clone(self);
            let thread = std::thread::Builder::new().name("nettopd-names".into()).stack_size(NAME_SERVICE_STACK_BYTES);
            // Never waited for: one that hangs ends with the process.
            if thread.spawn(move || containers.answer_all(queue)).is_err() {
                return;
            }
            known.is_running[queue] = true;
        }
        lock(&container.answer).is_asked = true;
        known.queues[queue].push_back(Arc::clone(container));
    }

    /// Answers until there are no more questions.
    fn answer_all(&self, queue: usize) {
        let mut known = lock(&self.known);
        while let Some(container) = known.queues[queue].pop_front() {
            drop(known);
            let names = self.sources.look_up(&container.place);
            let is_found = names != ContainerNames::default();
            known = lock(&self.known);
            let mut answer = lock(&container.answer);
            // Of a container that is gone, what was known stays.
            let names = names.or(&answer.names);
            if names != *answer.names {
                answer.names = Arc::new(names);
            }
            (answer.at, answer.is_found, answer.is_asked) = (Some(Instant::now()), is_found, false);
            drop(answer);
            self.answered.notify_all();
        }
        known.is_running[queue] = false;
    }
}

impl Debug for Container {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

impl PartialEq for Container {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Container {}
