//! Which processes are wanted, by their names.

use std::collections::HashSet;

use crate::{ProcessResources, Snapshot, snapshot::RowReport};

/// What is wanted of each kind; none is everything.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// How the process's name begins.
    pub commands: Vec<String>,
    /// A unit, with or without `.service`.
    pub units: Vec<String>,
    /// A name, or how an id begins.
    pub containers: Vec<String>,
    /// `namespace/name`, or the name alone.
    pub pods: Vec<String>,
}

/// The names of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    pub comm: &'a str,
    pub unit: Option<&'a str>,
    pub container: Option<&'a str>,
    pub container_name: Option<&'a str>,
    pub pod: Option<&'a str>,
}

impl<'a> Named<'a> {
    pub fn from_row(row: &'a RowReport) -> Self {
        Self {
            comm: &row.comm,
            unit: row.process.unit.as_deref(),
            container: row.process.container.as_deref(),
            container_name: row.process.names.container_name.as_deref(),
            pod: row.process.names.pod.as_deref(),
        }
    }

    pub fn from_resources(of: &'a ProcessResources) -> Self {
        Self {
            comm: &of.comm,
            unit: of.unit.as_deref(),
            container: of.container.as_deref(),
            container_name: of.names.container_name.as_deref(),
            pod: of.names.pod.as_deref(),
        }
    }
}

impl Names {
    /// Whether everything is wanted.
    pub const fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.units.is_empty() && self.containers.is_empty() && self.pods.is_empty()
    }

    /// Whether a process is wanted.
    pub fn admits(&self, named: &Named<'_>) -> bool {
        fn any(wanted: &[String], is: impl Fn(&str) -> bool) -> bool {
            wanted.is_empty() || wanted.iter().any(|wanted| is(wanted))
        }
        let Named { comm, unit, container, container_name, pod } = *named;
        any(&self.commands, |wanted| comm.starts_with(wanted))
            && any(&self.units, |wanted| unit.is_some_and(|unit| is_unit(unit, wanted)))
            && any(&self.containers, |wanted| {
                container_name == Some(wanted)
                    || container.is_some_and(|id| !wanted.is_empty() && id.starts_with(wanted))
            })
            && any(&self.pods, |wanted| {
                pod.is_some_and(|pod| pod == wanted || pod.rsplit_once('/').is_some_and(|(_, name)| name == wanted))
            })
    }

    /// Pid and start time of the wanted processes; none if all are.
    pub(crate) fn processes(&self, snapshot: &Snapshot) -> Option<HashSet<(Option<u32>, Option<u64>)>> {
        let rows = snapshot.rows.iter().filter(|row| self.admits(&Named::from_row(row)));
        (!self.is_empty()).then(|| rows.map(|row| (Some(row.pid), row.start_time_ns)).collect())
    }

    /// Leaves of rows, drops and events those of the wanted processes.
    pub fn retain(&self, snapshot: &mut Snapshot) {
        let Some(processes) = self.processes(snapshot) else { return };
        snapshot.rows.retain(|row| self.admits(&Named::from_row(row)));
        snapshot.drops.retain(|drop| processes.contains(&(drop.pid, drop.start_time_ns)));
        snapshot.tcp.retain(|event| processes.contains(&(event.pid, event.start_time_ns)));
    }
}

fn is_unit(unit: &str, wanted: &str) -> bool {
    unit.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest == ".service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_wanted_by_each_kind_of_name() {
        let named = Named {
            comm: "nginx",
            unit: Some("web.service"),
            container: Some("0123abcd"),
            container_name: Some("front"),
            pod: Some("shop/front-1"),
        };
        let names = |kind: usize, wanted: &str| {
            let mut kinds = [const { Vec::new() }; 4];
            kinds[kind].push(wanted.to_owned());
            let [commands, units, containers, pods] = kinds;
            Names { commands, units, containers, pods }
        };
        for (kind, wanted) in
            [(0, "ng"), (1, "web"), (1, "web.service"), (2, "0123"), (2, "front"), (3, "shop/front-1"), (3, "front-1")]
        {
            assert!(names(kind, wanted).admits(&named), "{wanted}");
            assert!(!names(kind, wanted).admits(&Named::default()), "{wanted}");
        }
        for (kind, wanted) in [(0, "inx"), (1, "we"), (1, "service"), (2, "123"), (2, ""), (2, "fro"), (3, "front")] {
            assert!(!names(kind, wanted).admits(&named), "{wanted}");
        }
        assert!(Names::default().admits(&Named::default()));
    }
}
