//! The store against what it was given.

mod answers;
mod disks;
mod recorded;
mod room;
mod sums;
mod troubles;
mod usage;
mod versions;

use std::path::{Path, PathBuf};

use crate::{
    Ancestor, By, Counters, Device, DeviceBalance, DirectionBalance, DropKind, Dropped, Limits, Login, Order, Origin,
    Question, Slot, Store, Tick, Who,
};

/// In memory where there is such a file system: these tests are not about the disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn origin() -> Origin {
    Origin { boot_id: "this".into(), host: "host".into(), kernel: "6.12".into(), version: "0".into(), hooks_missing: 0 }
}

fn open(path: &Path) -> Store {
    Store::open(path, Limits::default(), &origin(), 0).unwrap()
}

fn who(number: u32) -> Who {
    Who {
        pid: 100 + number,
        start_time_ns: Some(7_000_000_000 + u64::from(number)),
        uid: Some(number % 3),
        comm: format!("talker{}", number % 5),
        exe: Some(format!("/usr/bin/talker{}", number % 5)),
        script: number.is_multiple_of(2).then(|| "/srv/talk.sh".into()),
        unit: number.is_multiple_of(2).then(|| "talk.service".into()),
        cgroup: Some("/system.slice/talk.service".into()),
        container: None,
        parents: parents(number),
        login: login(number),
        device: device(number % 2),
    }
}

/// Of services nothing of it is known.
fn login(number: u32) -> Login {
    if number.is_multiple_of(2) {
        return Login { session: Some(100 + number), ..Login::default() };
    }
    Login {
        login_uid: Some(1000 + number % 3),
        session: Some(2000 + number),
        session_start_time_ns: Some(6_000_002_000 + u64::from(number)),
        session_comm: Some("sh".into()),
        arguments: number.is_multiple_of(3).then(|| format!("talk\n{number}")),
    }
}

/// A shell of its own, a shell that several have, and cron or sshd.
fn parents(number: u32) -> Vec<Ancestor> {
    let parent = |pid: u32, comm: &str, passes_on| Ancestor {
        pid,
        start_time_ns: 6_000_000_000 + u64::from(pid),
        uid: 0,
        comm: comm.into(),
        passes_on,
    };
    let top = if number.is_multiple_of(2) { parent(10, "cron", false) } else { parent(11, "sshd", false) };
    vec![parent(2000 + number, "sh", true), parent(20 + number % 2, "bash", true), top]
}

fn device(number: u32) -> Device {
    Device { netns: 1, netns_cookie: 2, ifindex: number + 1, name: Some(format!("eth{number}")) }
}

fn counters(bytes: u64) -> Counters {
    Counters {
        tx_bytes: bytes,
        rx_bytes: bytes * 3,
        tx_packets: bytes / 700 + 1,
        rx_packets: bytes / 1400 + 1,
        tx_app_bytes: bytes / 2,
        rx_app_bytes: bytes * 2,
    }
}

/// A slot in which processes moved something, each on its device.
fn slot(ts: i64, moved: &[(u32, u64)]) -> Slot {
    let tick = Tick { measured_ms: 10_000, readings: 2, ..Tick::default() };
    let mut slot = Slot { ts, begin_ms: ts * 1000, end_ms: (ts + 10) * 1000, tick, ..Slot::default() };
    for (number, bytes) in moved {
        let who = who(*number);
        let counters = counters(*bytes);
        let side = |bytes: u64, packets: u64| DirectionBalance {
            bytes: bytes + 7,
            packets,
            attributed_bytes: bytes,
            unattributed_bytes: 7,
            ..DirectionBalance::default()
        };
        let balance = DeviceBalance {
            tx: side(counters.tx_bytes, counters.tx_packets),
            rx: side(counters.rx_bytes, counters.rx_packets),
        };
        slot.devices.entry(who.device.clone()).or_default().add(&balance);
        let kind = DropKind { reason: "NO_SOCKET".into(), class: "routing".into(), ..DropKind::default() };
        let dropped = slot.drops.entry((kind, who.clone())).or_default();
        *dropped = Dropped { packets: dropped.packets + 1, bytes: dropped.bytes + bytes };
        slot.samples.entry(who).or_default().add(&counters);
    }
    slot
}

fn question(from: i64, to: i64) -> Question {
    Question {
        from,
        to,
        by: By::Process,
        order: Order::Bytes,
        top: 1000,
        when: None,
        names: crate::Names::default(),
        boot: None,
        columns: 10,
    }
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("history.db")
}
