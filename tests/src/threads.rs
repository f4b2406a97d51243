//! What /proc says of a process's threads.

use std::{fs, io::ErrorKind, path::Path};

use nix::libc::ESRCH;

/// /proc/PID/task/TID/status of each thread, by the folder of its process. A thread that ends meanwhile, as those do that
/// visit a network namespace, is left out.
pub fn thread_statuses(process: &Path) -> Vec<String> {
    let tasks = fs::read_dir(process.join("task")).unwrap().map(|task| task.unwrap().path().join("status"));
    let status = |path| match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => None,
        status => Some(status.unwrap()),
    };
    let statuses: Vec<_> = tasks.filter_map(status).collect();
    assert!(!statuses.is_empty(), "{} has ended", process.display());
    statuses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_end_meanwhile_are_left_out() {
        let ending = std::thread::spawn(|| (0..5_000).for_each(|_| std::thread::spawn(|| {}).join().unwrap()));
        while !ending.is_finished() {
            let statuses = thread_statuses(Path::new("/proc/self"));
            assert!(statuses.iter().all(|status| status.contains("\nPid:\t")), "{statuses:?}");
        }
    }
}
