//! Names of the shown rows: read one by one, and folded at once.

use nettop_model::{By, ContainerNames};
use rusqlite::{Connection, OptionalExtension as _, Row, Statement};

use super::AnswerRow;
use crate::slot::{Ancestor, Device, Login, OTHER, Who};

/// More of one process are not recorded.
const MAX_RECORDED_ANCESTORS: usize = 8;

/// In the order of numbers: the last name of a process stays.
pub(super) fn read(connection: &Connection, by: By, rows: &mut [AnswerRow]) -> rusqlite::Result<()> {
    let mut is_new = vec![true; rows.len()];
    let device = "d.netns, d.netns_cookie, d.ifindex, d.name";
    let query = match by {
        By::Device => {
            format!("SELECT m.shown, {device} FROM member m CROSS JOIN device d ON d.id = m.number ORDER BY m.number")
        }
        _ => format!(
            "SELECT m.shown, {device}, p.pid, p.start_time_ns, p.uid, g.comm, g.exe, g.unit, g.cgroup, g.container,
                 g.script, p.parent, c.name, c.image, c.runtime, c.pod, c.pod_container, c.workload,
                 l.login_uid, l.session, l.session_start_time_ns, l.session_comm, l.arguments
             FROM member m CROSS JOIN process p ON p.id = m.number CROSS JOIN program g ON g.id = p.program
             CROSS JOIN device d ON d.id = p.device LEFT JOIN container c ON c.id = g.container
             LEFT JOIN login l ON l.process = p.id ORDER BY m.number"
        ),
    };
    let mut ancestors = Ancestors::new(connection)?;
    let mut statement = connection.prepare(&query)?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let number: i64 = row.get(0)?;
        let Some(shown) = at(rows, number) else { continue };
        let is_first = usize::try_from(number - 1).is_ok_and(|at| std::mem::replace(&mut is_new[at], false));
        let device = Device { netns: row.get(1)?, netns_cookie: row.get(2)?, ifindex: row.get(3)?, name: row.get(4)? };
        if by == By::Device {
            shown.name = device.name.clone().unwrap_or_else(|| "-".into());
            shown.who.device = device;
            continue;
        }
        let who = Who {
            pid: row.get(5)?,
            start_time_ns: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
            uid: row.get(7)?,
            comm: row.get(8)?,
            exe: row.get(9)?,
            unit: row.get(10)?,
            cgroup: row.get(11)?,
            container: row.get(12)?,
            script: row.get(13)?,
            parents: ancestors.read(row.get(14)?)?,
            login: Login {
                login_uid: row.get(21)?,
                session: row.get(22)?,
                session_start_time_ns: row.get::<_, Option<i64>>(23)?.map(i64::cast_unsigned),
                session_comm: row.get(24)?,
                arguments: row.get(25)?,
            },
            device,
        };
        let container = ContainerNames {
            container_name: row.get(15)?,
            image: row.get(16)?,
            runtime: row.get::<_, Option<String>>(17)?.map(Into::into),
            pod: row.get(18)?,
            pod_container: row.get(19)?,
            workload: row.get(20)?,
        };
        let is_one_process = by == By::Process && who.pid != 0;
        if is_first || is_one_process {
            shown.name = name(by, &who, &container);
        }
        match (is_first, is_one_process) {
            (true, _) => (shown.who, shown.container) = (who, container),
            (false, true) => {
                if who.container.is_some() {
                    shown.container = container;
                }
                shown.who.learn(who);
            }
            (false, false) => {
                shown.who.keep_common(&who);
                keep_common_names(&mut shown.container, &container);
            }
        }
    }
    Ok(())
}

/// As SQL distinguishes the groups.
fn name(by: By, who: &Who, container: &ContainerNames) -> String {
    let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
    match by {
        // Drops that are nobody's.
        _ if who.pid == 0 && who.comm.is_empty() => "-".into(),
        // What did not fit in a slot has no single unit.
        _ if who.pid == 0 && who.comm == OTHER => OTHER.into(),
        By::Process | By::Device => who.comm.clone(),
        By::Program => match &who.exe {
            None if who.comm.is_empty() => "-".into(),
            exe => exe.clone().unwrap_or_else(|| who.comm.clone()),
        },
        By::Unit => or_none(&who.unit),
        By::User => who.uid.map_or_else(|| "-".into(), |uid| uid.to_string()),
        By::Container => {
            or_none(if container.container_name.is_some() { &container.container_name } else { &who.container })
        }
        By::Script => or_none(&who.script),
        By::Parent => or_none(&who.parents.iter().find(|parent| !parent.passes_on).map(|parent| parent.comm.clone())),
        By::Pod => or_none(&container.pod),
    }
}

/// Reads ancestors by their numbers.
pub(super) struct Ancestors<'a> {
    statement: Statement<'a>,
    /// Many processes have the same.
    last: (Option<i64>, Vec<Ancestor>),
}

impl<'a> Ancestors<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        let query = "SELECT pid, start_time_ns, uid, comm, starter IS NOT comm, parent FROM ancestor WHERE id = ?1";
        Ok(Self { statement: connection.prepare(query)?, last: (None, Vec::new()) })
    }

    /// The first has this number.
    pub(super) fn read(&mut self, number: Option<i64>) -> rusqlite::Result<Vec<Ancestor>> {
        if self.last.0 != number {
            let (mut next, mut ancestors) = (number, Vec::new());
            // A damaged file may have a circle.
            while let Some(number) = next.take().filter(|_| ancestors.len() < MAX_RECORDED_ANCESTORS) {
                let read = |row: &Row<'_>| {
                    let ancestor = Ancestor {
                        pid: row.get(0)?,
                        start_time_ns: row.get::<_, i64>(1)?.cast_unsigned(),
                        uid: row.get(2)?,
                        comm: row.get(3)?,
                        passes_on: row.get(4)?,
                    };
                    Ok((ancestor, row.get(5)?))
                };
                let Some((ancestor, above)) = self.statement.query_row([number], read).optional()? else { break };
                ancestors.push(ancestor);
                next = above;
            }
            self.last = (number, ancestors);
        }
        Ok(self.last.1.clone())
    }
}

impl Who {
    /// Takes what is known of the same process later.
    fn learn(&mut self, later: Self) {
        self.comm = later.comm;
        self.exe = later.exe.or(self.exe.take());
        self.script = later.script.or(self.script.take());
        if !later.parents.is_empty() {
            self.parents = later.parents;
        }
        self.login.learn(later.login);
        self.unit = later.unit.or(self.unit.take());
        self.cgroup = later.cgroup.or(self.cgroup.take());
        self.container = later.container.or(self.container.take());
        self.keep_common_device(&later.device);
    }

    fn keep_common_device(&mut self, other: &Device) {
        if self.device != *other {
            let name = self.device.name.take().filter(|name| other.name.as_ref() == Some(name));
            self.device = Device { name, ..Device::default() };
        }
    }

    /// Keeps what another has as well.
    fn keep_common(&mut self, other: &Self) {
        if (self.pid, self.start_time_ns) != (other.pid, other.start_time_ns) {
            (self.pid, self.start_time_ns) = (0, None);
        }
        common(&mut self.uid, other.uid.as_ref());
        common(&mut self.exe, other.exe.as_ref());
        common(&mut self.script, other.script.as_ref());
        if self.parents != other.parents {
            self.parents.clear();
        }
        self.login.keep_common(&other.login);
        common(&mut self.unit, other.unit.as_ref());
        common(&mut self.cgroup, other.cgroup.as_ref());
        common(&mut self.container, other.container.as_ref());
        self.keep_common_device(&other.device);
    }
}

impl Login {
    /// Takes what is known of the same process later.
    fn learn(&mut self, later: Self) {
        self.login_uid = later.login_uid.or(self.login_uid);
        if later.session.is_some() {
            self.session = later.session;
            self.session_start_time_ns = later.session_start_time_ns;
            self.session_comm = later.session_comm;
        }
        self.arguments = later.arguments.or(self.arguments.take());
    }

    /// Keeps what another has as well.
    fn keep_common(&mut self, other: &Self) {
        common(&mut self.login_uid, other.login_uid.as_ref());
        if (self.session, self.session_start_time_ns) != (other.session, other.session_start_time_ns) {
            (self.session, self.session_start_time_ns, self.session_comm) = (None, None, None);
        }
        common(&mut self.arguments, other.arguments.as_ref());
    }
}

/// Keeps what another has as well.
fn keep_common_names(mine: &mut ContainerNames, other: &ContainerNames) {
    common(&mut mine.container_name, other.container_name.as_ref());
    common(&mut mine.image, other.image.as_ref());
    common(&mut mine.runtime, other.runtime.as_ref());
    common(&mut mine.pod, other.pod.as_ref());
    common(&mut mine.pod_container, other.pod_container.as_ref());
    common(&mut mine.workload, other.workload.as_ref());
}

fn common<T: PartialEq>(mine: &mut Option<T>, theirs: Option<&T>) {
    if mine.as_ref() != theirs {
        *mine = None;
    }
}

/// The row that has a number in `shown`.
pub(super) fn at(rows: &mut [AnswerRow], shown: i64) -> Option<&mut AnswerRow> {
    rows.get_mut(usize::try_from(shown - 1).ok()?)
}
