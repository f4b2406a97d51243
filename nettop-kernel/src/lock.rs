//! Locking without an error.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a thread panicked while it had the lock: rings and objects are whole between any two calls.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
