//! Which namespaces and devices are gone. Not to be found once is not enough: a way into a namespace may end while it is
//! looked for, and a list of devices may lack one while others come and go.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use nettop_common::Netns;

use super::{Devices, links::Links};
use crate::identity::namespaces::thread_cpu_time;

/// How long a namespace that is not found any more may come back.
const NAMESPACE_LINGER: Duration = Duration::from_secs(60);
/// Rest between queries for existing namespaces, in CPU times of a query.
const QUERY_REST_FACTOR: u32 = 20;
/// Searches that have to miss a namespace where the kernel does not list those that exist.
const MIN_MISSED_SEARCHES: u32 = 2;

impl Devices {
    /// Notes namespaces that were there before a search and were not read after it. `search`, if there was one, has those
    /// that existed then, if the kernel lists them.
    pub(super) fn note_overlooked(&mut self, search: Option<Option<HashSet<Netns>>>) {
        if let Some(found) = search {
            if let Some(existing) = &found {
                let before = self.existing.as_ref();
                let was_there = |netns: &&Netns| before.is_none_or(|before| before.contains(netns));
                self.overlooked = existing.iter().filter(was_there).copied().collect();
            }
            self.existing = found;
        }
        self.overlooked.retain(|netns| !self.fresh.contains(netns));
    }

    /// Notes which of the namespaces with rows are gone. None comes back: another has another cookie, and what shows that
    /// this one is gone may not last, as the other that has its number.
    pub(super) fn note_ended(&mut self, wanted: &BTreeMap<Netns, Vec<u32>>) {
        let is_gone = |netns: &&Netns| !self.fresh.contains(netns) && self.is_absent(**netns);
        self.ended = wanted.keys().filter(is_gone).copied().collect();
    }

    /// Finds out which of the namespaces that cannot be entered have ended since their rows were read.
    pub(super) fn find_ended(
        &mut self,
        wanted: &BTreeMap<Netns, Vec<u32>>,
        of_drops: &BTreeSet<Netns>,
        existing: impl FnOnce() -> Option<HashSet<Netns>>,
    ) {
        // None comes back: another has another cookie.
        self.ended.retain(|netns| wanted.contains_key(netns));
        let is_closed = |netns: &&Netns| !self.fresh.contains(netns);
        let rests = self.asked.is_some_and(|(at, took)| at.elapsed() < took * QUERY_REST_FACTOR);
        if rests || !wanted.keys().chain(of_drops).any(|netns| is_closed(&netns)) {
            return;
        }
        let before = thread_cpu_time();
        if let Some(existing) = existing() {
            self.ended = wanted.keys().filter(is_closed).filter(|netns| !existing.contains(netns)).copied().collect();
            self.existing = Some(existing);
        }
        self.asked = Some((Instant::now(), thread_cpu_time().saturating_sub(before)));
    }

    /// Forgets namespaces that are gone, once no row names them, and those that are not found any more some time later.
    pub(super) fn forget_lost(&mut self, wanted: &BTreeMap<Netns, Vec<u32>>) {
        let is_lost = |netns: &&Netns| self.is_absent(**netns) || self.may_enter && !self.is_found(**netns);
        let lost: Vec<Netns> = self.read.iter().filter(is_lost).copied().collect();
        self.lost.retain(|netns, _| lost.contains(netns));
        for netns in lost {
            let since = *self.lost.entry(netns).or_insert_with(Instant::now);
            let is_unwanted = self.is_absent(netns) && !wanted.contains_key(&netns);
            if is_unwanted || since.elapsed() >= NAMESPACE_LINGER {
                self.store(netns, Links::none());
                self.read.remove(&netns);
                self.fresh.remove(&netns);
                self.lost.remove(&netns);
            }
        }
    }

    /// Whether there is a way into a namespace, as far as is known.
    fn is_found(&self, netns: Netns) -> bool {
        self.fresh.contains(&netns) || self.paths.misses(netns) == 0
    }

    /// Whether a namespace is gone.
    pub(super) fn is_absent(&self, netns: Netns) -> bool {
        if self.ended.contains(&netns) {
            return true;
        }
        if !self.may_enter || self.fresh.contains(&netns) {
            return false;
        }
        // A number is used by one at a time.
        let has_another = || self.fresh.iter().any(|other| other.inode == netns.inode);
        // It was there before it was looked for.
        let misses = self.paths.misses(netns);
        let is_gone =
            || self.existing.as_ref().map_or(misses >= MIN_MISSED_SEARCHES, |existing| !existing.contains(&netns));
        misses > 0 && is_gone() || has_another()
    }
}
