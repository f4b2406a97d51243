//! Names are kept once and numbered; the numbers of this boot's rows are remembered.

use std::{collections::HashMap, hash::Hash};

use rusqlite::{Connection, params};

use crate::slot::{Ancestor, ContainerNames, Device, DropKind, Who};

/// Entries remembered per kind. A forgotten one gets a new number: readers group by identity.
const MAX_REMEMBERED_NAMES: usize = 65_536;

/// Numbers of one boot's names.
pub struct Names {
    boot: i64,
    programs: Table<Program>,
    devices: Table<Device>,
    kinds: Table<DropKind>,
    processes: Table<Process>,
    ancestors: Table<Above>,
    /// As they were noted last.
    containers: HashMap<String, ContainerNames>,
}

/// comm, exe, unit, cgroup, container, script.
type Program = (String, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
/// pid, start time, uid, program, device, parent.
type Process = (u32, Option<i64>, Option<u32>, i64, i64, Option<i64>);
/// pid, start time, uid, comm, parent.
type Above = (u32, i64, u32, String, Option<i64>);

struct Table<K> {
    numbers: HashMap<K, i64>,
}

impl<K: Eq + Hash> Table<K> {
    fn read(
        connection: &Connection,
        query: &str,
        boot: i64,
        entry: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<(K, i64)>,
    ) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare(&format!("{query} ORDER BY id DESC LIMIT {MAX_REMEMBERED_NAMES}"))?;
        let given = if statement.parameter_count() == 0 { &[][..] } else { &[boot][..] };
        let numbers = statement.query_map(rusqlite::params_from_iter(given), |row| entry(row))?;
        Ok(Self { numbers: numbers.collect::<Result<_, _>>()? })
    }

    fn number(&mut self, key: K, insert: impl FnOnce(&K) -> rusqlite::Result<i64>) -> rusqlite::Result<i64> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        if self.numbers.len() >= MAX_REMEMBERED_NAMES {
            self.numbers.clear();
        }
        let number = insert(&key)?;
        self.numbers.insert(key, number);
        Ok(number)
    }
}

impl Names {
    /// Those of a boot in the file.
    ///
    /// # Errors
    ///
    /// If SQLite cannot read the file, as when it is damaged.
    pub fn read(connection: &Connection, boot: i64) -> rusqlite::Result<Self> {
        Ok(Self {
            boot,
            programs: Table::read(
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
            processes: Table::read(
                connection,
                "SELECT id, pid, start_time_ns, uid, program, device, parent FROM process WHERE boot = ?1",
                boot,
                |row| Ok(((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?), row.get(0)?)),
            )?,
            ancestors: Table::read(
                connection,
                "SELECT id, pid, start_time_ns, uid, comm, parent FROM ancestor WHERE boot = ?1",
                boot,
                |row| Ok(((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?), row.get(0)?)),
            )?,
            containers: HashMap::new(),
        })
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
        let Who { comm, exe, unit, cgroup, container, script, .. } = who.clone();
        let program = (comm, exe, unit, cgroup, container, script);
        let program = self.programs.number(program, |(comm, exe, unit, cgroup, container, script)| {
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
        self.processes.number(process, |(pid, start, uid, program, device, parent)| {
            insert(
                connection,
                "INSERT INTO process(boot, pid, start_time_ns, uid, program, device, last, parent)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![boot, pid, start, uid, program, device, ts, parent],
            )
        })
    }

    /// Notes what a container with rows is called. What is not known now may have been known before.
    ///
    /// # Errors
    ///
    /// If SQLite refuses, as with a full disk or a damaged file. The caller is to act as for [`Self::process`].
    pub fn container(&mut self, connection: &Connection, id: &str, names: &ContainerNames) -> rusqlite::Result<()> {
        if self.containers.get(id) == Some(names) {
            return Ok(());
        }
        let ContainerNames { name, image, runtime, pod, pod_container, workload } = names;
        let mut update = connection.prepare_cached(
            "UPDATE container SET name = coalesce(?2, name), image = coalesce(?3, image), runtime = coalesce(?4, runtime),
                 pod = coalesce(?5, pod), pod_container = coalesce(?6, pod_container), workload = coalesce(?7, workload)
             WHERE id = ?1",
        )?;
        if update.execute(params![id, name, image, runtime, pod, pod_container, workload])? > 0 {
            if self.containers.len() >= MAX_REMEMBERED_NAMES {
                self.containers.clear();
            }
            self.containers.insert(id.to_owned(), names.clone());
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
            let key = (*pid, start_time_ns.cast_signed(), *uid, comm.clone(), above);
            above = Some(self.ancestors.number(key, |(pid, start, uid, comm, parent)| {
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
        if let Some(number) = self.devices.numbers.get(device) {
            return Ok(*number);
        }
        let boot = self.boot;
        self.devices.number(device.clone(), |device| {
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
        if let Some(number) = self.kinds.numbers.get(kind) {
            return Ok(*number);
        }
        self.kinds.number(kind.clone(), |kind| {
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
