//! Ways into other network namespaces: through a process that lives there, or a name below /run/netns.
//!
//! No namespace is held open between readings: that would keep a dead container's devices alive.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use nix::sched::{CloneFlags, setns};

/// Inode number of the daemon's own network namespace.
pub fn own() -> Option<u32> {
    inode(&PathBuf::from("/proc/self/ns/net"))
}

/// All namespaces that can be found now, with a path into each.
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

/// Runs `work` inside each namespace, on a thread of its own that ends with it.
pub fn visit<T: Send>(
    paths: HashMap<u32, PathBuf>,
    work: impl Fn() -> anyhow::Result<T> + Sync,
) -> HashMap<u32, anyhow::Result<T>> {
    let enter = |netns: u32, path: &PathBuf| {
        let file = File::open(path)?;
        // The path may lead elsewhere by now.
        anyhow::ensure!(file.metadata()?.ino() == u64::from(netns), "the namespace is gone");
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    std::thread::scope(|scope| {
        scope
            .spawn(|| paths.iter().map(|(netns, path)| (*netns, enter(*netns, path))).collect())
            .join()
            .unwrap_or_default()
    })
}

fn inode(path: &PathBuf) -> Option<u32> {
    fs::metadata(path).ok().and_then(|metadata| u32::try_from(metadata.ino()).ok())
}

fn read_dir(path: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}
