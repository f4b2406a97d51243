//! How many clients there may be, and how many there were.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use nettop_model::status::Clients;
use nix::unistd::Uid;
use tokio::sync::Semaphore;

use crate::{serve::answers::MAX_ANSWERS_AT_ONCE, sys::lock::lock};

/// Room for clients.
#[derive(Debug)]
pub(super) struct ClientLimit {
    max_clients: usize,
    /// Of one user, but not of those who may do everything anyway.
    max_of_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_user: HashMap<Uid, OfUser>,
    clients: Clients,
}

#[derive(Debug)]
struct OfUser {
    connected: usize,
    turns: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct ClientPermit {
    clients: Arc<ClientLimit>,
    user: Uid,
    /// Answers to the user that may be made at once, over however many connections.
    pub(super) turns: Arc<Semaphore>,
}

impl ClientLimit {
    pub(super) fn new(max_clients: usize, max_of_user: usize) -> Arc<Self> {
        Arc::new(Self { max_clients, max_of_user, taken: Mutex::default() })
    }

    /// A place for a user, if there is one.
    pub(super) fn take(self: &Arc<Self>, user: Uid) -> Option<ClientPermit> {
        let mut taken = self.lock();
        // Who went away while an answer is made is kept until it is.
        taken.by_user.retain(|_, of_user| of_user.connected > 0 || Arc::strong_count(&of_user.turns) > 1);
        let of_user = taken.by_user.get(&user).map_or(0, |of_user| of_user.connected);
        let is_limited = !user.is_root() && user != nix::unistd::geteuid();
        let all: usize = taken.by_user.values().map(|of_user| of_user.connected).sum();
        if all >= self.max_clients || is_limited && of_user >= self.max_of_user {
            return None;
        }
        let of_user = taken.by_user.entry(user).or_insert_with(|| {
            let turns = if is_limited { 1 } else { MAX_ANSWERS_AT_ONCE };
            OfUser { connected: 0, turns: Arc::new(Semaphore::new(turns)) }
        });
        of_user.connected += 1;
        let turns = Arc::clone(&of_user.turns);
        taken.clients.connected += 1;
        taken.clients.served += 1;
        Some(ClientPermit { clients: Arc::clone(self), user, turns })
    }

    pub(super) fn clients(&self) -> Clients {
        self.lock().clients
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Clients)) {
        change(&mut self.lock().clients);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        lock(&self.taken)
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut taken = self.clients.lock();
        taken.clients.connected -= 1;
        if let Some(of_user) = taken.by_user.get_mut(&self.user) {
            of_user.connected -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let clients = ClientLimit::new(4, 2);
        let [one, other, root] = [54_321, 54_322, 0].map(Uid::from_raw);
        let first = clients.take(one).unwrap();
        let _second = clients.take(one).unwrap();
        assert!(clients.take(one).is_none());
        let _third = clients.take(other).unwrap();
        let _fourth = clients.take(root).unwrap();
        assert!(clients.take(root).is_none());
        drop(first);
        assert!(clients.take(root).is_some());
        assert_eq!(clients.clients().served, 5);
        assert_eq!(clients.clients().connected, 3);
    }

    #[test]
    fn one_user_has_one_turn_even_if_it_went_away() {
        let clients = ClientLimit::new(4, 2);
        let [one, other] = [54_321, 54_322].map(Uid::from_raw);
        let turn = |permit: &ClientPermit| Arc::clone(&permit.turns).try_acquire_owned();
        let (first, second) = (clients.take(one).unwrap(), clients.take(one).unwrap());
        let asked = turn(&first).unwrap();
        assert!(turn(&second).is_err());
        drop((first, second));
        let again = clients.take(one).unwrap();
        assert!(turn(&again).is_err(), "the answer is still made");
        let of_other = clients.take(other).unwrap();
        assert!(turn(&of_other).is_ok());
        drop(asked);
        assert!(turn(&again).is_ok());
        drop((again, of_other));
        let _root = clients.take(Uid::from_raw(0)).unwrap();
        assert_eq!(clients.lock().by_user.len(), 1, "who is gone is forgotten");
    }
}
