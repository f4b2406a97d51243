//! One interval as screens need it: numbers by process, whose names all frames share.

use std::{collections::HashMap, sync::Arc};

use nettop_model::{
    ContainerNames, ProcessResources, ResourcesReport, Snapshot,
    drops::{DropReport, TcpReport},
    snapshot::{Count, DeviceReport, Loss, Parent, RowReport, Traffic},
};

/// How long what ended stays in frames.
const ENDED_STAYS_MS: i64 = 60_000;
/// And how many rows of it at most.
const MAX_ENDED_ROWS: usize = 1000;

/// A snapshot, and when it ended.
#[derive(Clone, Debug)]
pub struct Measured {
    pub snapshot: Snapshot,
    /// End of the interval, in milliseconds since 1970.
    pub at_ms: i64,
    /// The same as people here read it.
    pub local_time: String,
}

/// Names of one process, as one user, on one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub pid: u32,
    pub start_time_ns: Option<u64>,
    pub comm: String,
    pub exe: Option<String>,
    pub script: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub container: Option<String>,
    pub names: Arc<ContainerNames>,
    pub parents: Arc<[Parent]>,
    pub netns: u32,
    pub netns_cookie: u32,
    pub device: Option<String>,
    pub ifindex: Option<u32>,
}

/// What it moved.
#[derive(Clone, Debug)]
pub struct Row {
    pub who: Arc<Who>,
    pub interval: Traffic,
    pub total: Traffic,
    pub drops: Count,
    pub retransmits: Count,
    /// When it was first seen to have ended, in milliseconds since 1970.
    pub ended_ms: Option<i64>,
}

/// One interval.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub host: String,
    pub kernel: String,
    pub at_ms: i64,
    pub local_time: String,
    pub interval_ms: u64,
    pub accounting_since: String,
    pub rows: Vec<Row>,
    pub devices: Vec<DeviceReport>,
    pub drops: Vec<DropReport>,
    pub tcp: Vec<TcpReport>,
    /// None where it is not measured.
    pub resources: Option<ResourcesReport>,
    /// Packets dropped in the interval: without those of which nothing was lost.
    pub dropped: u64,
    /// What was lost in the interval, by cause; and the hooks that are missing in it.
    pub losses: Vec<(&'static str, u64)>,
    /// Since counting began.
    pub loss_before: Loss,
    /// About how much memory it takes that no other frame shares.
    pub bytes: usize,
}

/// Names that frames share: a process has them once, however many frames it is in.
#[derive(Debug, Default)]
pub struct Interner(HashMap<Key, Arc<Who>>);

/// What tells rows of a frame apart: process, user, namespace, device, and a name for what is no process.
pub type Key = (u32, Option<u64>, Option<u32>, u32, u32, Option<u32>, String);

impl Interner {
    /// The names of a row, and the bytes that are new with them.
    fn share(&mut self, row: RowReport) -> (Arc<Who>, usize) {
        let who = Who {
            pid: row.pid,
            start_time_ns: row.start_time_ns,
            comm: row.comm,
            exe: row.process.exe,
            script: row.process.script,
            uid: row.uid,
            user: row.user,
            cgroup: row.process.cgroup,
            unit: row.process.unit,
            container: row.process.container,
            names: row.process.names,
            parents: row.process.parents,
            netns: row.netns,
            netns_cookie: row.netns_cookie,
            device: row.device,
            ifindex: row.ifindex,
        };
        let key = who.key();
        if let Some(known) = self.0.get(&key).filter(|known| ***known == who) {
            return (Arc::clone(known), 0);
        }
        let bytes = who.bytes();
        let who = Arc::new(who);
        self.0.insert(key, Arc::clone(&who));
        (who, bytes)
    }

    /// Forgets names that no frame has.
    pub fn forget_unused(&mut self) {
        self.0.retain(|_, who| Arc::strong_count(who) > 1);
    }
}

impl Who {
    /// What tells its row apart from others of a frame.
    pub fn key(&self) -> Key {
        // Rows that are no process differ by their names alone.
        let name = if self.pid == 0 { self.comm.clone() } else { String::new() };
        (self.pid, self.start_time_ns, self.uid, self.netns, self.netns_cookie, self.ifindex, name)
    }

    fn bytes(&self) -> usize {
        let texts = [&self.exe, &self.script, &self.user, &self.cgroup, &self.unit, &self.container, &self.device];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let parents: usize = self.parents.iter().map(|parent| size_of::<Parent>() + parent.comm.len()).sum();
        size_of::<Self>() + size_of::<Key>() + self.comm.len() + texts + parents
    }

    /// What is run: the script of an interpreter, else the program.
    pub fn program(&self) -> &str {
        self.exe.as_deref().unwrap_or(&self.comm)
    }

    /// Pod, container or unit that it is in.
    pub fn unit(&self) -> &str {
        let names = &self.names;
        let container = names.pod.as_ref().or(names.container_name.as_ref()).or(self.container.as_ref());
        container.or(self.unit.as_ref()).map_or("-", String::as_str)
    }

    /// The user by name, else by number.
    pub fn user(&self) -> String {
        self.user.clone().or_else(|| self.uid.map(|uid| uid.to_string())).unwrap_or_else(|| "-".into())
    }
}

impl Frame {
    /// The frame of a snapshot whose losses are since counting began: it has those since the frame before.
    pub fn live(measured: Measured, before: Option<&Self>, interner: &mut Interner) -> Self {
        let since = &measured.snapshot.accounting_since;
        let known = before.filter(|before| before.accounting_since == *since).map(|before| before.loss_before);
        let known = known.unwrap_or(measured.snapshot.loss);
        Self::new(measured, before, known, interner)
    }

    /// The frame of a recorded slot, whose losses are its own.
    pub fn recorded(measured: Measured, before: Option<&Self>, interner: &mut Interner) -> Self {
        Self::new(measured, before, Loss::default(), interner)
    }

    /// What had ended in the frame before and is gone from this one stays for a minute.
    fn new(measured: Measured, before: Option<&Self>, known: Loss, interner: &mut Interner) -> Self {
        let Measured { snapshot, at_ms, local_time } = measured;
        let mut bytes = size_of::<Self>();
        let mut rows = Vec::with_capacity(snapshot.rows.len());
        for row in snapshot.rows {
            let (interval, total, drops, retransmits) = (row.interval, row.total, row.drops, row.retransmits);
            let has_ended = row.exited;
            let (who, new_bytes) = interner.share(row);
            bytes += new_bytes;
            rows.push(Row { who, interval, total, drops, retransmits, ended_ms: has_ended.then_some(at_ms) });
        }
        keep_ended(&mut rows, before, at_ms);
        let of_texts = |drop: &DropReport| drop.reason.len() + drop.location.len() + 64;
        bytes += rows.len() * size_of::<Row>()
            + snapshot.devices.len() * (size_of::<DeviceReport>() + 64)
            + snapshot.drops.iter().map(|drop| size_of::<DropReport>() + of_texts(drop)).sum::<usize>()
            + snapshot.tcp.len() * (size_of::<TcpReport>() + 64)
            + snapshot.resources.iter().flat_map(|resources| &resources.processes).map(resource_bytes).sum::<usize>();
        let lost = snapshot.drops.iter().filter(|drop| drop.class.is_lost());
        let dropped =
            lost.map(|drop| drop.interval.packets).fold(snapshot.other_drops.interval.packets, u64::saturating_add);
        Self {
            host: snapshot.host,
            kernel: snapshot.kernel,
            at_ms,
            local_time,
            interval_ms: snapshot.interval_ms,
            accounting_since: snapshot.accounting_since,
            rows,
            devices: snapshot.devices,
            drops: snapshot.drops,
            tcp: snapshot.tcp,
            resources: snapshot.resources,
            dropped,
            losses: losses(&snapshot.loss, &known),
            loss_before: snapshot.loss,
            bytes,
        }
    }
}

/// Names and all.
fn resource_bytes(of: &ProcessResources) -> usize {
    let texts = [&of.exe, &of.script, &of.user, &of.cgroup, &of.unit, &of.container];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let parents: usize = of.parents.iter().map(|parent| size_of::<Parent>() + parent.comm.len()).sum();
    size_of::<ProcessResources>() + of.comm.len() + texts + parents
}

/// What was lost since then, by cause. Hooks that are missing are so all the time.
fn losses(loss: &Loss, known: &Loss) -> Vec<(&'static str, u64)> {
    let since = |((cause, count), (_, before)): ((&'static str, u64), (_, u64))| {
        (cause, if cause == "hooks_missing" { count } else { count.saturating_sub(before) })
    };
    loss.entries().into_iter().zip(known.entries()).map(since).filter(|(_, count)| *count > 0).collect()
}

/// Rows that had ended before and are not reported any more: with what they moved in all, and nothing of this interval.
fn keep_ended(rows: &mut Vec<Row>, before: Option<&Frame>, at_ms: i64) {
    let Some(before) = before else { return };
    let mut ended: Vec<&Row> = before.rows.iter().filter(|row| row.ended_ms.is_some()).collect();
    if ended.is_empty() {
        return;
    }
    let identity = |row: &Row| row.who.key();
    let mut still: HashMap<_, usize> = rows.iter().enumerate().map(|(at, row)| (identity(row), at)).collect();
    ended.retain(|row| match still.remove(&identity(row)) {
        // It ended when that was first seen.
        Some(at) => {
            rows[at].ended_ms = rows[at].ended_ms.and(row.ended_ms);
            false
        }
        None => row.ended_ms.is_some_and(|ended| (0..ENDED_STAYS_MS).contains(&(at_ms - ended))),
    });
    // The latest stay.
    ended.sort_by_key(|row| std::cmp::Reverse(row.ended_ms));
    rows.extend(ended.into_iter().take(MAX_ENDED_ROWS).map(|row| Row {
        interval: Traffic::default(),
        drops: Count { interval: 0, ..row.drops },
        retransmits: Count { interval: 0, ..row.retransmits },
        ..row.clone()
    }));
}
