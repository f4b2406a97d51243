//! How many clients there may be, and how many there were.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::unistd::Uid;

use super::status::Clients;

/// Room for clients.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    /// Of one user, but not of those who may do everything anyway.
    most_of_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_user: HashMap<Uid, usize>,
    clients: Clients,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    user: Uid,
}

impl Seats {
    pub(super) fn new(most: usize, most_of_user: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_user, taken: Mutex::default() })
    }

    /// A place for a user, if there is one.
    pub(super) fn take(self: &Arc<Self>, user: Uid) -> Option<Seat> {
        let mut taken = self.lock();
        let of_user = taken.by_user.get(&user).copied().unwrap_or(0);
        let is_limited = !user.is_root() && user != nix::unistd::geteuid();
        let all: usize = taken.by_user.values().sum();
        if all >= self.most || is_limited && of_user >= self.most_of_user {
            return None;
        }
        *taken.by_user.entry(user).or_default() += 1;
        taken.clients.connected += 1;
        taken.clients.served += 1;
        Some(Seat { seats: Arc::clone(self), user })
    }

    pub(super) fn clients(&self) -> Clients {
        self.lock().clients
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Clients)) {
        change(&mut self.lock().clients);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.clients.connected -= 1;
        if let Some(number) = taken.by_user.get_mut(&self.user) {
            *number -= 1;
            if *number == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let seats = Seats::new(4, 2);
        let [one, other, root] = [54_321, 54_322, 0].map(Uid::from_raw);
        let first = seats.take(one).unwrap();
        let _second = seats.take(one).unwrap();
        assert!(seats.take(one).is_none());
        let _third = seats.take(other).unwrap();
        let _fourth = seats.take(root).unwrap();
        assert!(seats.take(root).is_none());
        drop(first);
        assert!(seats.take(root).is_some());
        assert_eq!(seats.clients().served, 5);
        assert_eq!(seats.clients().connected, 3);
    }
}
