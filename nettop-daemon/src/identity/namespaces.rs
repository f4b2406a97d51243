//! Ways into other network namespaces: through a process or a thread that is there, or a mount. A way is known by inode
//! number only; the namespace itself shows whose number it is now.
//!
//! No namespace is held open between readings: that would keep the devices of a container that ended.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use nettop_common::{Netns, TaskNetns};
use nettop_kernel::{
    mountinfo::{mounts, unescape},
    netns::current,
};
use nix::{
    sched::{CloneFlags, setns},
    time::{ClockId, clock_gettime},
};

use crate::sys::proc_file::ProcFile;

/// Whether this thread may enter other namespaces (`netns_install`).
pub fn may_enter() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// All namespaces that can be found now, by inode number, with a path into each: mounted ones, those of processes, and
/// those that only some thread of a process is in. `mounts` is /proc/self/mountinfo. Without `tasks`, which the kernel
/// reports, it searches /proc.
pub fn all(mounts: &mut ProcFile, tasks: Option<Vec<TaskNetns>>) -> HashMap<u32, PathBuf> {
    let mut found = HashMap::new();
    let mut add = |path: PathBuf| {
        if let Some(inode) = inode(&path) {
            found.entry(inode).or_insert(path);
        }
    };
    mount_points(mounts.read().unwrap_or_default()).for_each(&mut add);
    read_dir("/run/netns").for_each(|entry| add(entry.path()));
    if let Some(tasks) = tasks {
        add("/proc/self/ns/net".into());
        for task in tasks.into_iter().filter(|task| task.tgid != 0) {
            if !found.contains_key(&task.netns.inode) {
                let path = PathBuf::from(format!("/proc/{}/task/{}/ns/net", task.tgid, task.pid));
                // It may have ended, or moved, since.
                found.extend(inode(&path).filter(|inode| *inode == task.netns.inode).map(|inode| (inode, path)));
            }
        }
        return found;
    }
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
    for process in read_dir("/proc").filter(is_process) {
        paths_of(&process.path()).for_each(&mut add);
    }
    found
}

/// The paths to a process's namespace, and to those of its other threads.
fn paths_of(process: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let tasks = process.join("task");
    // One link for each thread, and two as every folder has (`proc_task_getattr`).
    let has_threads = fs::metadata(&tasks).is_ok_and(|metadata| metadata.nlink() > 3);
    let threads = if has_threads { fs::read_dir(&tasks).ok() } else { None };
    let threads = threads.into_iter().flatten().flatten().map(|entry| entry.path().join("ns/net"));
    std::iter::once(process.join("ns/net")).chain(threads)
}

/// This process's mounts.
pub fn mountinfo() -> ProcFile {
    ProcFile::new("/proc/self/mountinfo")
}

/// Where namespaces are mounted, as /run/netns/NAME or /run/docker/netns/ID.
fn mount_points(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    let of_netns = mounts(mountinfo).filter(|mount| mount.root.starts_with(b"net:["));
    of_netns.map(|mount| PathBuf::from(OsString::from_vec(unescape(mount.point))))
}

/// Paths into namespaces, remembered from reading to reading: a pass over /proc takes long where there are many processes.
pub struct Paths {
    mounts: ProcFile,
    /// By inode number.
    known: HashMap<u32, PathBuf>,
    /// Not found in so many passes, the last included. By cookie as well: a namespace may have the inode number of one
    /// that is gone.
    missed: HashMap<Netns, u32>,
    /// When the last pass was made, and the CPU time it took: what others take on a busy machine must not make the rest longer.
    swept: Option<(Instant, Duration)>,
    /// Whether the kernel reports tasks: that costs far less than /proc.
    knows_tasks: bool,
}

impl Default for Paths {
    fn default() -> Self {
        let (known, missed) = (HashMap::new(), HashMap::new());
        Self { mounts: mountinfo(), known, missed, swept: None, knows_tasks: false }
    }
}

impl Paths {
    /// How often to search all of /proc for namespaces that nobody asks for.
    const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
    /// Rest between passes, in CPU times of a pass.
    const REST_FACTOR: u32 = 20;
    /// The same for one with traffic, where the kernel reports tasks.
    const SHORT_REST_FACTOR: u32 = 2;

    /// Finds ways into namespaces, each with some processes that may be there, and at times into others. A namespace that
    /// was not found waits for the next pass that is due anyway.
    pub fn find<'a>(
        &mut self,
        wanted: impl IntoIterator<Item = (Netns, &'a [u32])>,
        tasks: impl FnOnce() -> Option<Vec<TaskNetns>>,
    ) -> &HashMap<u32, PathBuf> {
        self.known.retain(|number, path| inode(path) == Some(*number));
        let mut sought = Vec::new();
        for (netns, pids) in wanted {
            if self.known.contains_key(&netns.inode) {
                continue;
            }
            match pids.iter().find_map(|pid| through_process(netns.inode, *pid)) {
                Some(path) => {
                    self.known.insert(netns.inode, path);
                }
                None => sought.push(netns),
            }
        }
        let is_new = |netns: &Netns| !self.missed.contains_key(netns);
        let is_due = self.swept.is_none_or(|(at, took)| {
            let has_new = sought.iter().any(is_new);
            // With each reading if that costs little: a balance begins when a device is first seen.
            let pause = if has_new || self.knows_tasks { Duration::ZERO } else { Self::SWEEP_INTERVAL };
            let rest = if has_new && self.knows_tasks { Self::SHORT_REST_FACTOR } else { Self::REST_FACTOR };
            at.elapsed() >= pause.max(took * rest)
        });
        if is_due {
            let before = thread_cpu_time();
            let tasks = tasks();
            self.knows_tasks = tasks.is_some();
            self.known.extend(all(&mut self.mounts, tasks));
            let missed = sought.into_iter().filter(|netns| !self.known.contains_key(&netns.inode));
            self.missed = missed.map(|netns| (netns, self.misses(netns).saturating_add(1))).collect();
            self.swept = Some((Instant::now(), thread_cpu_time().saturating_sub(before)));
        }
        self.missed.retain(|netns, _| !self.known.contains_key(&netns.inode));
        &self.known
    }

    /// How many passes in a row have looked for a namespace in vain.
    pub fn misses(&self, netns: Netns) -> u32 {
        self.missed.get(&netns).copied().unwrap_or_default()
    }
}

/// What this thread has used. The clock exists on every kernel (`posix-cpu-timers.c`).
pub fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A path into one namespace through a process that should live there, or one of its threads.
fn through_process(netns: u32, pid: u32) -> Option<PathBuf> {
    paths_of(Path::new(&format!("/proc/{pid}"))).find(|path| inode(path) == Some(netns))
}

/// Runs `work` in each namespace, on a thread of its own that ends with it, and returns which it was.
///
/// # Errors
///
/// The result of a namespace is an error if it is gone or may not be entered, or if `work` fails there. The others are
/// visited all the same. If no thread can be started, there are no results.
pub fn visit<T: Send>(
    paths: &[PathBuf],
    work: impl Fn() -> anyhow::Result<T> + Sync,
) -> Vec<anyhow::Result<(Netns, T)>> {
    let enter = |path: &PathBuf| {
        // Entering needs CAP_SYS_ADMIN, which a confined daemon lacks; it may stay where it is.
        if inode(path) != inode(Path::new("/proc/thread-self/ns/net")) {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        }
        Ok((current()?, work()?))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("nettopd-netns".into());
        match thread.spawn_scoped(scope, || paths.iter().map(enter).collect()) {
            Ok(thread) => thread.join().unwrap_or_default(),
            Err(error) => {
                tracing::warn!("no thread can be started to read the devices of other namespaces: {error}");
                Vec::new()
            }
        }
    })
}

fn inode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().and_then(|metadata| u32::try_from(metadata.ino()).ok())
}

fn read_dir(path: &str) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(path).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_namespace_is_found_whatever_its_name() {
        let line = b"403 25 0:4 net:[4026532177] /run/netns/a\\040b shared:209 - nsfs nsfs rw";
        assert_eq!(mount_points(line).collect::<Vec<_>>(), ["/run/netns/a b"].map(PathBuf::from));
        assert_eq!(mount_points(b"25 1 0:23 / /run rw shared:5 - tmpfs tmpfs rw").next(), None);
    }

    #[test]
    fn what_was_sought_in_vain_costs_no_pass_each_time() {
        let mut paths = Paths::default();
        // No namespace has this number.
        let [gone, next] = [1, 2].map(|cookie| Netns { inode: 1, cookie });
        paths.find([(gone, &[][..])], || None);
        let swept = paths.swept;
        assert_eq!(paths.misses(gone), 1);
        assert_eq!(paths.misses(next), 0, "the next one with its number was not sought yet");
        paths.find([(gone, &[][..])], || None);
        assert_eq!(paths.swept, swept);
    }

    #[test]
    fn a_pass_that_had_to_wait_for_a_cpu_makes_the_rest_no_longer() {
        const WAIT: Duration = Duration::from_millis(500);
        let mut paths = Paths::default();
        let mut passes = 0;
        let mut pass = || {
            passes += 1;
            std::thread::sleep(WAIT);
            Some(Vec::new())
        };
        paths.find([], &mut pass);
        let started = Instant::now();
        while paths.swept.is_some_and(|(at, _)| at <= started) {
            assert!(started.elapsed() < WAIT * Paths::REST_FACTOR, "the wait counts as work");
            paths.find([], &mut pass);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(passes, 2);
    }
}
