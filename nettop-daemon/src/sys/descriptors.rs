//! Descriptors: those that systemd gave, those that the runtime watches, and what the kernel knows of a peer.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd},
};

use sd_notify::listen_fds_with_names;
use tokio::io::unix::AsyncFd;

/// What systemd kept, by names that begin so.
pub fn given_by_systemd(prefix: &str) -> Vec<(String, OwnedFd)> {
    let given = listen_fds_with_names().into_iter().flatten();
    // SAFETY: systemd gave them to this process, and those of this name are nobody else's.
    given
        .filter(|(_, name)| name.starts_with(prefix))
        .map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }))
        .collect()
}

/// Has the runtime watch a copy of a descriptor.
///
/// # Errors
///
/// If descriptors are exhausted, or it is one that cannot be waited for.
pub fn watch(descriptor: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = descriptor.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is given away and stays open until it is no longer watched.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// Supplementary groups that the peer had when it connected. Linux 4.13.
///
/// # Errors
///
/// If it is no Unix socket.
pub fn peer_groups(stream: &impl AsRawFd) -> io::Result<Vec<u32>> {
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
