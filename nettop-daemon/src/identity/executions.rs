//! Programs that processes executed: names of those that end before anybody reads /proc.

use std::{collections::HashMap, sync::Arc, time::Duration};

use nettop_kernel::processes::Described;

use super::{containers::Containers, details::Details};

/// By pid and start.
type Key = (u32, u64);

/// About what all names together may take; as much again is of older ones.
const MAX_BYTES: usize = 2 << 20;

/// What is known, until a process is forgotten, or many others came after it.
pub struct Executions {
    known: HashMap<Key, Details>,
    older: HashMap<Key, Details>,
    bytes: usize,
    containers: Arc<Containers>,
}

impl Executions {
    pub fn new() -> Self {
        Self { known: HashMap::new(), older: HashMap::new(), bytes: 0, containers: Containers::of_machine() }
    }

    /// Takes a record, without arguments: the script is known by then.
    pub fn learn(&mut self, described: &Described) {
        let details = Details { arguments: None, ..Details::from_record(described, &self.containers) };
        self.keep((described.key.tgid, described.key.start_time_ns), details);
    }

    /// What a process executed last.
    pub fn get(&self, key: Key) -> Option<&Details> {
        self.known.get(&key).or_else(|| self.older.get(&key))
    }

    /// The same with what its container is called, as far as that is known. It is kept for longer then.
    pub fn with_names(&mut self, key: Key) -> Option<Details> {
        if let Some(details) = self.older.remove(&key)
            && !self.known.contains_key(&key)
        {
            self.keep(key, details);
        }
        let mut details = self.get(key)?.clone();
        if let Some(place) = &details.place {
            details.names = self.containers.names(place, Duration::ZERO);
        }
        Some(details)
    }

    /// Of a process that has ended, and has a name.
    pub fn forget(&mut self, key: Key) {
        self.remove(key);
        self.older.remove(&key);
    }

    fn keep(&mut self, key: Key, details: Details) {
        self.remove(key);
        self.bytes += bytes(&details);
        self.known.insert(key, details);
        if self.bytes > MAX_BYTES {
            self.older = std::mem::take(&mut self.known);
            self.bytes = 0;
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(details) = self.known.remove(&key) {
            self.bytes = self.bytes.saturating_sub(bytes(&details));
        }
    }
}

/// An estimate, with what a map and its parents take.
fn bytes(details: &Details) -> usize {
    let texts = [&details.exe, &details.script, &details.cgroup, &details.unit, &details.container];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    texts + size_of::<(Key, Details)>() * 2 + details.parents.len() * 64
}

#[cfg(test)]
mod tests {
    use nettop_common::OwnerKey;

    use super::*;

    fn described(tgid: u32, program: &[u8], arguments: &[&[u8]]) -> Described {
        Described {
            key: OwnerKey { tgid, start_time_ns: 5, uid: 0 },
            program: Some(program.to_vec()),
            arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
            ..Described::default()
        }
    }

    #[test]
    fn who_executed_something_has_its_program_and_script_until_it_is_forgotten() {
        let mut executions = Executions::new();
        executions.learn(&described(7, b"/usr/bin/dash", &[b"sh"]));
        executions.learn(&described(7, b"/usr/bin/bash", &[b"bash", b"/srv/backup.sh", b"--key=secret"]));
        let known = executions.get((7, 5)).unwrap();
        assert_eq!((known.exe.as_deref(), known.script.as_deref()), (Some("/usr/bin/bash"), Some("/srv/backup.sh")));
        assert_eq!((&known.arguments, executions.get((7, 6)).is_none()), (&None, true), "another process had the pid");
        executions.forget((7, 5));
        assert!(executions.get((7, 5)).is_none());
    }

    #[test]
    fn many_take_no_more_room_than_there_is() {
        let mut executions = Executions::new();
        let program = [&b"/"[..], &b"x".repeat(2000)].concat();
        for tgid in 1..10_000 {
            executions.learn(&described(tgid, &program, &[]));
        }
        let number = executions.known.len() + executions.older.len();
        assert!(number * 2000 <= 2 * MAX_BYTES && number > 1000, "{number}");
        assert!(executions.get((9999, 5)).is_some() && executions.get((1, 5)).is_none());
    }

    #[test]
    fn one_that_executes_again_and_again_takes_no_room_of_others_and_one_that_is_asked_for_stays() {
        let mut executions = Executions::new();
        executions.learn(&described(1, b"/usr/bin/bash", &[b"bash", b"/srv/backup.sh"]));
        for _ in 0..10_000 {
            executions.learn(&described(2, b"/usr/bin/env", &[]));
        }
        assert!(executions.older.is_empty());
        executions.forget((1, 5));
        executions.forget((2, 5));
        assert_eq!((executions.bytes, executions.known.len()), (0, 0));
        executions.learn(&described(1, b"/usr/bin/bash", &[b"bash", b"/srv/backup.sh"]));
        for tgid in 2..20_000 {
            executions.learn(&described(tgid, b"/usr/bin/true", &[]));
            if tgid % 500 == 0 {
                assert!(executions.with_names((1, 5)).is_some());
            }
        }
        assert_eq!(executions.get((1, 5)).and_then(|details| details.script.as_deref()), Some("/srv/backup.sh"));
    }
}
