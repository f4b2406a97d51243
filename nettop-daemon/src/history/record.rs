//! Adds each interval to the slot it ended in, and hands the slot over when it is over.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nettop_history::{Books, Counters, Device, DropKind, Keep, Limits, Origin, SLOT_S, Side, Slot, Who, Writer};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::geteuid,
};

use super::{
    args::{DEFAULT, RecordArgs},
    pressure::Pressure,
};
use crate::{
    Usage,
    cli::{Cli, Timing},
    config::{Config, HistoryConfig},
    drops::Class,
    report::{self, Filter, Snapshot},
};

/// Rows of processes, and of drops, in a slot; others are added up.
const MOST_ROWS: usize = 512;
/// What clocks may differ by without having been set.
const STEP_MS: i64 = 100;

/// Between the sampler and the writer.
pub struct Recorder {
    writer: Option<Writer>,
    path: PathBuf,
    limits: Limits,
    period_ms: u64,
    pressure: Pressure,
    slot: Slot,
    last: Moment,
    /// Losses of the last snapshot, which has them since the start.
    losses: BTreeMap<&'static str, u64>,
}

/// A time on two clocks: one that is set, and one that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970.
    pub wall_ms: i64,
    pub boot_ms: u64,
}

impl Moment {
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Self {
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            boot_ms: u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A recorder, if this run is to be recorded: the daemon's is; one with a selection sees only a part, one of some reports
/// or on a terminal is a look.
///
/// # Errors
///
/// [`Usage`] if a file is named and only a part would be recorded.
pub fn recorder(cli: &Cli, timing: &Timing, filter: &Filter) -> anyhow::Result<Option<Recorder>> {
    let RecordArgs { history, no_history, history_size, history_keep } = &cli.record;
    let is_whole = filter.pids.is_empty()
        && filter.uids.is_empty()
        && filter.devices.is_empty()
        && filter.hidden_families == [false; 2];
    let path = match history {
        Some(_) if !is_whole => {
            return Err(Usage("a history has everything: leave out --history, or -p, -u, -i, -4 and -6".into()).into());
        }
        Some(path) => path.clone(),
        None => {
            // Who looks at a table on a terminal did not ask for a file, and would keep the service from its own.
            let is_daemon = is_whole
                && !no_history
                && cli.command.is_none()
                && !cli.once
                && timing.count.is_none()
                && !io::stdout().is_terminal();
            match Path::new(DEFAULT) {
                default if is_daemon && is_own(default) => default.into(),
                _ => {
                    tracing::info!("no history is recorded");
                    return Ok(None);
                }
            }
        }
    };
    let limits = Limits { keep: *history_keep, size_bytes: history_size << 20, ..Limits::default() };
    Ok(Some(Recorder::new(path, limits, Duration::from_secs_f64(timing.interval_s()), "/proc", Moment::now())))
}

/// The recorder of the service, if it is to have one.
pub fn of_service(config: &Config) -> Option<Recorder> {
    let HistoryConfig { enabled, file, .. } = &config.history;
    if !enabled || file == Path::new(DEFAULT) && !is_own(file) {
        tracing::info!("no history is recorded");
        return None;
    }
    let period = Duration::from_secs_f64(config.interval);
    Some(Recorder::new(file.clone(), limits(config), period, "/proc", Moment::now()))
}

fn limits(config: &Config) -> Limits {
    let HistoryConfig { size_mb, keep_days, .. } = config.history;
    Limits { keep: Keep { days: keep_days }, size_bytes: u64::from(size_mb) << 20, ..Limits::default() }
}

/// Whether the folder of the default file is there, and nobody else's.
fn is_own(default: &Path) -> bool {
    let Some(folder) = default.parent().and_then(|folder| fs::metadata(folder).ok()).filter(fs::Metadata::is_dir)
    else {
        return false;
    };
    let is_own = folder.uid() == geteuid().as_raw();
    if !is_own {
        tracing::warn!(
            "the folder of {} belongs to user {}; name a file with --history",
            default.display(),
            folder.uid()
        );
    }
    is_own
}

impl Recorder {
    fn new(path: PathBuf, limits: Limits, period: Duration, proc: &str, now: Moment) -> Self {
        Self {
            writer: None,
            path,
            limits,
            period_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
            pressure: Pressure::new(proc, now.boot_ms),
            slot: Slot { ts: slot_of(now.wall_ms), ..Slot::default() },
            last: now,
            losses: BTreeMap::new(),
        }
    }

    /// Opens the file, on a thread of its own: what is wrong with it is said at once.
    pub fn start(&mut self, hooks_missing: u64) {
        let origin = Origin {
            boot_id: report::boot_id(),
            host: report::host_name(),
            kernel: report::kernel_release(),
            version: env!("CARGO_PKG_VERSION").into(),
            hooks_missing,
        };
        self.writer = Some(Writer::start(self.path.clone(), self.limits, origin));
    }

    /// Goes on with another interval, and other limits of the file.
    pub fn adjust(&mut self, config: &Config) {
        self.period_ms = u64::try_from(Duration::from_secs_f64(config.interval).as_millis()).unwrap_or(u64::MAX);
        self.limits = limits(config);
        if let Some(writer) = &self.writer {
            writer.set_limits(self.limits);
        }
    }

    /// How the file does, in some words.
    pub fn state(&self) -> String {
        /// A slot is handed over when the next begins, so that nothing is written for a slot's time and an interval.
        const LATE_S: u64 = 60;
        let Some(writer) = &self.writer else { return "not begun".into() };
        let silent_s = writer.silent_s();
        if writer.is_in_trouble() {
            format!("not written for {silent_s} s, see the log")
        } else if silent_s > LATE_S + self.period_ms / 1000 {
            format!("the disk has not answered for {silent_s} s")
        } else {
            "written".into()
        }
    }

    /// Adds an interval that ended now. What could not be recorded so far is noted in the snapshot.
    pub fn record(&mut self, snapshot: &mut Snapshot) {
        let now = Moment::now();
        if let Some(over) = self.add(snapshot, now) {
            self.put(over);
        }
        // The next one will end in another slot.
        if slot_of(now.wall_ms + snapshot.interval_ms.cast_signed()) != self.slot.ts && self.slot.tick.readings > 0 {
            let over = std::mem::take(&mut self.slot);
            self.put(over);
        }
        snapshot.loss.history_shed = self.writer.as_ref().map_or(0, Writer::shed);
    }

    /// Hands over what is left and waits for the file, but not long.
    pub fn finish(mut self) {
        let last = std::mem::take(&mut self.slot);
        if last.tick.readings > 0 {
            self.put(last);
        }
        if let Some(writer) = self.writer {
            writer.finish();
        }
    }

    fn put(&self, mut slot: Slot) {
        slot.cap(MOST_ROWS);
        if let Some(writer) = &self.writer {
            writer.put(slot);
        }
    }

    /// Adds an interval to its slot, and returns the slot before it if that is over.
    fn add(&mut self, snapshot: &Snapshot, now: Moment) -> Option<Slot> {
        let ts = slot_of(now.wall_ms);
        let over = (ts != self.slot.ts).then(|| std::mem::replace(&mut self.slot, Slot { ts, ..Slot::default() }));
        self.tick(snapshot.interval_ms, now);
        self.losses(snapshot);
        let slot = &mut self.slot;
        let mut names = HashMap::new();
        let mentioned = mentioned(snapshot);
        for row in &snapshot.rows {
            let process = (row.pid, row.start_time_ns);
            let is_mentioned = mentioned.contains(&process);
            let has_traffic = row.interval != report::Traffic::default();
            if !is_mentioned && !has_traffic {
                continue;
            }
            let who = Who {
                pid: row.pid,
                start_time_ns: row.start_time_ns,
                uid: row.uid,
                comm: row.comm.clone(),
                exe: row.exe.clone(),
                unit: row.unit.clone(),
                cgroup: row.cgroup.clone(),
                container: row.container.clone(),
                device: Device {
                    netns: row.netns,
                    netns_cookie: row.netns_cookie,
                    ifindex: row.ifindex.unwrap_or(0),
                    name: row.device.clone(),
                },
            };
            if is_mentioned {
                names.insert(process, who.clone());
            }
            if has_traffic {
                let (tx, rx) = (&row.interval.tx, &row.interval.rx);
                slot.samples.entry(who).or_default().add(&Counters {
                    tx_bytes: tx.bytes,
                    rx_bytes: rx.bytes,
                    tx_packets: tx.packets,
                    rx_packets: rx.packets,
                    tx_app_bytes: tx.app_bytes,
                    rx_app_bytes: rx.app_bytes,
                });
            }
        }
        for device in snapshot.devices.iter().filter(|device| device.interval != report::Books::default()) {
            let key = Device {
                netns: device.netns,
                netns_cookie: device.netns_cookie,
                ifindex: device.ifindex,
                name: Some(device.device.clone()),
            };
            let books = Books { tx: side(&device.interval.tx), rx: side(&device.interval.rx) };
            slot.devices.entry(key).or_default().add(&books);
        }
        drops(slot, snapshot, &names);
        (over).filter(|over| over.tick.readings > 0)
    }

    fn tick(&mut self, interval_ms: u64, now: Moment) {
        let ran_ms = now.boot_ms.saturating_sub(self.last.boot_ms).cast_signed();
        let step_ms = now.wall_ms - self.last.wall_ms - ran_ms;
        self.last = now;
        let before = self.slot.tick;
        let tick = &mut self.slot.tick;
        self.pressure.look(tick, now.boot_ms);
        // Of several looks in a slot the highest counts.
        tick.cpu_some = highest(tick.cpu_some, before.cpu_some);
        tick.memory_some = highest(tick.memory_some, before.memory_some);
        tick.memory_full = highest(tick.memory_full, before.memory_full);
        tick.io_some = highest(tick.io_some, before.io_some);
        tick.io_full = highest(tick.io_full, before.io_full);
        tick.readings += 1;
        tick.measured_ms += interval_ms;
        tick.late_ms = tick.late_ms.max(interval_ms.saturating_sub(self.period_ms));
        if step_ms.abs() >= STEP_MS {
            tick.clock_step_ms += step_ms;
        }
    }

    fn losses(&mut self, snapshot: &Snapshot) {
        // Of these, one is in the rows, and others are no losses of measuring or are of the whole session.
        const ELSEWHERE: [&str; 5] =
            ["overflow_tx_bytes", "overflow_rx_bytes", "reports_skipped", "history_shed", "hooks_missing"];
        let entries = snapshot.loss.entries().into_iter().filter(|(name, _)| !ELSEWHERE.contains(name));
        for (name, value) in entries.chain([("drops_uncounted", snapshot.uncounted_drops)]) {
            let more = if name == "namespaces_unread" {
                value
            } else {
                let before = self.losses.insert(name, value).unwrap_or(0);
                value.saturating_sub(before)
            };
            if more > 0 {
                *self.slot.losses.entry(name).or_default() += more;
            }
        }
    }
}

fn highest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}

/// An interval that ends where a slot ends is that slot's.
const fn slot_of(wall_ms: i64) -> i64 {
    let seconds = (wall_ms - 1).div_euclid(1000);
    seconds - seconds.rem_euclid(SLOT_S)
}

const fn side(side: &report::Side) -> Side {
    Side {
        bytes: side.bytes,
        packets: side.packets,
        attributed_bytes: side.attributed_bytes,
        kernel_bytes: side.kernel_bytes,
        copied_bytes: side.copied_bytes,
        unattributed_bytes: side.unattributed_bytes,
    }
}

/// Processes that drops and events of TCP are of, which do not tell all their names.
fn mentioned(snapshot: &Snapshot) -> HashSet<(u32, Option<u64>)> {
    let drops = snapshot.drops.iter().map(|drop| (drop.pid, drop.start_time_ns, drop.interval.packets));
    let events = snapshot.tcp.iter().map(|event| (event.pid, event.start_time_ns, event.count.interval));
    let busy = drops.chain(events).filter(|(_, _, packets)| *packets > 0);
    busy.filter_map(|(pid, start_time_ns, _)| Some((pid?, start_time_ns))).collect()
}

/// Drops, but for frees that lost nothing, and what TCP did about losses.
fn drops(slot: &mut Slot, snapshot: &Snapshot, names: &HashMap<(u32, Option<u64>), Who>) {
    let mut add = |kind: DropKind, who: Who, packets: u64, bytes: u64| {
        if packets > 0 {
            let dropped = slot.drops.entry((kind, who)).or_default();
            dropped.packets += packets;
            dropped.bytes += bytes;
        }
    };
    let named = |who: Who| match names.get(&(who.pid, who.start_time_ns)) {
        Some(found) if who.pid != 0 => Who { device: who.device, uid: who.uid, ..found.clone() },
        _ => who,
    };
    for drop in snapshot.drops.iter().filter(|drop| drop.class != Class::Lifecycle) {
        let kind = DropKind {
            reason: drop.reason.clone(),
            class: drop.class.name().into(),
            location: drop.location.clone(),
            protocol: drop.protocol.clone(),
        };
        let who = Who {
            pid: drop.pid.unwrap_or(0),
            start_time_ns: drop.start_time_ns,
            uid: drop.uid,
            comm: drop.comm.clone().unwrap_or_default(),
            device: device(drop.netns, drop.netns_cookie, drop.ifindex, drop.device.as_ref()),
            ..Who::default()
        };
        add(kind, named(who), drop.interval.packets, drop.interval.bytes.unwrap_or(0));
    }
    for event in &snapshot.tcp {
        let kind = DropKind {
            reason: event.event.to_string(),
            class: "tcp".into(),
            location: String::new(),
            protocol: Some("TCP".into()),
        };
        let who = Who {
            pid: event.pid.unwrap_or(0),
            start_time_ns: event.start_time_ns,
            uid: event.uid,
            comm: event.comm.clone().unwrap_or_default(),
            device: device(event.netns, event.netns_cookie, event.ifindex, event.device.as_ref()),
            ..Who::default()
        };
        add(kind, named(who), event.count.interval, 0);
    }
    let other = DropKind { reason: "[other]".into(), class: "unspecified".into(), ..DropKind::default() };
    let amount = &snapshot.other_drops.interval;
    add(other, Who::default(), amount.packets, amount.bytes.unwrap_or(0));
}

fn device(netns: Option<u32>, cookie: Option<u32>, ifindex: Option<u32>, name: Option<&String>) -> Device {
    Device {
        netns: netns.unwrap_or(0),
        netns_cookie: cookie.unwrap_or(0),
        ifindex: ifindex.unwrap_or(0),
        name: name.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_of_the_slot_that_it_ends_in() {
        assert_eq!(slot_of(1_000_000_000_001), 1_000_000_000);
        assert_eq!(slot_of(1_000_000_010_000), 1_000_000_000, "the end of a slot is its own");
        assert_eq!(slot_of(1_000_000_010_001), 1_000_000_010);
        assert_eq!(slot_of(0), -10, "a clock that was never set");
    }

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let mut now = Moment { wall_ms: 1_000_000_000_001, boot_ms: 50_000 };
        let period = Duration::from_secs(5);
        let mut recorder = Recorder::new("/nowhere".into(), Limits::default(), period, "/nowhere", now);
        let mut pass = |recorder: &mut Recorder, wall_ms: i64, boot_ms: u64| {
            now = Moment { wall_ms: now.wall_ms + wall_ms, boot_ms: now.boot_ms + boot_ms };
            recorder.tick(boot_ms, now);
        };
        pass(&mut recorder, 5000, 5000);
        pass(&mut recorder, 5060, 5010);
        assert_eq!((recorder.slot.tick.clock_step_ms, recorder.slot.tick.late_ms), (0, 10));
        // An hour back, and two seconds ahead; meanwhile the machine was busy.
        pass(&mut recorder, 5000 - 3_600_000, 5000);
        assert_eq!(recorder.slot.tick.clock_step_ms, -3_600_000);
        pass(&mut recorder, 9000, 7000);
        let tick = recorder.slot.tick;
        assert_eq!((tick.clock_step_ms, tick.late_ms), (-3_598_000, 2000));
        assert_eq!((tick.readings, tick.measured_ms), (4, 22_010));
    }

    #[test]
    fn an_event_of_a_silent_process_has_all_its_names() {
        let now = Moment { wall_ms: 1_000_000_000_001, boot_ms: 50_000 };
        let period = Duration::from_secs(5);
        let mut recorder = Recorder::new("/nowhere".into(), Limits::default(), period, "/nowhere", now);
        // It was reset: the row counts only segments sent again.
        let row = report::RowReport {
            pid: 7,
            start_time: None,
            start_time_ns: Some(8),
            comm: "talker".into(),
            exe: Some("/usr/bin/talker".into()),
            uid: Some(0),
            user: None,
            cgroup: None,
            unit: Some("talk.service".into()),
            container: None,
            netns: 1,
            netns_cookie: 2,
            device: Some("eth0".into()),
            ifindex: Some(3),
            owner: "user".into(),
            exited: false,
            interval: report::Traffic::default(),
            total: report::Traffic::default(),
            drops: report::Count::default(),
            retransmits: report::Count::default(),
        };
        let reset = report::TcpReport {
            event: "reset_received".into(),
            netns: Some(1),
            netns_cookie: Some(2),
            device: Some("eth0".into()),
            ifindex: Some(3),
            pid: Some(7),
            start_time_ns: Some(8),
            uid: Some(0),
            comm: Some("talker".into()),
            count: report::Count { interval: 1, total: 1 },
        };
        let snapshot = Snapshot {
            schema: "".into(),
            version: "".into(),
            host: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            time: String::new(),
            interval_ms: 5000,
            read_us: 0,
            accounting_since: String::new(),
            hooks: vec![],
            rows: vec![row],
            devices: vec![],
            drops: vec![],
            other_drops: report::DropAmounts::default(),
            uncounted_drops: 0,
            tcp: vec![reset],
            exited: report::Traffic::default(),
            loss: report::Loss::default(),
        };
        recorder.add(&snapshot, now);
        assert!(recorder.slot.samples.is_empty(), "it moved nothing");
        let whose: Vec<&Who> = recorder.slot.drops.keys().map(|(_, who)| who).collect();
        assert_eq!(whose.len(), 1);
        assert_eq!(whose[0].exe.as_deref(), Some("/usr/bin/talker"));
        assert_eq!(whose[0].unit.as_deref(), Some("talk.service"));
    }
}
