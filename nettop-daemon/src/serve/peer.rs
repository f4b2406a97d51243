//! Who is at the other end of a connection, as the kernel reports: no name service is asked.

use std::io;

use nix::unistd::{Gid, Uid, geteuid};
use tokio::net::UnixStream;

use crate::sys::descriptors::peer_groups;

/// The user at the other end, if it may ask: root, the daemon's own, and members of the group.
///
/// # Errors
///
/// If the peer's credentials cannot be read: it is to be treated as not permitted.
pub fn permitted(stream: &UnixStream, group: Option<Gid>) -> io::Result<Option<Uid>> {
    let peer = stream.peer_cred()?;
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() || uid == geteuid() {
        return Ok(Some(uid));
    }
    let Some(group) = group else { return Ok(None) };
    let is_member = peer.gid() == group.as_raw() || peer_groups(stream)?.contains(&group.as_raw());
    Ok(is_member.then_some(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_reports_all_groups_of_the_peer() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        let mut reported = peer_groups(&one).unwrap();
        own.sort_unstable();
        reported.sort_unstable();
        assert_eq!(reported, own);
        assert_eq!(permitted(&one, None).unwrap(), Some(geteuid()));
    }
}
