//! Names are kept once and numbered; the numbers of this boot's rows are remembered while they are used.

mod table;

use nettop_model::ContainerNames;
use rusqlite::{Connection, params};

use self::table::Table;
use crate::slot::{Ancestor, Device, DropKind, Login, Who};

/// Numbers of one boot's names.
pub struct Names {
    boot: i64,
    programs: Table,
    devices: Table,
    kinds: Table,
    processes: Table,
    ancestors: Table,
    /// Hashes of what was noted last, by the process's number.
    logins: Table<u128>,
    /// The same of their names, by the container's id.
    containers: Table<u128>,
}

/// Processes that have these numbers in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crowd {
    pub program: i64,
    pub uid: Option<u32>,
    pub device: i64,
}

/// comm, exe, unit, cgroup, container, script.
type Program = (String, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
/// pid, start time, uid, program, device, parent.
type Process = (u32, Option<i64>, Option<u32>, i64, i64, Option<i64>);
/// pid, start time, uid, comm, parent.
type Above = (u32, i64, u32, String, Option<i64>);

impl Names {
    /// Those of a boot in the file.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the file, as when it is damaged.
    pub fn read(connection: &Connection, boot: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            boot,
            programs: Table::read::<Program>(
                connection,
                "SELECT id, comm, exe, unit, cgroup, container, script FROM program",
                boot,
                |row| Ok(((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?), row.get(0)?)),
            )?,
            devices: Table::read(
                connection,
                "SELECT id, netns, netns_cookie, ifindex, name FROM device WHERE boot = ?1",
                boot,
                |row| {
                    let device = Device {
                        netns: row.get(1)?,
                        netns_cookie: row.get(2)?,
                        ifindex: row.get(3)?,
                        name: row.get(4)?,
                    };
                    Ok((device, row.get(0)?))
                },
            )?,
            kinds: Table::read(
                connection,
                "SELECT id, reason, class, location, protocol FROM drop_kind",
                boot,
                |row| {
                    let kind = DropKind {
                        reason: row.get(1)?,
                        class: row.get(2)?,
                        location: row.get(3)?,
                        protocol: row.get(4)?,
                    };
                    Ok((kind, row.get(0)?))
                },
            )?,
            processes: Table::read::<Process>(
                connection,
                "SELECT id, pid, start_time_ns, uid, program, device, parent FROM process WHERE boot = ?1",
                boot,
                |row| Ok(((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?), row.get(0)?)),
            )?,
            ancestors: Table::read::<Above>(
                connection,
                "SELECT id, pid, start_time_ns, uid, comm, parent FROM ancestor WHERE boot = ?1",
                boot,
                |row| Ok(((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?), row.get(0)?)),
            )?,
            logins: Table::default(),
            containers: Table::default(),
        })
    }

    /// Forgets what was not used for long, where there is much: to be called after a write.
    pub fn forget_unused(&mut self) {
        self.programs.forget_unused();
        self.devices.forget_unused();
        self.kinds.forget_unused();
        self.processes.forget_unused();
        self.ancestors.forget_unused();
        self.logins.forget_unused();
        self.containers.forget_unused();
    }

    /// Whose names these are.
    pub const fn boot(&self) -> i64 {
        self.boot
    }

    /// The number of a process; a new one is inserted.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back, and to read the names
    /// again: some may have numbers that the file lacks.
    pub fn process(&mut self, connection: &Connection, who: &Who, ts: i64) -> rusqlite::Result<i64> {
        let Who { comm, exe, unit, cgroup, container, script, .. } = who;
        let program = self.programs.number(&(comm, exe, unit, cgroup, container, script), || {
            connection
                .prepare_cached("INSERT OR IGNORE INTO container(id) SELECT ?1 WHERE ?1 IS NOT NULL")?
                .execute([container])?;
            insert(
                connection,
                "INSERT INTO program(comm, exe, unit, cgroup, container, script) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                params![comm, exe, unit, cgroup, container, script],
            )
        })?;
        let device = self.device(connection, &who.device)?;
        let parent = self.parent(connection, &who.parents)?;
        let start = who.start_time_ns.map(u64::cast_signed);
        let boot = self.boot;
        let process = (who.pid, start, who.uid, program, device, parent);
        let number = self.processes.number(&process, || {
            insert(
                connection,
                "INSERT INTO process(boot, pid, start_time_ns, uid, program, device, last, parent)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![boot, who.pid, start, who.uid, program, device, ts, parent],
            )
        })?;
        self.login(connection, number, &who.login)?;
        Ok(number)
    }

    /// The number of a crowd; a new one is inserted.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`Self::process`].
    pub fn crowd(
        &mut self,
        connection: &Connection,
        Crowd { program, uid, device }: Crowd,
        parent: Option<i64>,
        ts: i64,
    ) -> rusqlite::Result<i64> {
        let boot = self.boot;
        let process: Process = (0, None, uid, program, device, parent);
        self.processes.number(&process, || {
            insert(
                connection,
                "INSERT INTO process(boot, pid, uid, program, device, last, parent) VALUES(?1, 0, ?2, ?3, ?4, ?5, ?6)",
                params![boot, uid, program, device, ts, parent],
            )
        })
    }

    /// Notes how a process came to be. What is not known now may have been known before.
    fn login(&mut self, connection: &Connection, process: i64, login: &Login) -> rusqlite::Result<()> {
        if *login == Login::default() || self.logins.has(&process, login) {
            return Ok(());
        }
        let Login { login_uid, session, session_start_time_ns, session_comm, arguments } = login;
        let session_start_time_ns = session_start_time_ns.map(u64::cast_signed);
        connection
            .prepare_cached(
                "INSERT INTO login(process, login_uid, session, session_start_time_ns, session_comm, arguments)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT(process) DO UPDATE SET
                     login_uid = coalesce(excluded.login_uid, login_uid), session = coalesce(excluded.session, session),
                     session_start_time_ns = coalesce(excluded.session_start_time_ns, session_start_time_ns),
                     session_comm = coalesce(excluded.session_comm, session_comm),
                     arguments = coalesce(excluded.arguments, arguments)",
            )?
            .execute(params![process, login_uid, session, session_start_time_ns, session_comm, arguments])?;
        self.logins.note(&process, login);
        Ok(())
    }

    /// Notes what a container with rows is called. What is not known now may have been known before.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`Self::process`].
    pub fn container(&mut self, connection: &Connection, id: &str, names: &ContainerNames) -> rusqlite::Result<()> {
        if self.containers.has(&id, names) {
            return Ok(());
        }
        let ContainerNames { container_name, image, runtime, pod, pod_container, workload } = names;
        let mut update = connection.prepare_cached(
            "UPDATE container SET name = coalesce(?2, name), image = coalesce(?3, image), runtime = coalesce(?4, runtime),
                 pod = coalesce(?5, pod), pod_container = coalesce(?6, pod_container), workload = coalesce(?7, workload)
             WHERE id = ?1",
        )?;
        if update.execute(params![id, container_name, image, runtime, pod, pod_container, workload])? > 0 {
            self.containers.note(&id, names);
        }
        Ok(())
    }

    /// The number of the first of them, of which each is inserted with the one above it.
    fn parent(&mut self, connection: &Connection, parents: &[Ancestor]) -> rusqlite::Result<Option<i64>> {
        let boot = self.boot;
        let (mut above, mut starter) = (None, None);
        for ancestor in parents.iter().rev() {
            if !ancestor.passes_on {
                starter = Some(&ancestor.comm);
            }
            let Ancestor { pid, start_time_ns, uid, comm, .. } = ancestor;
            let (start, parent) = (start_time_ns.cast_signed(), above);
            above = Some(self.ancestors.number(&(pid, start, uid, comm, parent), || {
                insert(
                    connection,
                    "INSERT INTO ancestor(boot, pid, start_time_ns, uid, comm, starter, parent) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![boot, pid, start, uid, comm, starter, parent],
                )
            })?);
        }
        Ok(above)
    }

    /// The number of a device.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`Self::process`].
    pub fn device(&mut self, connection: &Connection, device: &Device) -> rusqlite::Result<i64> {
        let boot = self.boot;
        self.devices.number(device, || {
            insert(
                connection,
                "INSERT INTO device(boot, netns, netns_cookie, ifindex, name) VALUES(?1, ?2, ?3, ?4, ?5)",
                params![boot, device.netns, device.netns_cookie, device.ifindex, device.name],
            )
        })
    }

    /// The number of a kind of drops.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`Self::process`].
    pub fn kind(&mut self, connection: &Connection, kind: &DropKind) -> rusqlite::Result<i64> {
        self.kinds.number(kind, || {
            insert(
                connection,
                "INSERT INTO drop_kind(reason, class, location, protocol) VALUES(?1, ?2, ?3, ?4)",
                params![kind.reason, kind.class, kind.location, kind.protocol],
            )
        })
    }
}

fn insert(connection: &Connection, query: &str, values: &[&dyn rusqlite::ToSql]) -> rusqlite::Result<i64> {
    connection.prepare_cached(query)?.insert(values)
}

#[cfg(test)]
mod tests {
    use super::{table::MAX_USED_NAMES, *};
    use crate::schema;

    /// The file, and names of a boot in it.
    fn empty() -> (Connection, Names) {
        let mut connection = Connection::open_in_memory().unwrap();
        let transaction = connection.transaction().unwrap();
        schema::migrate(&transaction, 0).unwrap();
        transaction.commit().unwrap();
        connection
            .execute("INSERT INTO boot(id, boot_id, first_seen, host, kernel) VALUES(1, '', 0, '', '')", [])
            .unwrap();
        let names = Names::read(&connection, 1).unwrap();
        (connection, names)
    }

    fn number(connection: &Connection, names: &mut Names, pid: u32) -> i64 {
        let who = Who { pid, comm: "curl".into(), ..Who::default() };
        names.process(connection, &who, 0).unwrap()
    }

    #[test]
    fn of_very_many_those_are_remembered_that_are_used() {
        let many = u32::try_from(MAX_USED_NAMES).unwrap();
        let (connection, mut names) = empty();
        let first = number(&connection, &mut names, 0);
        let second = number(&connection, &mut names, 1);
        for round in 1..4 {
            for pid in round * many..(round + 1) * many {
                number(&connection, &mut names, pid);
            }
            names.forget_unused();
            assert_eq!(number(&connection, &mut names, 0), first);
            let Table { used, unused, .. } = &names.processes;
            assert!(used.len() + unused.len() <= 2 * MAX_USED_NAMES + 2, "{} and {}", used.len(), unused.len());
        }
        assert_ne!(number(&connection, &mut names, 1), second);
    }

    #[test]
    fn those_in_the_file_keep_their_numbers() {
        let (connection, mut names) = empty();
        let who = Who {
            pid: 7,
            start_time_ns: Some(1),
            uid: Some(2),
            comm: "curl".into(),
            exe: Some("/usr/bin/curl".into()),
            script: Some("/srv/fetch.sh".into()),
            unit: Some("fetch.service".into()),
            cgroup: Some("/system.slice/fetch.service".into()),
            container: Some("c0ffee".into()),
            parents: [Ancestor { pid: 3, start_time_ns: 4, uid: 5, comm: "sh".into(), passes_on: true }].into(),
            login: Login { login_uid: Some(6), session: Some(8), ..Login::default() },
            device: Device { netns: 9, netns_cookie: 10, ifindex: 11, name: Some("eth0".into()) },
        };
        let kind = DropKind {
            reason: "NO_SOCKET".into(),
            class: "policy".into(),
            location: "udp_rcv".into(),
            protocol: Some("UDP".into()),
        };
        let numbers = |names: &mut Names| {
            let process = names.process(&connection, &who, 0).unwrap();
            [process, names.device(&connection, &who.device).unwrap(), names.kind(&connection, &kind).unwrap()]
        };
        let before = numbers(&mut names);
        let mut again = Names::read(&connection, 1).unwrap();
        assert_eq!(numbers(&mut again), before);
        for table in ["program", "device", "drop_kind", "process", "ancestor"] {
            let rows: i64 =
                connection.query_one(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 1, "{table}");
        }
    }
}
