//! What must hold between and within the documents of every nettopd that any scenario starts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem::take,
    sync::{Mutex, PoisonError},
};

use nettop_model::{Snapshot, snapshot::DeviceReport};

use crate::directions;

mod balances;
mod items;
mod stacks;
#[cfg(test)]
mod tests;

use balances::DeviceBalances;
use items::{
    DeviceId, Item, TRAFFIC, add, device_id, is_given_back, is_of_one_daemon, items, joined, row_identity, traffic,
};
use stacks::Stacks;

/// Scenarios' own namespaces: nobody else's traffic can break the balance there.
/// By inode number, its current holder.
static OWN: Mutex<BTreeMap<u32, Own>> = Mutex::new(BTreeMap::new());

struct Own {
    cookie: u32,
    /// It can be entered.
    is_held: bool,
}

/// Marks a namespace as the scenario's own.
pub fn own(netns: u32, cookie: u32) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(netns, Own { cookie, is_held: true });
}

/// Notes that nobody holds a namespace any more.
pub fn release(netns: u32) {
    if let Some(own) = OWN.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&netns) {
        own.is_held = false;
    }
}

/// Whether the counters of devices in the scenario's own namespaces are older than its rows, but for these (namespace and name).
pub fn is_behind(document: &Snapshot, exempt: &[(u32, String)]) -> bool {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_pending = |device: &DeviceReport| {
        directions(&device.total).iter().any(|(_, side)| side.pending_bytes > 0 || side.pending_packets > 0)
    };
    let is_held = |device: &DeviceReport| {
        own.get(&device.netns).is_some_and(|own| own.is_held && own.cookie == device.netns_cookie)
    };
    let is_exempt =
        |device: &DeviceReport| exempt.iter().any(|(netns, name)| (*netns, name) == (device.netns, &device.device));
    document.devices.iter().any(|device| is_held(device) && is_pending(device) && !is_exempt(device))
}

/// Whether a namespace of the scenario's own was not found yet: its balance begins only then.
pub fn lacks_namespaces(document: &Snapshot) -> bool {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_found = |netns: u32, cookie: u32| {
        document.devices.iter().any(|device| (device.netns, device.netns_cookie) == (netns, cookie))
    };
    own.iter().any(|(netns, own)| own.is_held && !is_found(*netns, own.cookie))
}

/// Leaves out what a document has of namespaces whose inode number a scenario's own has by now.
pub fn forget_dead_namespaces(document: &mut Snapshot) {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let lives = |netns: Option<u32>, cookie: Option<u32>| {
        let owns = netns.and_then(|netns| own.get(&netns));
        owns.is_none_or(|own| cookie.is_none_or(|cookie| cookie == own.cookie))
    };
    document.rows.retain(|row| lives(Some(row.netns), Some(row.netns_cookie)));
    document.devices.retain(|device| lives(Some(device.netns), Some(device.netns_cookie)));
    document.forwarded.retain(|pair| lives(Some(pair.netns), Some(pair.netns_cookie)));
    document.drops.retain(|drop| lives(drop.netns, drop.netns_cookie));
    document.tcp.retain(|event| lives(event.netns, event.netns_cookie));
}

fn is_own(netns: u32, cookie: u32) -> bool {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.get(&netns).is_some_and(|own| own.cookie == cookie)
}

/// What was last seen of an item.
struct Mark {
    device: Option<DeviceId>,
    totals: Vec<u64>,
    entries: usize,
}

/// Sums over all rows, and what retired rows left.
#[derive(Clone)]
struct Sum {
    total: [u64; 6],
    rows: HashSet<String>,
}

/// Follows the documents of one nettopd, or of daemons that take over from one another.
pub struct Invariants {
    /// Rows are all shown, so that they can be added up.
    is_whole: bool,
    /// From a daemon's first document on, so that its devices begin with them.
    is_complete: bool,
    /// `accounting_since` and `devices_since`.
    since: Option<[String; 2]>,
    bystanders: Vec<u32>,
    documents: u64,
    reports_skipped: u64,
    /// Documents before the next were not seen.
    has_gap: bool,
    marks: HashMap<String, Mark>,
    /// Identities whose device went: if they come back, where they go on is not known here.
    forgotten: HashSet<String>,
    devices: HashSet<DeviceId>,
    dropped_packets: u64,
    sum: Option<Sum>,
    balances: DeviceBalances,
    stacks: Stacks,
    violations: Vec<String>,
}

/// Nobody reads more than these.
const MAX_FAULTS: usize = 20;

impl Invariants {
    /// `args` are nettopd's.
    pub fn new(args: &[&str], bystanders: Vec<u32>) -> Self {
        let filters = ["-p", "-u", "-i", "-c", "--unit", "--container", "--pod", "-4", "-6"];
        Self {
            is_whole: !args.iter().any(|arg| filters.contains(arg)),
            is_complete: true,
            since: None,
            bystanders,
            documents: 0,
            reports_skipped: 0,
            has_gap: false,
            marks: HashMap::new(),
            forgotten: HashSet::new(),
            devices: HashSet::new(),
            dropped_packets: 0,
            sum: None,
            balances: DeviceBalances::default(),
            stacks: Stacks::default(),
            violations: Vec::new(),
        }
    }

    /// For documents of daemons of which the first may be missing.
    pub fn of_daemons() -> Self {
        Self { is_complete: false, ..Self::new(&[], Vec::new()) }
    }

    /// Whether documents show all rows and devices.
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How often something was broken so far.
    pub const fn broken(&self) -> usize {
        self.violations.len()
    }

    /// What was broken after the first `before`, without negative rests of these devices (namespace and name).
    pub fn violations(&self, before: usize, exempt: &[(u32, String)]) -> Vec<String> {
        self.violations.iter().skip(before).cloned().chain(self.balances.negative(exempt)).collect()
    }

    /// Whether a rest is negative in the latest document: what was under way then may pass yet.
    pub fn is_negative_now(&self) -> bool {
        self.balances.is_negative_now()
    }

    /// Documents between the last and the next were not seen.
    pub const fn note_gap(&mut self) {
        self.has_gap = true;
    }

    /// Checks a document against all before.
    pub fn check(&mut self, document: &Snapshot) {
        self.documents += 1;
        let skipped = document.loss.reports_skipped;
        let has_gap = take(&mut self.has_gap);
        let is_consecutive = self.goes_on(document) && skipped == self.reports_skipped && !has_gap;
        self.reports_skipped = skipped;
        self.forget_gone_devices(document);
        let mut seen = HashSet::new();
        for item in joined(items(document)) {
            if !seen.insert(item.identity.clone()) {
                self.violate(format!("{} is in one document twice", item.identity));
                continue;
            }
            self.check_item(item, is_consecutive);
        }
        self.check_drops(document, &seen);
        self.check_bystanders(document);
        if self.is_whole {
            self.check_sum(document, is_consecutive);
        }
        let begins = (self.is_whole && self.is_complete).then_some(self.documents == 1);
        let mut found = self.balances.check(document, begins, is_own);
        if begins.is_some() {
            found.extend(self.stacks.check(document, is_own));
        }
        let room = MAX_FAULTS.saturating_sub(self.violations.len());
        found.truncate(room);
        self.violations.append(&mut found);
    }

    /// Whether the document is of the same daemon as the last. Another one goes on with rows, `exited`, drops and losses
    /// of the kernel side, or with nothing, as it says.
    fn goes_on(&mut self, document: &Snapshot) -> bool {
        let devices_since = document.devices_since.clone().unwrap_or_default();
        let now = [document.accounting_since.clone(), devices_since];
        let before = self.since.replace(now.clone());
        match before {
            Some(before) if before == now => return true,
            Some(before) if before[0] == now[0] => {
                self.marks.retain(|identity, _| !is_of_one_daemon(identity));
                self.balances = DeviceBalances::default();
                self.stacks = Stacks::default();
            }
            _ => {
                let (bystanders, violations) = (take(&mut self.bystanders), take(&mut self.violations));
                let (is_whole, is_complete, documents) = (self.is_whole, self.is_complete, self.documents);
                let since = Some(now);
                *self = Self { is_whole, is_complete, since, documents, violations, ..Self::new(&[], bystanders) };
            }
        }
        false
    }

    /// Notes that something was broken.
    pub fn violate(&mut self, text: String) {
        if self.violations.len() < MAX_FAULTS {
            self.violations.push(format!("document {}: {text}", self.documents));
        }
    }

    /// No counter of an identity falls, and it gains what the interval has.
    fn check_item(&mut self, item: Item, is_consecutive: bool) {
        let mark = self.marks.get(&item.identity);
        // One of several that look alike was given back.
        let is_less = mark.is_some_and(|mark| item.entries < mark.entries);
        let before = mark.filter(|_| !is_less).map(|mark| mark.totals.clone());
        let is_known = !is_less && (before.is_some() || !self.forgotten.contains(&item.identity));
        let before = before.unwrap_or_else(|| vec![0; item.totals.len()]);
        for (at, name) in item.names.iter().enumerate() {
            let (total, before) = (item.totals[at], before[at]);
            if total < before {
                self.violate(format!("{}: {name} fell from {before} to {total}", item.identity));
            }
            let Some(interval) = item.intervals.get(at).copied() else { continue };
            if is_known && is_consecutive && total != before.saturating_add(interval) && total >= before {
                self.violate(format!(
                    "{}: {name} went from {before} to {total}, and the interval says {interval}",
                    item.identity
                ));
            } else if total < interval {
                self.violate(format!("{}: total {name} {total} is less than the interval's {interval}", item.identity));
            }
        }
        self.marks.insert(item.identity, Mark { device: item.device, totals: item.totals, entries: item.entries });
    }

    /// A device that goes takes its identity along: with the same index it may come back as another.
    fn forget_gone_devices(&mut self, document: &Snapshot) {
        let now: HashSet<DeviceId> = document.devices.iter().map(device_id).collect();
        let gone: HashSet<DeviceId> = self.devices.difference(&now).copied().collect();
        self.devices = now;
        if gone.is_empty() {
            return;
        }
        let forgotten = &mut self.forgotten;
        self.marks.retain(|identity, mark| {
            let is_gone = mark.device.is_some_and(|device| gone.contains(&device));
            if is_gone {
                forgotten.insert(identity.clone());
            }
            !is_gone
        });
        self.balances.forget(&gone);
    }

    /// What the table of drops gives back goes to `other_drops`, or to nobody's events: together they never fall.
    fn check_drops(&mut self, document: &Snapshot, seen: &HashSet<String>) {
        let drops = document.drops.iter().map(|drop| drop.total.packets);
        let packets = drops.sum::<u64>() + document.other_drops.total.packets;
        if packets < self.dropped_packets {
            self.violate(format!("all drops together fell from {} to {packets} packets", self.dropped_packets));
        }
        self.dropped_packets = packets;
        let forgotten = &mut self.forgotten;
        self.marks.retain(|identity, _| {
            let is_gone = is_given_back(identity) && !seen.contains(identity);
            if is_gone {
                forgotten.insert(identity.clone());
            }
            !is_gone
        });
    }

    /// A process without sockets moves and loses nothing.
    fn check_bystanders(&mut self, document: &Snapshot) {
        let is_one = |pid: Option<u32>| pid.is_some_and(|pid| self.bystanders.contains(&pid));
        let rows = document.rows.iter().filter(|row| is_one(Some(row.pid))).map(|row| format!("rows: {row:?}"));
        let drops = document.drops.iter().filter(|drop| is_one(drop.pid)).map(|drop| format!("drops: {drop:?}"));
        let events = document.tcp.iter().filter(|event| is_one(event.pid)).map(|event| format!("tcp: {event:?}"));
        let found: Vec<String> = rows.chain(drops).chain(events).collect();
        for found in found {
            self.violate(format!("a process that only spins is in {found}"));
        }
    }

    /// All rows and what retired ones left grow by the intervals. Between the last reading of a row and its retirement
    /// something may still be counted, and nothing may be lost.
    fn check_sum(&mut self, document: &Snapshot, is_consecutive: bool) {
        let mut total = traffic(&document.exited);
        let mut intervals = [0; 6];
        for row in &document.rows {
            add(&mut total, traffic(&row.total));
            add(&mut intervals, traffic(&row.interval));
        }
        for group in &document.groups {
            add(&mut total, traffic(&group.total));
            add(&mut intervals, traffic(&group.interval));
        }
        let now = Sum { total, rows: document.rows.iter().map(row_identity).collect() };
        if let Some(before) = self.sum.take() {
            // Which rows are in a group is not known.
            let has_more = !is_consecutive || !document.groups.is_empty() || !before.rows.is_subset(&now.rows);
            for (at, name) in TRAFFIC.iter().enumerate() {
                let interval = if is_consecutive { intervals[at] } else { 0 };
                let (expected, found) = (before.total[at] + interval, now.total[at]);
                if found < expected || found > expected && !has_more {
                    self.violate(format!(
                        "rows and exited together: {name} went from {} to {found}, and the intervals say {}",
                        before.total[at], intervals[at]
                    ));
                }
            }
        }
        self.sum = Some(now);
    }
}
