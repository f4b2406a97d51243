//! What is known of a process beside its name.

use std::sync::Arc;

use nettop_common::process::Ancestor;
use nettop_kernel::processes::Described;
use nettop_model::{ContainerNames, Named, snapshot::Parent};

use crate::{
    identity::{
        cgroup,
        containers::{Container, Containers},
        script::script,
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
        let program = described.program.as_ref().map(|path| escape(path));
        let cgroup = described.cgroup.as_ref().map(|path| String::from_utf8_lossy(path)).filter(|path| path != "/");
        let parent = |ancestor: &Ancestor| Parent {
            pid: ancestor.tgid,
            start_time_ns: ancestor.start_time_ns,
            comm: escape_c(&ancestor.comm),
            uid: ancestor.uid,
        };
        Self {
            exe: program.map(|path| if described.is_deleted { path + " (deleted)" } else { path }),
            script: script(described).map(|path| escape(&path)),
            parents: described.ancestors.iter().map(parent).collect(),
            ..Self::in_cgroup(cgroup.as_deref(), containers)
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
