//! Columns of CSV for what a process is beside its name.

use nettop_model::ProcessNames;
use serde::Serialize;

use super::cells::{Arguments, Parents, Text, session};

/// Of streams and drops, behind their own.
#[derive(Serialize, Default)]
pub struct ProcessColumns<'a> {
    exe: Text<'a>,
    script: Text<'a>,
    parents: Parents<'a>,
    cgroup: Text<'a>,
    unit: Text<'a>,
    container: Text<'a>,
    container_name: Text<'a>,
    image: Text<'a>,
    runtime: Text<'a>,
    pod: Text<'a>,
    pod_container: Text<'a>,
    workload: Text<'a>,
    login_uid: Option<u32>,
    session: Option<u32>,
    session_comm: Text<'a>,
    argv: Arguments<'a>,
}

impl<'a> From<&'a ProcessNames> for ProcessColumns<'a> {
    fn from(process: &'a ProcessNames) -> Self {
        let ProcessNames { exe, script, cgroup, unit, container, names, parents, login, arguments } = process;
        let (session, session_comm) = session(login);
        Self {
            exe: Text(exe.as_deref()),
            script: Text(script.as_deref()),
            parents: Parents(parents),
            cgroup: Text(cgroup.as_deref()),
            unit: Text(unit.as_deref()),
            container: Text(container.as_deref()),
            container_name: Text(names.container_name.as_deref()),
            image: Text(names.image.as_deref()),
            runtime: Text(names.runtime.as_deref()),
            pod: Text(names.pod.as_deref()),
            pod_container: Text(names.pod_container.as_deref()),
            workload: Text(names.workload.as_deref()),
            login_uid: login.login_uid,
            session,
            session_comm,
            argv: Arguments(arguments.as_deref()),
        }
    }
}
