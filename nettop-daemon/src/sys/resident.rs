//! Keeps the program itself in memory: what runs a machine out of memory takes the page cache first, and with it the code that
//! would record it.

use std::io;

use anyhow::Context as _;
use procfs::process::{MMapPath, Process};

/// Locks the pages of the program and its libraries that are there, and each other once it is used. Memory of its own is not
/// locked: `malloc_trim` gives no locked page back (`madvise`, MADV_DONTNEED). The unit keeps it out of swap (`MemorySwapMax=`).
///
/// # Errors
///
/// If the limit of locked memory (RLIMIT_MEMLOCK) is too low and there is no CAP_IPC_LOCK, or /proc/self/maps cannot be
/// read: readings may be late on a machine that is out of memory.
pub fn lock_program() -> anyhow::Result<()> {
    let maps = Process::myself().and_then(|process| process.maps()).context("cannot read /proc/self/maps")?;
    let of_files = maps.iter().filter_map(|map| match &map.pathname {
        MMapPath::Path(path) => Some((path, map.address)),
        _ => None,
    });
    // As much as the limit permits.
    let locked = of_files.map(|(path, (from, to))| {
        lock(from, to - from).with_context(|| format!("{} cannot be locked", path.display()))
    });
    locked.fold(Ok(()), anyhow::Result::and)
}

fn lock(from: u64, bytes: u64) -> io::Result<()> {
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let start = std::ptr::without_provenance(usize::try_from(from).map_err(io::Error::other)?);
    // SAFETY: changes no memory; a range that is not mapped any more is an error.
    let result = unsafe { libc::mlock2(start, bytes, libc::MLOCK_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
