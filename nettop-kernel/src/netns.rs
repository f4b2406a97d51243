//! Which network namespace a thread is in, as the ledger names it.

use std::{
    fs,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use nettop_common::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The calling thread's network namespace.
///
/// # Errors
///
/// If /proc or sockets are out of reach.
pub fn current() -> anyhow::Result<Netns> {
    let inode = u32::try_from(fs::metadata("/proc/thread-self/ns/net")?.ino())?;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(Netns { inode, cookie: cookie(&socket)? })
}

/// Low half of the cookie of a socket's namespace. Linux 5.14.
fn cookie(socket: &OwnedFd) -> std::io::Result<u32> {
    let mut cookie: u64 = 0;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `len` limits the write.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    #[expect(clippy::cast_possible_truncation, reason = "as the ledger has it")]
    Ok(cookie as u32)
}
