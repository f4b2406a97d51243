//! What an answer reports about itself, and about boots that are over.

use super::{counters, file, folder, open, origin, question, slot, who};
use crate::{
    By, Device, DropKind, Dropped, Keep, Limits, Order, Question, Reader, Resolution, Rest, Slot, Store, Usage, Who,
};

const BEGIN: i64 = 1_795_000_000;

#[test]
fn the_answer_says_what_was_not_measured_and_when_alone() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for number in [0, 1, 2, 5, 6] {
        let mut slot = slot(BEGIN + number * 10, &[(1, 10), (2, 20)]);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let load = number as f64;
        slot.tick.load = Some([load, 1.0, 1.0]);
        if number == 5 {
            slot.losses.insert("history_shed", 4);
            slot.tick.clock_step_ms = -7000;
        }
        store.write(&[slot]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let answer = reader.answer(&question(BEGIN, BEGIN + 80)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 30, BEGIN + 50), (BEGIN + 70, BEGIN + 80)]);
    assert_eq!((answer.measured_ms, answer.load_peak, answer.clock_step_ms), (50_000, Some(6.0), -7000));
    assert_eq!(answer.losses, [("history_shed".to_owned(), 4)]);
    assert_eq!(answer.rows[0].who.pid, 102);
    let when = Some("load > 1 and load < 6".parse().unwrap());
    let answer = reader.answer(&Question { when, top: 1, ..question(BEGIN, BEGIN + 80) }).unwrap();
    assert_eq!(answer.selected_ms, 20_000);
    assert_eq!((answer.rows[0].counters.tx_bytes, answer.others.tx_bytes, answer.others_number), (40, 20, 1));
    // An interval of a minute is in the slot where it ended, and covers what was before.
    let mut long = slot(BEGIN + 190, &[(1, 10)]);
    long.tick.measured_ms = 60_000;
    long.begin_ms = long.end_ms - 60_000;
    store.write(&[long]).unwrap();
    let answer = reader.answer(&question(BEGIN + 100, BEGIN + 200)).unwrap();
    assert_eq!(answer.gaps, [(BEGIN + 100, BEGIN + 140)]);
}

#[test]
fn the_last_boot_is_the_one_before_this() {
    let folder = folder();
    let path = file(&folder);
    let boot = |name: &str, at: i64| {
        let origin = crate::Origin { boot_id: name.into(), ..origin() };
        Store::open(&path, Limits::default(), &origin, at).unwrap()
    };
    boot("first", BEGIN).write(&[slot(BEGIN, &[(1, 1)])]).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert!(reader.last_boot("first").unwrap().is_none());
    // Before anything records again, and after.
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.last, found.is_clean), (BEGIN + 10, false));
    let mut second = boot("second", BEGIN + 100);
    second.write(&[slot(BEGIN + 100, &[(1, 1)])]).unwrap();
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.boot_id.as_str(), found.last, found.is_clean), ("first", BEGIN + 10, false));
    second.finish(BEGIN + 110).unwrap();
    assert!(reader.last_boot("third").unwrap().unwrap().is_clean);
}

/// One interval, recorded where it ended.
fn interval(from_ms: i64, to_ms: i64) -> Slot {
    let ts = Resolution::Slot.floor((to_ms - 1).div_euclid(1000));
    let mut slot = Slot { begin_ms: from_ms, end_ms: to_ms, ..slot(ts, &[(1, 10)]) };
    (slot.tick.measured_ms, slot.tick.readings) = ((to_ms - from_ms).cast_unsigned(), 1);
    slot
}

#[test]
fn a_long_interval_is_no_gap_and_a_quick_restart_is_one_at_every_resolution() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { keep: Keep { days: [1, 1, 400] }, ..Limits::default() };
    let start = |started: i64| Store::open(&path, limits, &origin(), started).unwrap();
    let begin = Resolution::Hour.floor(BEGIN);
    let mut store = start(begin);
    let ms = |s: i64| (begin + s) * 1000;
    for number in 0..50 {
        store.write(&[interval(ms(number * 12), ms(number * 12 + 12))]).unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    let gaps = |from: i64, to: i64| reader.answer(&question(begin + from, begin + to)).unwrap().gaps;
    assert_eq!(gaps(0, 600), []);
    // Killed, and started again in the same slot: the second half of that slot is recorded.
    drop(store);
    let mut store = start(begin + 600);
    store.write(&[interval(ms(602) + 500, ms(610))]).unwrap();
    assert_eq!(gaps(0, 620), [(begin + 600, begin + 603), (begin + 610, begin + 620)]);
    // And where one ends just before a slot, and the other begins just before its end.
    drop(store);
    let mut store = start(begin + 700);
    store.write(&[interval(ms(690), ms(699) + 600)]).unwrap();
    drop(store);
    let mut store = start(begin + 709);
    store.write(&[interval(ms(709) + 300, ms(710))]).unwrap();
    assert_eq!(gaps(680, 710), [(begin + 680, begin + 690), (begin + 699, begin + 710)]);
    store.write(&[interval(ms(610), ms(709) + 300)]).unwrap();
    for hour in 1..100 {
        let (from, to) = (if hour == 1 { ms(610) } else { ms(hour * 3600) }, ms(hour * 3600 + 3600));
        store.write(&[interval(from, to)]).unwrap();
    }
    let answer = reader.answer(&question(begin, begin + 100 * 3600)).unwrap();
    assert_eq!(answer.parts[0].resolution, Resolution::Hour, "the slots are gone");
    assert_eq!(answer.gaps, [(begin + 600, begin + 603)]);
}

#[test]
fn what_was_before_the_first_slot_was_not_measured() {
    let folder = folder();
    let path = file(&folder);
    let begin = Resolution::Hour.floor(BEGIN);
    let mut store = open(&path);
    store.write(&[slot(begin + 1230, &[(1, 5)])]).unwrap();
    store.finish(begin + 1240).unwrap();
    for from in [begin - 7200, begin, begin + 1100] {
        let answer = Reader::open(&path).unwrap().answer(&question(from, begin + 1240)).unwrap();
        assert_eq!(answer.gaps, [(from, begin + 1230)], "in whatever hour it was");
    }
}

#[test]
fn a_clock_that_is_set_hides_no_gap_and_makes_none() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let ms = |s: i64| (BEGIN + s) * 1000;
    let reader = Reader::open(&path).unwrap();
    let gaps = |from: i64, to: i64| -> Vec<(i64, i64)> {
        let answer = reader.answer(&question(BEGIN + from, BEGIN + to)).unwrap();
        answer.gaps.iter().map(|(from, to)| (from - BEGIN, to - BEGIN)).collect()
    };
    for from in (0..100).step_by(10) {
        store.write(&[interval(ms(from), ms(from + 10))]).unwrap();
    }
    // A minute back, and ahead again.
    for from in [40, 50, 100, 110] {
        store.write(&[interval(ms(from), ms(from + 10))]).unwrap();
    }
    assert_eq!(gaps(0, 120), []);
    // A year ahead for a moment: in that year, all that is recorded is measured.
    let year = 365 * 86_400;
    store.write(&[interval(ms(year), ms(year + 10))]).unwrap();
    for from in [120, 130, 150] {
        store.write(&[interval(ms(from), ms(from + 10))]).unwrap();
    }
    assert_eq!(gaps(0, 170), [(140, 150), (160, 170)]);
    // Killed while it was ahead, and set back before it runs again.
    store.write(&[interval(ms(year + 10), ms(year + 20))]).unwrap();
    drop(store);
    open(&path).write(&[interval(ms(200), ms(210))]).unwrap();
    assert_eq!(gaps(0, 210), [(140, 150), (160, 200)]);
}

#[test]
fn the_last_boot_is_the_one_before_whatever_the_clock_said() {
    let folder = folder();
    let path = file(&folder);
    let boot = |name: &str, at: i64| {
        let origin = crate::Origin { boot_id: name.into(), ..origin() };
        Store::open(&path, Limits::default(), &origin, at).unwrap()
    };
    let mut first = boot("first", BEGIN);
    for from in (0..600).step_by(10) {
        first.write(&[slot(BEGIN + from, &[(1, 1000)])]).unwrap();
    }
    drop(first);
    // No battery: the clock starts before that of the first, shows the minutes again in which the machine went down, and is
    // set when the network is there.
    let mut second = boot("second", BEGIN - 1000);
    for from in (-1000..-900).chain(300..360).chain(7200..7260).step_by(10) {
        second.write(&[slot(BEGIN + from, &[(2, 5000)])]).unwrap();
    }
    // Nothing is recorded of this one.
    drop(second);
    drop(boot("third", 0));
    let reader = Reader::open(&path).unwrap();
    let found = reader.last_boot("second").unwrap().unwrap();
    assert_eq!((found.boot_id.as_str(), found.last), ("first", BEGIN + 600));
    for by in [By::Process, By::Program, By::Device] {
        let asked = Question { boot: Some(found.id), by, ..question(found.last - 600, found.last) };
        let answer = reader.answer(&asked).unwrap();
        let moved = answer.rows.iter().map(|row| row.counters.tx_bytes).sum::<u64>();
        assert_eq!(moved, if by == By::Device { 60 * 1007 } else { 60_000 }, "{by:?}");
        assert_eq!(answer.gaps, []);
    }
    let found = reader.last_boot("third").unwrap().unwrap();
    assert_eq!((found.boot_id.as_str(), found.last), ("second", BEGIN + 7260));
}

/// prctl(PR_SET_NAME) takes an empty name.
#[test]
fn a_process_without_a_name_is_not_put_together_with_what_is_nobodys() {
    let folder = folder();
    let path = file(&folder);
    let mut slot = slot(BEGIN, &[(1, 1000)]);
    let nameless = Who { comm: String::new(), exe: None, ..who(2) };
    slot.samples.insert(nameless.clone(), counters(5000));
    slot.drops.clear();
    slot.drops.insert((DropKind::default(), Who::default()), Dropped { packets: 3, bytes: 300 });
    open(&path).write(&[slot]).unwrap();
    let reader = Reader::open(&path).unwrap();
    let answer = reader.answer(&question(BEGIN, BEGIN + 10)).unwrap();
    let found = answer.rows.iter().find(|row| row.who.pid == nameless.pid).unwrap();
    assert_eq!((found.counters.tx_bytes, found.drops), (5000, 0));
    assert!(answer.rows.iter().any(|row| (row.who.pid, row.drops) == (0, 3)));
    let by_user = Question { by: By::User, ..question(BEGIN, BEGIN + 10) };
    let answer = reader.answer(&by_user).unwrap();
    let found = answer.rows.iter().find(|row| row.who.uid == nameless.uid).unwrap();
    assert_eq!((found.counters.tx_bytes, found.drops), (5000, 0));
}

#[test]
fn what_a_capture_missed_is_no_lost_traffic() {
    let folder = folder();
    let path = file(&folder);
    let mut slot = slot(BEGIN, &[(1, 1000)]);
    slot.drops.clear();
    for (class, packets) in [("capture", 7), ("routing", 2)] {
        let kind = DropKind { class: class.into(), ..DropKind::default() };
        slot.drops.insert((kind, who(1)), Dropped { packets, bytes: 0 });
    }
    open(&path).write(&[slot]).unwrap();
    let answer = Reader::open(&path).unwrap().answer(&question(BEGIN, BEGIN + 10)).unwrap();
    assert_eq!(answer.rows[0].drops, 2);
}

#[test]
fn no_rest_of_a_device_is_negative() {
    let folder = folder();
    let path = file(&folder);
    let with = |ts: i64, unattributed_bytes: [i64; 2], undecided_bytes: i64| {
        let mut slot = slot(ts, &[(0, 1000)]);
        for balance in slot.devices.values_mut() {
            (balance.tx.unattributed_bytes, balance.rx.unattributed_bytes) = unattributed_bytes.into();
            (balance.tx.undecided_bytes, balance.rx.undecided_bytes) = (undecided_bytes, -undecided_bytes);
        }
        slot
    };
    // What it sent in the first is counted in the second.
    open(&path).write(&[with(BEGIN, [-300, 50], 0), with(BEGIN + 10, [310, 0], 7)]).unwrap();
    let rest = |from: i64, to: i64| {
        let question = Question { by: By::Device, ..question(from, to) };
        Reader::open(&path).unwrap().answer(&question).unwrap().rows[0].rest.unwrap()
    };
    let first = Rest { unattributed_bytes: 50, pending_bytes: 300, undecided_bytes: 0 };
    assert_eq!(rest(BEGIN, BEGIN + 10), first);
    let both = Rest { unattributed_bytes: 60, pending_bytes: 0, undecided_bytes: 14 };
    assert_eq!(rest(BEGIN, BEGIN + 20), both);
}

#[test]
fn of_a_process_that_got_another_name_within_a_slot_the_last_is_shown() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let mut slot = slot(BEGIN, &[]);
    for comm in ["bash", "backup"] {
        for number in 0..10 {
            let who = Who { comm: comm.into(), ..who(number) };
            let used = Usage { user_us: 20_000, ..Usage::default() };
            slot.usage.insert(Who { device: Device::default(), ..who.clone() }, used);
            slot.samples.insert(who, counters(1000 + u64::from(number)));
        }
    }
    slot.cap(20);
    store.write(&[slot]).unwrap();
    let reader = Reader::open(&path).unwrap();
    for order in [Order::Bytes, Order::Cpu] {
        let answer = reader.answer(&Question { order, ..question(BEGIN, BEGIN + 10) }).unwrap();
        assert!(answer.rows.len() == 10 && answer.rows.iter().all(|row| row.name == "backup"), "{:?}", answer.rows);
    }
}
