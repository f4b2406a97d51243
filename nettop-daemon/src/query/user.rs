//! Users by name.

use std::time::Duration;

use anyhow::Context as _;

use crate::{error::Usage, identity::users};

/// Time limit for a user's number.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The numbers of users.
///
/// # Errors
///
/// As [`uid`].
pub fn uids(users: &[String]) -> anyhow::Result<Vec<u32>> {
    users.iter().map(|user| uid(user)).collect()
}

/// The number of a user.
///
/// # Errors
///
/// [`Usage`] if there is none, else if the name service does not answer.
fn uid(user: &str) -> anyhow::Result<u32> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let found = users::numbers().wait(&user.to_owned(), LOOKUP_TIMEOUT);
    let found = found.with_context(|| format!("the name service did not answer who '{user}' is; give the number"))?;
    found.ok_or_else(|| Usage::new(format!("no user is named '{user}'; give a name or a number")).into())
}
