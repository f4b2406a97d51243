//! User names by uid, asked once each.

use std::collections::HashMap;

use nix::unistd::{Uid, User};

use super::escape::escape;

/// Remembers names, also that there is none.
#[derive(Default)]
pub struct Users {
    names: HashMap<u32, Option<String>>,
}

impl Users {
    /// The escaped name of a user, if the system's name service has one.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        self.names
            .entry(uid)
            .or_insert_with(|| {
                User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| escape(user.name.as_bytes()))
            })
            .clone()
    }
}
