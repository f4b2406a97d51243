//! Who is at the other end of a connection, as the kernel reports: no name service is asked.

use std::{io, os::fd::AsRawFd};

use nix::unistd::{Gid, Uid, geteuid};
use tokio::net::UnixStream;

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
    let is_member = peer.gid() == group.as_raw() || groups(stream)?.contains(&group.as_raw());
    Ok(is_member.then_some(uid))
}

/// Supplementary groups that the peer had when it connected. Linux 4.13.
fn groups(stream: &impl AsRawFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: `groups` has room for the `len` bytes that may be written, and both live through the call.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let number = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(number);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It returns how much room it takes (`sk_getsockopt`), 65,536 groups at most.
        if error.raw_os_error() != Some(libc::ERANGE) || number <= groups.len() {
            return Err(error);
        }
        groups.resize(number, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_reports_all_groups_of_the_peer() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        let mut reported = groups(&one).unwrap();
        own.sort_unstable();
        reported.sort_unstable();
        assert_eq!(reported, own);
        assert_eq!(permitted(&one, None).unwrap(), Some(geteuid()));
    }
}
