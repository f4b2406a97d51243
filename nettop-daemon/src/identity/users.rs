//! Names of users by number, and numbers by name, as the system's name service has them. It may hang: reports show numbers
//! until there are names.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};

use crate::{
    identity::lookups::{Bounds, Lookups},
    sys::escape::escape,
};

/// All of this process.
static NAMES: LazyLock<Arc<Lookups<u32, String>>> =
    LazyLock::new(|| Lookups::new(name_of, Bounds { threads: 4, questions: 1024, answers: 16_384 }));
/// Of names asked for, which callers choose freely.
static NUMBERS: LazyLock<Arc<Numbers>> =
    LazyLock::new(|| Lookups::new(number_of, Bounds { threads: 2, questions: 64, answers: 1024 }));

/// Time limit for the names of a document.
pub const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// And those of an interval, or of some events.
pub const INTERVAL_TIMEOUT: Duration = Duration::from_millis(200);

/// Numbers by name.
pub type Numbers = Lookups<String, u32>;

/// Names, escaped, with a limit on the wait for them.
#[derive(Clone, Debug)]
pub struct Users {
    /// For all names together.
    timeout: Duration,
    left: Duration,
}

impl Users {
    /// Waits so long in all; not at all where others must not wait.
    pub const fn with_timeout(timeout: Duration) -> Self {
        Self { timeout, left: timeout }
    }

    /// For another interval.
    pub const fn renew(&mut self) {
        self.left = self.timeout;
    }

    /// The name of a user, if the system's name service returned one.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        let begun = Instant::now();
        let name = NAMES.wait(&uid, self.left);
        self.left = self.left.saturating_sub(begun.elapsed());
        name.flatten()
    }
}

/// Numbers of users by name, asked for by all who need one.
pub fn numbers() -> Arc<Numbers> {
    Arc::clone(&NUMBERS)
}

fn name_of(uid: &u32) -> Option<String> {
    User::from_uid(Uid::from_raw(*uid)).ok().flatten().map(|user| escape(user.name.as_bytes()))
}

#[expect(clippy::ptr_arg, reason = "questions are kept, and asked by reference")]
fn number_of(name: &String) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_both_ways() {
        let forever = Duration::from_secs(300);
        assert_eq!(Users::with_timeout(forever).name(0).as_deref(), Some("root"));
        assert_eq!(numbers().wait(&"root".into(), forever), Some(Some(0)));
        assert_eq!(numbers().wait(&"no-such-user".into(), forever), Some(None));
    }
}
