//! Questions to a service that may hang, asked by threads of their own: answers are kept for a minute, and nobody has to
//! wait for one.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::sys::lock::lock;

/// How long an answer is valid, even none: a number may become another user's.
const ANSWER_LIFETIME: Duration = Duration::from_secs(60);
/// An answer older than this is renewed when used.
const REFRESH_AGE: Duration = Duration::from_secs(30);
/// Modules of the C library's name service put buffers on the stack.
pub(super) const NAME_SERVICE_STACK_BYTES: usize = 1 << 20;

/// How much it may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// One that hangs stays until its question is answered.
    pub threads: usize,
    /// Questions that wait for a thread; others are not asked.
    pub questions: usize,
    pub answers: usize,
}

/// Answers of a service, by question.
pub struct Lookups<K, V> {
    lookup: fn(&K) -> Option<V>,
    bounds: Bounds,
    state: Mutex<State<K, V>>,
    answered: Condvar,
    /// For those who may not block.
    answers: watch::Sender<()>,
}

impl<K, V> std::fmt::Debug for Lookups<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

struct State<K, V> {
    answers: HashMap<K, (Instant, Option<V>)>,
    /// With the time when it was asked.
    asked: HashMap<K, Instant>,
    queue: VecDeque<K>,
    threads: usize,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + 'static> Lookups<K, V> {
    pub fn new(lookup: fn(&K) -> Option<V>, bounds: Bounds) -> Arc<Self> {
        let (answers, _) = watch::channel(());
        let state = State { answers: HashMap::new(), asked: HashMap::new(), queue: VecDeque::new(), threads: 0 };
        Arc::new(Self { lookup, bounds, state: Mutex::new(state), answered: Condvar::new(), answers })
    }

    /// The answer, or that there is none, if known. Asks if it is not known, or old.
    pub fn get(self: &Arc<Self>, key: &K) -> Option<Option<V>> {
        self.cached(&mut self.lock(), key)
    }

    /// The answer; waits up to `time`, unless another question has had no answer for that long already.
    pub fn wait(self: &Arc<Self>, key: &K, time: Duration) -> Option<Option<V>> {
        let begun = Instant::now();
        let mut state = self.lock();
        loop {
            let found = self.cached(&mut state, key);
            let now = Instant::now();
            let oldest = state.asked.values().min().copied().unwrap_or(now);
            let left = (begun.min(oldest) + time).saturating_duration_since(now);
            // What is not asked is not answered.
            if found.is_some() || left.is_zero() || !state.asked.contains_key(key) {
                return found;
            }
            state = self.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same without blocking the thread.
    pub async fn wait_async(self: &Arc<Self>, key: &K, time: Duration) -> Option<Option<V>> {
        let mut answers = self.answers.subscribe();
        let answer = async {
            loop {
                answers.mark_unchanged();
                if let Some(found) = self.get(key) {
                    return Some(found);
                }
                answers.changed().await.ok()?;
            }
        };
        tokio::time::timeout(time, answer).await.ok().flatten()
    }

    /// The answer, if known. Asks if it is not known, or old.
    fn cached(self: &Arc<Self>, state: &mut State<K, V>, key: &K) -> Option<Option<V>> {
        let found = state.answers.get(key).map(|(at, answer)| (at.elapsed(), answer.clone()));
        if found.as_ref().is_none_or(|(age, _)| *age >= REFRESH_AGE) {
            self.ask(state, key);
        }
        found.filter(|(age, _)| *age < ANSWER_LIFETIME).map(|(_, answer)| answer)
    }

    fn ask(self: &Arc<Self>, state: &mut State<K, V>, key: &K) {
        if state.asked.contains_key(key) || state.queue.len() >= self.bounds.questions {
            return;
        }
        // A new answer to what is known takes the place of the old one.
        let is_known = state.answers.contains_key(key);
        if !is_known && state.answers.len() + state.asked.len() >= self.bounds.answers {
            state.answers.retain(|_, (at, _)| at.elapsed() < ANSWER_LIFETIME);
            if state.answers.len() + state.asked.len() >= self.bounds.answers {
                return;
            }
        }
        if state.threads < self.bounds.threads {
            let lookups = Arc::clone(self);
            let thread = std::thread::Builder::new().name("nettopd-names".into()).stack_size(NAME_SERVICE_STACK_BYTES);
            // Never waited for: one that hangs ends with the process.
            match thread.spawn(move || lookups.answer_all()) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => return,
                Err(_) => {}
            }
        }
        state.asked.insert(key.clone(), Instant::now());
        state.queue.push_back(key.clone());
    }

    /// Answers until there are no more questions.
    fn answer_all(&self) {
        let mut state = self.lock();
        while let Some(key) = state.queue.pop_front() {
            drop(state);
            let answer = (self.lookup)(&key);
            state = self.lock();
            state.asked.remove(&key);
            state.answers.insert(key, (Instant::now(), answer));
            self.answered.notify_all();
            self.answers.send_replace(());
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const BOUNDS: Bounds = Bounds { threads: 2, questions: 3, answers: 16 };
    /// No machine is as slow as that.
    const FOR_EVER: Duration = Duration::from_secs(300);

    /// Has no answer for 0, and never comes back from 100 and above.
    fn lookup(number: &u32) -> Option<String> {
        if *number >= 100 {
            loop {
                std::thread::park();
            }
        }
        (*number > 0).then(|| format!("user{number}"))
    }

    #[test]
    fn an_answer_is_known_once_it_is_there() {
        let lookups = Lookups::new(lookup, BOUNDS);
        assert_eq!(lookups.wait(&7, FOR_EVER), Some(Some("user7".into())));
        assert_eq!(lookups.wait(&0, FOR_EVER), Some(None));
        assert_eq!(lookups.get(&7), Some(Some("user7".into())));
        assert_eq!(lookups.get(&0), Some(None), "that there is none is known as well");
    }

    #[test]
    fn a_question_that_hangs_keeps_nobody_waiting_and_takes_one_thread() {
        let lookups = Lookups::new(lookup, BOUNDS);
        assert_eq!(lookups.get(&100), None);
        assert_eq!(lookups.wait(&1, FOR_EVER), Some(Some("user1".into())), "others are answered");
        assert_eq!(lookups.get(&101), None);
        // Until the second thread has taken it.
        while !lookups.lock().queue.is_empty() {
            std::thread::yield_now();
        }
        // Both hang; each call returns at once without an answer.
        assert_eq!(lookups.get(&102), None);
        for number in 0..10_000 {
            assert_eq!(lookups.get(&(200 + number % 500)), None);
            assert_eq!(lookups.wait(&(200 + number), Duration::ZERO), None);
        }
        assert_eq!(lookups.get(&1), Some(Some("user1".into())), "what is known stays known");
        let state = lookups.lock();
        assert_eq!((state.threads, state.queue.len(), state.asked.len()), (2, 3, 5));
    }

    #[test]
    fn who_waits_for_many_answers_of_a_service_that_hangs_waits_once() {
        let lookups = Lookups::new(lookup, BOUNDS);
        let time = Duration::from_secs(20);
        assert_eq!(lookups.get(&100), None);
        lookups.lock().asked.values_mut().for_each(|at| *at -= time);
        let begun = Instant::now();
        assert_eq!(lookups.wait(&101, time), None);
        assert!(begun.elapsed() < time, "it was waited for already");
    }

    #[test]
    fn what_is_known_is_bounded_and_none_is_known_for_ever() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn count(_: &u32) -> Option<usize> {
            Some(ASKED.fetch_add(1, Ordering::SeqCst))
        }
        let lookups = Lookups::new(count, BOUNDS);
        let first = lookups.wait(&1, FOR_EVER).unwrap().unwrap();
        for number in 2..=u32::try_from(BOUNDS.answers).unwrap() {
            assert!(lookups.wait(&number, FOR_EVER).is_some());
        }
        for number in 100..1000 {
            lookups.wait(&number, Duration::from_millis(1));
        }
        assert_eq!(lookups.lock().answers.len(), BOUNDS.answers);
        let age = |age: Duration| lookups.lock().answers.values_mut().for_each(|(at, _)| *at -= age);
        age(REFRESH_AGE);
        assert_eq!(lookups.get(&1), Some(Some(first)), "it is used meanwhile");
        let state = lookups.lock();
        assert!(state.asked.contains_key(&1) || state.answers[&1].1 != Some(first), "it is asked for anew");
        drop(state);
        while lookups.get(&1) == Some(Some(first)) {
            std::thread::yield_now();
        }
        age(ANSWER_LIFETIME);
        let second = lookups.wait(&1, FOR_EVER).unwrap().unwrap();
        assert!(second > first + 1, "{second}");
    }

    #[tokio::test]
    async fn who_may_not_block_waits_as_well() {
        let lookups = Lookups::new(lookup, BOUNDS);
        assert_eq!(lookups.wait_async(&7, FOR_EVER).await, Some(Some("user7".into())));
        assert_eq!(lookups.wait_async(&100, Duration::from_millis(1)).await, None);
    }
}
