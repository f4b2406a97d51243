//! One recorded slot after the other, as it was measured: for whoever goes through the record step by step.

use nettop_model::ContainerNames;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{names::Ancestors, reader::Reader};
use crate::{
    plan::Resolution,
    slot::{Counters, Device, DeviceBalance, DirectionBalance, DropKind, Dropped, Login, Who},
    usage::{Disk, DiskUsage, HostUsage, Usage, add_disk, keep_busiest},
};

/// A recorded slot, minute or hour, by the finest that is kept of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub resolution: Resolution,
    /// Its begin.
    pub ts: i64,
}

impl Bucket {
    /// The first second that is not in it.
    pub const fn end(self) -> i64 {
        self.ts + self.resolution.seconds()
    }
}

/// What it has.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub bucket: Bucket,
    pub host: String,
    pub kernel: String,
    pub boot_id: String,
    pub measured_ms: u64,
    pub rows: Vec<(Who, ContainerNames, Counters)>,
    pub devices: Vec<(Device, DeviceBalance)>,
    pub drops: Vec<(DropKind, Who, Dropped)>,
    /// What processes used, and the host; where that was recorded.
    pub usage: Vec<(Who, ContainerNames, Usage)>,
    pub host_usage: Option<HostUsage>,
    pub disks: Vec<(Disk, DiskUsage)>,
    /// By cause.
    pub losses: Vec<(String, u64)>,
}

/// Of a process, its program, device and container; as [`read_who`] expects them.
const WHO: &str =
    "d.netns, d.netns_cookie, d.ifindex, d.name, p.pid, p.start_time_ns, p.uid, g.comm, g.exe, g.script, g.unit,
     g.cgroup, g.container, p.parent, c.name, c.image, c.runtime, c.pod, c.pod_container, c.workload,
     l.login_uid, l.session, l.session_start_time_ns, l.session_comm, l.arguments";
const WHO_COLUMNS: usize = 25;
const JOINS: &str =
    "JOIN process p ON p.id = s.process JOIN program g ON g.id = p.program JOIN device d ON d.id = p.device
     LEFT JOIN container c ON c.id = g.container LEFT JOIN login l ON l.process = p.id";

impl Reader {
    /// The last `most` buckets that begin at this time or before it, the oldest first.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn buckets_until(&self, at: i64, most: usize) -> anyhow::Result<Vec<Bucket>> {
        let mut buckets = self.buckets("ts <= ?3 ORDER BY ts DESC", at, most)?;
        buckets.reverse();
        Ok(buckets)
    }

    /// The first `most` buckets that begin at this time or after it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn buckets_from(&self, at: i64, most: usize) -> anyhow::Result<Vec<Bucket>> {
        self.buckets("ts >= ?3 ORDER BY ts", at, most)
    }

    fn buckets(&self, which: &str, at: i64, most: usize) -> anyhow::Result<Vec<Bucket>> {
        let kept = self.kept()?;
        // What is coarser answers for what is older: a time is in one bucket only.
        let slots_from = Resolution::Minute.ceil(kept.from[0]);
        let minutes_from = Resolution::Hour.ceil(kept.from[1]).min(slots_from);
        let query = format!(
            "SELECT ts, resolution FROM (SELECT ts, 0 AS resolution FROM tick_10s WHERE ts >= ?1
                 UNION ALL SELECT ts, 1 FROM tick_1m WHERE ts >= ?2 AND ts < ?1
                 UNION ALL SELECT ts, 2 FROM tick_1h WHERE ts < ?2)
             WHERE {which} LIMIT ?4"
        );
        let mut statement = self.connection.prepare(&query)?;
        let read = |row: &Row<'_>| {
            let resolution = Resolution::ALL[usize::from(row.get::<_, u8>(1)?.min(2))];
            Ok(Bucket { ts: row.get(0)?, resolution })
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let found = statement.query_map(params![slots_from, minutes_from, at, most], read)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// All that is recorded of a bucket; ancestors of processes only `with_ancestors`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn recorded(&self, bucket: Bucket, with_ancestors: bool) -> anyhow::Result<Recorded> {
        // All of the same moment.
        let transaction = self.connection.unchecked_transaction()?;
        let suffix = bucket.resolution.suffix();
        let query = "SELECT b.host, b.kernel, b.boot_id FROM session s JOIN boot b ON b.id = s.boot
             WHERE s.started < ?1 ORDER BY s.id DESC LIMIT 1";
        let origin: Option<(String, String, String)> = self
            .connection
            .query_row(query, [bucket.end()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let (host, kernel, boot_id) = origin.unwrap_or_default();
        let query = format!("SELECT measured_ms FROM tick_{suffix} WHERE ts = ?1");
        let measured_ms: Option<i64> = self.connection.query_row(&query, [bucket.ts], |row| row.get(0)).optional()?;
        let recorded = Recorded {
            bucket,
            host,
            kernel,
            boot_id,
            measured_ms: measured_ms.unwrap_or(0).max(0).unsigned_abs(),
            rows: self.rows_of(bucket, with_ancestors)?,
            devices: self.devices_of(bucket)?,
            drops: self.drops_of(bucket)?,
            usage: self.usage_of(bucket, with_ancestors)?,
            host_usage: self.host_of(bucket)?,
            disks: self.disks_of(bucket)?,
            losses: self.losses_of(bucket)?,
        };
        transaction.rollback()?;
        Ok(recorded)
    }

    fn rows_of(&self, bucket: Bucket, with_ancestors: bool) -> anyhow::Result<Vec<(Who, ContainerNames, Counters)>> {
        let query = format!(
            "SELECT {WHO}, s.tx_bytes, s.rx_bytes, s.tx_packets, s.rx_packets, s.tx_app_bytes, s.rx_app_bytes
             FROM sample_{} s {JOINS} WHERE s.ts = ?1 ORDER BY s.process",
            bucket.resolution.suffix()
        );
        let mut ancestors = if with_ancestors { Some(Ancestors::new(&self.connection)?) } else { None };
        let mut statement = self.connection.prepare(&query)?;
        let mut found = statement.query([bucket.ts])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let (mut who, container) = read_who(row)?;
            if let Some(ancestors) = &mut ancestors {
                who.parents = ancestors.read(row.get(13)?)?;
            }
            let number = |at: usize| amount(row, WHO_COLUMNS + at);
            let counters = Counters {
                tx_bytes: number(0)?,
                rx_bytes: number(1)?,
                tx_packets: number(2)?,
                rx_packets: number(3)?,
                tx_app_bytes: number(4)?,
                rx_app_bytes: number(5)?,
            };
            rows.push((who, container, counters));
        }
        Ok(rows)
    }

    fn usage_of(&self, bucket: Bucket, with_ancestors: bool) -> anyhow::Result<Vec<(Who, ContainerNames, Usage)>> {
        let query = format!(
            "SELECT {WHO}, {} FROM usage_{} s {JOINS} WHERE s.ts = ?1 ORDER BY s.process",
            Usage::columns(),
            bucket.resolution.suffix()
        );
        let mut ancestors = if with_ancestors { Some(Ancestors::new(&self.connection)?) } else { None };
        let mut statement = self.connection.prepare(&query)?;
        let mut found = statement.query([bucket.ts])?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let (mut who, container) = read_who(row)?;
            if let Some(ancestors) = &mut ancestors {
                who.parents = ancestors.read(row.get(13)?)?;
            }
            rows.push((who, container, Usage::read(row, WHO_COLUMNS)?));
        }
        Ok(rows)
    }

    fn host_of(&self, bucket: Bucket) -> anyhow::Result<Option<HostUsage>> {
        let query = format!("SELECT {} FROM host_{} WHERE ts = ?1", HostUsage::columns(), bucket.resolution.suffix());
        Ok(self.connection.query_row(&query, [bucket.ts], |row| HostUsage::read(row, 0)).optional()?)
    }

    fn disks_of(&self, bucket: Bucket) -> anyhow::Result<Vec<(Disk, DiskUsage)>> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT name, mounted, {} FROM disk_{} WHERE ts = ?1",
            DiskUsage::columns(),
            bucket.resolution.suffix()
        ))?;
        let read = |row: &Row<'_>| Ok((Disk { name: row.get(0)?, mounted: row.get(1)? }, DiskUsage::read(row, 2)?));
        let mut disks = Vec::new();
        for disk in statement.query_map([bucket.ts], read)? {
            let (disk, usage) = disk?;
            add_disk(&mut disks, disk, &usage);
        }
        keep_busiest(&mut disks);
        Ok(disks)
    }

    fn devices_of(&self, bucket: Bucket) -> anyhow::Result<Vec<(Device, DeviceBalance)>> {
        let table = format!("device_{}", bucket.resolution.suffix());
        // Older files have no such columns: what they would have is in what is unattributed.
        let known = self.connection.prepare(&format!("SELECT * FROM {table} LIMIT 0"))?;
        let names: Vec<String> = known.column_names().map(ToOwned::to_owned).collect();
        known.finalize()?;
        let side = |way: &str| {
            let columns = [
                "bytes",
                "packets",
                "attributed",
                "kernel",
                "forwarded",
                "upper",
                "copied",
                "unattributed",
                "undecided",
            ];
            let columns = columns.map(|column| {
                let name = format!("{way}_{column}");
                if names.contains(&name) { format!("s.{name}") } else { "0".to_owned() }
            });
            columns.join(", ")
        };
        let query = format!(
            "SELECT d.netns, d.netns_cookie, d.ifindex, d.name, {}, {} FROM {table} s JOIN device d ON d.id = s.device
             WHERE s.ts = ?1 ORDER BY s.device",
            side("tx"),
            side("rx")
        );
        let mut statement = self.connection.prepare(&query)?;
        let found = statement.query_map([bucket.ts], |row| {
            let device =
                Device { netns: row.get(0)?, netns_cookie: row.get(1)?, ifindex: row.get(2)?, name: row.get(3)? };
            Ok((device, DeviceBalance { tx: read_side(row, 4)?, rx: read_side(row, 13)? }))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn drops_of(&self, bucket: Bucket) -> anyhow::Result<Vec<(DropKind, Who, Dropped)>> {
        let query = format!(
            "SELECT {WHO}, k.reason, k.class, k.location, k.protocol, s.packets, s.bytes
             FROM drop_{} s JOIN drop_kind k ON k.id = s.kind {JOINS} WHERE s.ts = ?1 ORDER BY s.kind, s.process",
            bucket.resolution.suffix()
        );
        let mut statement = self.connection.prepare(&query)?;
        let found = statement.query_map([bucket.ts], |row| {
            let kind = DropKind {
                reason: row.get(WHO_COLUMNS)?,
                class: row.get(WHO_COLUMNS + 1)?,
                location: row.get(WHO_COLUMNS + 2)?,
                protocol: row.get(WHO_COLUMNS + 3)?,
            };
            let number = |at: usize| amount(row, WHO_COLUMNS + at);
            Ok((kind, read_who(row)?.0, Dropped { packets: number(4)?, bytes: number(5)? }))
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn losses_of(&self, bucket: Bucket) -> anyhow::Result<Vec<(String, u64)>> {
        let mut statement = self.connection.prepare(
            // Earlier versions had one there that is no loss.
            "SELECT cause, sum(count) FROM loss WHERE ts >= ?1 AND ts < ?2 AND cause <> 'namespaces_unread'
                 GROUP BY cause ORDER BY cause",
        )?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, amount(row, 1)?));
        let losses = statement.query_map([bucket.ts, bucket.end()], read)?;
        Ok(losses.collect::<Result<_, _>>()?)
    }
}

/// None below nothing, whoever wrote the file.
fn amount(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)?.max(0).unsigned_abs())
}

/// Without ancestors.
fn read_who(row: &Row<'_>) -> rusqlite::Result<(Who, ContainerNames)> {
    let device = Device { netns: row.get(0)?, netns_cookie: row.get(1)?, ifindex: row.get(2)?, name: row.get(3)? };
    let who = Who {
        pid: row.get(4)?,
        start_time_ns: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        uid: row.get(6)?,
        comm: row.get(7)?,
        exe: row.get(8)?,
        script: row.get(9)?,
        unit: row.get(10)?,
        cgroup: row.get(11)?,
        container: row.get(12)?,
        parents: Vec::new(),
        login: Login {
            login_uid: row.get(20)?,
            session: row.get(21)?,
            session_start_time_ns: row.get::<_, Option<i64>>(22)?.map(i64::cast_unsigned),
            session_comm: row.get(23)?,
            arguments: row.get(24)?,
        },
        device,
    };
    let container = ContainerNames {
        container_name: row.get(14)?,
        image: row.get(15)?,
        runtime: row.get::<_, Option<String>>(16)?.map(Into::into),
        pod: row.get(17)?,
        pod_container: row.get(18)?,
        workload: row.get(19)?,
    };
    Ok((who, container))
}

fn read_side(row: &Row<'_>, first: usize) -> rusqlite::Result<DirectionBalance> {
    let number = |at: usize| amount(row, first + at);
    Ok(DirectionBalance {
        bytes: number(0)?,
        packets: number(1)?,
        attributed_bytes: number(2)?,
        kernel_bytes: number(3)?,
        forwarded_bytes: number(4)?,
        upper_bytes: number(5)?,
        copied_bytes: number(6)?,
        unattributed_bytes: row.get(first + 7)?,
        undecided_bytes: row.get(first + 8)?,
    })
}
