//! Ways into other network namespaces: through a process that lives there, or a name below /run/netns. A way is known by
//! inode number only; whose number it is now, the namespace itself tells.
//!
//! No namespace is held open between readings: that would keep a dead container's devices alive.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
};

use caps::{CapSet, Capability};
use nettop_common::Netns;
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

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

/// Whether this thread may enter other namespaces (`netns_install`).
pub fn may_enter() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// All namespaces that can be found now, by inode number, with a path into each.
pub fn all() -> HashMap<u32, PathBuf> {
    let mut found = HashMap::new();
    let named = read_dir("/run/netns").map(|entry| entry.path());
    let processes = read_dir("/proc")
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .map(|entry| entry.path().join("ns/net"));
    for path in named.chain(processes) {
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    }
    found
}

/// A path into one namespace by way of a process that should live there.
pub fn through_process(netns: u32, pid: u32) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    (inode(&path) == Some(netns)).then_some(path)
}

/// Runs `work` inside each namespace, on a thread of its own that ends with it, and tells which it was.
pub fn visit<T: Send>(
    paths: &[PathBuf],
    work: impl Fn() -> anyhow::Result<T> + Sync,
) -> Vec<anyhow::Result<(Netns, T)>> {
    let enter = |path: &PathBuf| {
        // Entering needs CAP_SYS_ADMIN, which a confined daemon has not; where it is, it may stay.
        if inode(path) != inode(&"/proc/thread-self/ns/net".into()) {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        }
        Ok((current()?, work()?))
    };
    std::thread::scope(|scope| scope.spawn(|| paths.iter().map(enter).collect()).join().unwrap_or_default())
}

/// Low half of the cookie of a socket's namespace. Linux 5.14.
fn cookie(socket: &OwnedFd) -> std::io::Result<u32> {
    let mut cookie: u64 = 0;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: both pointers are valid for the call, and `len` says how much may be written.
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

fn inode(path: &PathBuf) -> Option<u32> {
    fs::metadata(path).ok().and_then(|metadata| u32::try_from(metadata.ino()).ok())
}

fn read_dir(path: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}
