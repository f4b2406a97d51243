//! What is known of a process beside its name.

use std::sync::Arc;

use nettop_common::process::Ancestor;
use nettop_kernel::processes::Described;
use nettop_model::{ContainerNames, Login, Named, ProcessNames, Session, snapshot::Parent};

use crate::{
    identity::{
        cgroup,
        containers::{Container, Containers},
        script::{resolved, script},
    },
    sys::escape::{escape, escape_c},
};

/// Names, escaped; `None` where nobody recorded it, and the process was gone or its /proc entries are closed to us.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Details {
    pub exe: Option<String>,
    pub script: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
    /// Of the container, as far as they are known by now.
    pub names: Arc<ContainerNames>,
    /// Shared with reports: a name each.
    pub parents: Arc<[Parent]>,
    pub login: Arc<Login>,
    /// Not for everybody to see: they may hold secrets.
    pub arguments: Option<Arc<[String]>>,
    pub(super) place: Option<Arc<Container>>,
}

impl Details {
    /// What it can be selected by.
    pub fn named(&self) -> Named<'_> {
        Named {
            comm: "",
            unit: self.unit.as_deref(),
            container: self.container.as_deref(),
            container_name: self.names.container_name.as_deref(),
            pod: self.names.pod.as_deref(),
        }
    }

    /// From what the kernel side recorded. Where systemd does not use cgroup2, that knows no unit.
    pub(super) fn from_record(described: &Described, containers: &Arc<Containers>) -> Self {
        let program = described.program.as_ref().map(|path| path_of_bytes(path));
        let cgroup = described.cgroup.as_ref().map(|path| String::from_utf8_lossy(path));
        let cgroup = cgroup.filter(|path| path != "/" && escape(path.as_bytes()).len() <= MAX_PATH_BYTES);
        let parent = |ancestor: &Ancestor| Parent {
            pid: ancestor.tgid,
            start_time_ns: ancestor.start_time_ns,
            comm: escape_c(&ancestor.comm),
            uid: ancestor.uid,
        };
        Self {
            exe: program.map(|path| if described.is_deleted { path + " (deleted)" } else { path }),
            script: script(described).map(|path| path_of_bytes(&resolved(path, described.directory.as_deref()))),
            parents: described.ancestors.iter().map(parent).collect(),
            login: Arc::new(login(described)),
            arguments: arguments(described),
            ..Self::in_cgroup(cgroup.as_deref(), containers)
        }
    }

    /// All but the name, with arguments if they were asked for.
    pub fn into_names(self, with_arguments: bool) -> ProcessNames {
        ProcessNames {
            exe: self.exe,
            script: self.script,
            cgroup: self.cgroup,
            unit: self.unit,
            container: self.container,
            names: self.names,
            parents: self.parents,
            login: self.login,
            arguments: self.arguments.filter(|_| with_arguments),
        }
    }

    /// Whether the program's path is known from its root on.
    pub(super) fn has_whole_exe(&self) -> bool {
        self.exe.as_ref().is_some_and(|exe| exe.starts_with('/'))
    }

    /// By the path of the cgroup.
    pub(super) fn in_cgroup(cgroup: Option<&str>, containers: &Arc<Containers>) -> Self {
        let place = cgroup.and_then(cgroup::place);
        Self {
            unit: cgroup.and_then(cgroup::unit).map(|unit| escape(unit.as_bytes())),
            container: place.as_ref().and_then(|place| place.container.as_deref()).map(|id| escape(id.as_bytes())),
            cgroup: cgroup.map(|path| escape(path.as_bytes())),
            place: place.map(|place| containers.find(place)),
            ..Self::default()
        }
    }
}

/// Most bytes of a path, escaped: more than the record has of one. Each process has its own, and a hostile one is four times
/// as long as its bytes.
const MAX_PATH_BYTES: usize = 2560;

/// Escaped. Of one that is too long then the end is left, behind `...`, as of one that is too long for the record.
fn path_of_bytes(path: &[u8]) -> String {
    let text = escape(path);
    let Some(from) = text.len().checked_sub(MAX_PATH_BYTES) else { return text };
    // A component has 255 B at most, and each becomes four.
    let rest = text.char_indices().find(|(at, c)| *at >= from && *c == '/').map_or("", |(at, _)| &text[at..]);
    format!("...{rest}")
}

fn login(described: &Described) -> Login {
    let session = described.session.map(|leader| {
        let is_there = leader.start_time_ns != 0;
        Session {
            pid: leader.tgid,
            start_time_ns: is_there.then_some(leader.start_time_ns),
            comm: is_there.then(|| escape_c(&leader.comm)),
        }
    });
    Login { login_uid: described.login_uid, session }
}

/// In the place of those that are not whole, or too many.
const MORE: &str = "...";
/// Arguments that are kept: each takes memory of its own, for each process.
const MAX_ARGUMENTS: usize = 16;

/// Escaped, as far as they were read.
pub(super) fn arguments(described: &Described) -> Option<Arc<[String]>> {
    let is_cut = described.are_arguments_cut || described.arguments.len() > MAX_ARGUMENTS;
    let all = described.arguments.iter().take(MAX_ARGUMENTS).map(|argument| escape(argument));
    let all: Arc<[String]> = all.chain(is_cut.then(|| MORE.to_owned())).collect();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_path_takes_no_more_room_than_a_long_one() {
        assert_eq!(path_of_bytes(b"/usr/bin/curl"), "/usr/bin/curl");
        let long = [&b"/\xff".repeat(700)[..], b"/", &b"\xff".repeat(255)].concat();
        let text = path_of_bytes(&long);
        assert!(text.len() <= MAX_PATH_BYTES + MORE.len(), "{}", text.len());
        assert!(text.starts_with(".../\\xff/") && text.ends_with(&"\\xff".repeat(255)), "{text}");
    }
}
