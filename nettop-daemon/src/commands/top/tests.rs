//! The same intervals give the same screens, live, followed and replayed.

use nettop_history::{Keep, Limits, Origin, Reader, SLOT_S, Slot, Store, Tick};
use nettop_model::{
    ProcessNames, Snapshot,
    drops::{Class, DropReport},
    snapshot::{Amount, Count, DeviceBalance, DeviceReport, DirectionBalance, DropAmount, Loss, RowReport, Traffic},
};
use nettop_top::{Effect, Event, Key, Move, Options, State, save_text, update};

use super::{record, source::measured};
use crate::{
    client,
    identity::users::{self, Users},
    record::{answer::utc, slot},
};

/// When the first slot begins.
const BEGIN: i64 = 1_795_033_600;
const SLOTS: i64 = 20;

fn traffic(tx: u64, rx: u64) -> Traffic {
    let amount = |bytes: u64| Amount { bytes, packets: bytes / 100, app_bytes: bytes };
    Traffic { tx: amount(tx), rx: amount(rx) }
}

/// The interval that fills a slot. Its totals are its own, as those of a record are.
fn snapshot(number: i64) -> Snapshot {
    let n = number.unsigned_abs();
    let row = |pid: u32, comm: &str, moved: Traffic, drops: u64| RowReport {
        pid,
        start_time_ns: (pid != 0).then_some(u64::from(pid) * 1000),
        comm: comm.into(),
        uid: (pid != 0).then_some(0),
        user: (pid != 0).then(|| "root".into()),
        process: ProcessNames {
            exe: (pid != 0).then(|| format!("/usr/bin/{comm}")),
            unit: (pid != 0).then(|| format!("{comm}.service")),
            ..ProcessNames::default()
        },
        netns: 1,
        netns_cookie: 2,
        device: Some("eth0".into()),
        ifindex: Some(3),
        interval: moved,
        total: moved,
        drops: Count { interval: drops, total: drops },
        ..RowReport::default()
    };
    let rows = vec![
        row(7, "nginx", traffic(10_000 * (n % 5 + 1), 700), 4),
        row(8, "rsync", traffic(500, 30_000), 0),
        row(0, "[kernel]", traffic(60, 40), 0),
    ];
    // As Ethernet has them.
    const HEADERS: u64 = 1400;
    let side = |owned: u64, kernel: u64, unattributed: u64| DirectionBalance {
        bytes: owned + kernel + unattributed + HEADERS,
        link_header_bytes: HEADERS,
        attributed_bytes: owned,
        kernel_bytes: kernel,
        unattributed_bytes: unattributed,
        ..DirectionBalance::default()
    };
    let sent = rows[0].interval.tx.bytes + rows[1].interval.tx.bytes;
    let balance = DeviceBalance { tx: side(sent, 60, 0), rx: side(30_700, 40, 123) };
    let device = DeviceReport {
        netns: 1,
        netns_cookie: 2,
        device: "eth0".into(),
        ifindex: 3,
        interval: balance,
        total: balance,
        ..DeviceReport::default()
    };
    let amount = DropAmount { packets: 4, bytes: Some(400) };
    let drop = DropReport {
        reason: "SOCKET_RCVBUFF".into(),
        reason_code: Some(6),
        class: Class::Capacity,
        location: "udp_queue_rcv_one_skb+0x1a".into(),
        protocol: Some("UDP".into()),
        netns: Some(1),
        netns_cookie: Some(2),
        device: Some("eth0".into()),
        ifindex: Some(3),
        pid: Some(7),
        start_time_ns: Some(7000),
        uid: Some(0),
        comm: Some("nginx".into()),
        owner: "receiver".into(),
        local_port: None,
        interval: amount,
        total: amount,
    };
    Snapshot {
        host: "web-03".into(),
        kernel: "6.12.107".into(),
        time: utc(BEGIN + (number + 1) * SLOT_S),
        interval_ms: 10_000,
        rows,
        devices: vec![device],
        drops: vec![drop],
        // Since counting began: one in each second interval.
        loss: Loss { rows_full: n.div_ceil(2), ..Loss::default() },
        ..Snapshot::default()
    }
}

fn origin() -> Origin {
    Origin {
        boot_id: "b".into(),
        host: "web-03".into(),
        kernel: "6.12.107".into(),
        version: "0".into(),
        hooks_missing: 0,
    }
}

fn state() -> State {
    // Narrower than the column that tells how a device's counting is known: a record does not keep that.
    State::new(Options { has_record: true, has_live: true, ..Options::default() }, (100, 19))
}

/// Every view, but for the line that says when it is.
fn screens(mut state: State) -> Vec<String> {
    let views = ('1'..='5').map(|view| {
        update(&mut state, Event::Key(Key::Char(view)));
        update(&mut state, Event::Key(Key::Down));
        let text = save_text(&state);
        text.lines().skip(1).collect::<Vec<_>>().join("\n")
    });
    views.collect()
}

#[test]
fn live_followed_and_replayed_intervals_give_the_same_screens() {
    let (mut live, mut followed, mut replayed) = (state(), state(), state());
    for number in 0..SLOTS {
        update(&mut live, Event::Measured(Box::new(measured(snapshot(number)))));
        let line = serde_json::to_vec(&snapshot(number)).unwrap();
        let read: Snapshot = client::read(&line).unwrap();
        update(&mut followed, Event::Measured(Box::new(measured(read))));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let mut store = Store::open(&path, Limits::default(), &origin(), BEGIN).unwrap();
    for number in 0..SLOTS {
        let snapshot = snapshot(number);
        let ts = BEGIN + number * SLOT_S;
        let tick = Tick { measured_ms: 10_000, readings: 1, ..Tick::default() };
        let mut recorded =
            Slot { ts, begin_ms: ts * 1000, end_ms: (ts + SLOT_S) * 1000, tick, flush: number + 1, ..Slot::default() };
        slot::add(&mut recorded, &snapshot, false);
        if number % 2 == 1 {
            recorded.losses.insert("rows_full", 1);
        }
        store.write(&[recorded]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let mut users = Users::with_timeout(users::DOCUMENT_TIMEOUT);
    let last_ms = (BEGIN + SLOTS * SLOT_S - 1) * 1000;
    let [Effect::Record { number, to }] = update(&mut replayed, Event::Time(Ok(last_ms)))[..] else { panic!() };
    let (frames, said) = record::go(&reader, to, usize::MAX, Some(&mut users)).unwrap();
    assert_eq!((frames.len(), said), (20, None));
    update(&mut replayed, Event::Recorded(number, frames, None));
    let shown = screens(live);
    assert!(shown[0].contains("nginx") && shown[0].contains("!loss rows_full 1"), "{}", shown[0]);
    assert!(shown[4].contains("SOCKET_RCVBUFF"), "{}", shown[4]);
    assert_eq!(shown, screens(followed));
    assert_eq!(shown, screens(replayed));
    // Where slots are large there are fewer; of another machine's users there are numbers.
    let (frames, _) = record::go(&reader, to, 1, None).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].at_ms, last_ms + 1000);
    assert!(frames[0].snapshot.rows.iter().all(|row| row.user.is_none()));
    // By minutes, over slots.
    let by = |slots: i64, minutes: i64| {
        let (frames, _) =
            record::go(&reader, Move::Minutes((BEGIN + slots * SLOT_S) * 1000, minutes), 1, None).unwrap();
        frames.last().map(|frame| (frame.at_ms / 1000 - BEGIN) / SLOT_S)
    };
    assert_eq!([by(7, 1), by(7, -1), by(1, -1), by(19, 1), by(20, 1)], [Some(13), Some(1), None, Some(20), None]);
}

#[test]
fn a_minute_is_at_least_the_next_slot_minute_or_hour() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let limits = Limits { keep: Keep { days: [1, 2, 400] }, ..Limits::default() };
    const HOURS: i64 = 4 * 24;
    let begin = BEGIN / 3600 * 3600;
    let mut store = Store::open(&path, limits, &origin(), begin).unwrap();
    for hour in 0..HOURS {
        let ts = begin + hour * 3600;
        // An hour was measured, or nothing would be taken for old.
        let tick = Tick { measured_ms: 3_600_000, readings: 1, ..Tick::default() };
        let mut recorded = Slot { ts, begin_ms: ts * 1000, end_ms: (ts + SLOT_S) * 1000, tick, ..Slot::default() };
        slot::add(&mut recorded, &snapshot(hour), false);
        store.write(&[recorded]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let walk = |mut end_ms: i64, minutes: i64| {
        let mut slots = 0;
        loop {
            let (frames, _) = record::go(&reader, Move::Minutes(end_ms, minutes), 1, None).unwrap();
            match frames.last() {
                Some(frame) if (frame.at_ms - end_ms) * minutes > 0 => end_ms = frame.at_ms,
                _ => return (end_ms, slots),
            }
            slots += 1;
        }
    };
    let last_ms = (begin + (HOURS - 1) * 3600 + SLOT_S) * 1000;
    let (first_ms, back) = walk(last_ms, -1);
    assert_eq!((first_ms, back), ((begin + 3600) * 1000, HOURS - 1), "the first is an hour");
    assert_eq!(walk(first_ms, 1), (last_ms, HOURS - 1));
}
