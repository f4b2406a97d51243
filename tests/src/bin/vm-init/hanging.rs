//! What a scenario's processes wait for when it does not come to its end.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Each thread of the group with its kernel stack, and the TCP sockets of each network namespace they are in.
pub fn processes_of(group: u32) -> String {
    let mut text = String::from("\nit hangs:\n");
    let mut namespaces = BTreeSet::new();
    for process in entries(Path::new("/proc")).filter(|process| group_of(process) == Some(group)) {
        for thread in entries(&process.join("task")) {
            let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
            let _ = write!(text, "{} {}{}", thread.display(), read("comm"), read("stack"));
        }
        if let Ok(namespace) = fs::read_link(process.join("ns/net"))
            && namespaces.insert(namespace.clone())
        {
            let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
            let _ = write!(text, "{}\n{}{}", namespace.display(), read("net/tcp"), read("net/netstat"));
        }
    }
    text
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The fifth field of /proc/PID/stat; the name before it may have any characters.
fn group_of(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_group_is_shown_with_what_its_threads_wait_for() {
        let group = nix::unistd::getpgrp().as_raw().cast_unsigned();
        let text = super::processes_of(group);
        assert!(text.contains(&format!("/proc/{}/task/", std::process::id())), "{text}");
        assert!(text.contains("net:["), "{text}");
    }
}
