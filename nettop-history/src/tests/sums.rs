//! For any record, in any order, every resolution has the same sums, and every answer adds up to them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rusqlite::Connection;

use super::{counters, file, folder, open, origin, question, slot};
use crate::{By, ContainerNames, Counters, Keep, Limits, Login, Names, Question, Reader, Resolution, Slot, Store, Who};

const BEGIN: i64 = 1_795_000_000;

/// Seconds to the next slot, what processes moved in it, and whether the daemon is killed after it.
type Step = (i64, Vec<(u32, u64)>, bool);

fn steps(jumps: &'static [i64]) -> impl Strategy<Value = Vec<Step>> {
    let moved = prop::collection::vec((0..12u32, 0..5_000_000_000u64), 0..6);
    prop::collection::vec((prop::sample::select(jumps), moved, prop::bool::weighted(0.1)), 1..60)
}

fn slots(steps: &[Step]) -> Vec<(Slot, bool)> {
    let mut ts = BEGIN;
    let slots = steps.iter().map(|(jump, moved, is_killed)| {
        ts += jump;
        (slot(ts, moved), *is_killed)
    });
    slots.collect()
}

/// Sums of the input: of processes, and bytes of devices both ways with what was unattributed.
fn given(slots: &[(Slot, bool)]) -> (Counters, [u64; 4], u64) {
    let mut sum = Counters::default();
    let mut balance = [0; 4];
    let mut drops = 0;
    for (slot, _) in slots {
        slot.samples.values().for_each(|more| sum.add(more));
        for of_device in slot.devices.values() {
            balance[0] += of_device.tx.bytes;
            balance[1] += of_device.rx.bytes;
            balance[2] += of_device.tx.attributed_bytes + of_device.rx.attributed_bytes;
            balance[3] += (of_device.tx.unattributed_bytes + of_device.rx.unattributed_bytes).cast_unsigned();
        }
        drops += slot.drops.values().map(|dropped| dropped.packets).sum::<u64>();
    }
    (sum, balance, drops)
}

/// Counters, processes and drops of the input, grouped here.
fn grouped(slots: &[(Slot, bool)], by: By) -> BTreeMap<String, (Counters, usize, u64)> {
    let name = |who: &Who| match by {
        By::Process | By::Device => who.pid.to_string(),
        By::Program => who.exe.clone().unwrap(),
        By::Unit => who.unit.clone().unwrap_or_else(|| "-".into()),
        By::User => who.uid.unwrap().to_string(),
        By::Container | By::Pod => "-".into(),
        By::Script => who.script.clone().unwrap_or_else(|| "-".into()),
        By::Parent => who.parents[2].comm.clone(),
    };
    let mut groups: BTreeMap<String, (Counters, BTreeSet<u32>, u64)> = BTreeMap::new();
    for (slot, _) in slots {
        for (who, counters) in &slot.samples {
            let (sum, processes, _) = groups.entry(name(who)).or_default();
            sum.add(counters);
            processes.insert(who.pid);
        }
        for ((_, who), dropped) in &slot.drops {
            groups.entry(name(who)).or_default().2 += dropped.packets;
        }
    }
    groups.into_iter().map(|(name, (sum, processes, drops))| (name, (sum, processes.len(), drops))).collect()
}

fn stored(connection: &Connection, resolution: Resolution) -> (Counters, [u64; 4], u64) {
    let suffix = resolution.suffix();
    let sums = |table: &str, columns: &[&str]| -> Vec<u64> {
        let columns: Vec<String> = columns.iter().map(|column| format!("coalesce(sum({column}), 0)")).collect();
        let query = format!("SELECT {} FROM {table}_{suffix}", columns.join(", "));
        let number = |row: &rusqlite::Row<'_>, index: usize| row.get::<_, i64>(index).unwrap().cast_unsigned();
        connection
            .query_row(&query, [], |row| Ok((0..columns.len()).map(|index| number(row, index)).collect()))
            .unwrap()
    };
    let columns = ["tx_bytes", "rx_bytes", "tx_packets", "rx_packets", "tx_app_bytes", "rx_app_bytes"];
    let [tx_bytes, rx_bytes, tx_packets, rx_packets, tx_app_bytes, rx_app_bytes] =
        sums("sample", &columns).try_into().unwrap();
    let balance = ["tx_bytes", "rx_bytes", "tx_attributed + rx_attributed", "tx_unattributed + rx_unattributed"];
    let counters = Counters { tx_bytes, rx_bytes, tx_packets, rx_packets, tx_app_bytes, rx_app_bytes };
    (counters, sums("device", &balance).try_into().unwrap(), sums("drop", &["packets"])[0])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_resolution_has_what_was_given(steps in steps(&[0, 10, 10, 10, 30, 70, 3600, 5000, -20, -4000])) {
        let folder = folder();
        let path = file(&folder);
        let slots = slots(&steps);
        let mut store = open(&path);
        for (slot, is_killed) in &slots {
            store.write(std::slice::from_ref(slot)).unwrap();
            if *is_killed {
                drop(store);
                store = open(&path);
            }
        }
        store.finish(BEGIN).unwrap();
        let connection = Connection::open(&path).unwrap();
        for resolution in Resolution::ALL {
            prop_assert_eq!(stored(&connection, resolution), given(&slots), "{:?}", resolution);
        }
        // A bucket's peak is that of its busiest 10 s.
        let peak = |suffix: &str, column: &str| -> Option<i64> {
            connection.query_row(&format!("SELECT max({column}) FROM sample_{suffix}"), [], |row| row.get(0)).unwrap()
        };
        prop_assert_eq!(peak("10s", "tx_bytes"), peak("1m", "tx_peak"));
        prop_assert_eq!(peak("10s", "rx_bytes"), peak("1h", "rx_peak"));
    }

    #[test]
    fn an_answer_adds_up_while_fine_rows_go(
        steps in steps(&[10, 10, 50, 600, 7200, 40_000, 90_000, 1_000_000, -30, -100_000, -2_000_000]),
        by in prop::sample::select(&[By::Process, By::Program, By::Unit, By::User, By::Container, By::Device, By::Script, By::Parent][..]),
    ) {
        let folder = folder();
        let path = file(&folder);
        let limits = Limits { keep: Keep { days: [1, 3, 4000] }, ..Limits::default() };
        let mut store = Store::open(&path, limits, &origin(), 0).unwrap();
        let mut slots = slots(&steps);
        // So long that the clock is trusted.
        slots.iter_mut().for_each(|(slot, _)| slot.tick.measured_ms = 3_600_000);
        for (slot, _) in &slots {
            store.write(std::slice::from_ref(slot)).unwrap();
        }
        // Still open: the last minute and hour are in the finer tables only.
        let first = slots.iter().map(|(slot, _)| slot.ts).min().unwrap();
        let last = slots.iter().map(|(slot, _)| slot.ts).max().unwrap();
        let question = Question { by, ..question(first, last + 10) };
        let answer = Reader::open(&path).unwrap().answer(&question).unwrap();
        let (sum, balance, drops) = given(&slots);
        let mut answered = Counters::default();
        answer.rows.iter().for_each(|row| answered.add(&row.counters));
        if by == By::Device {
            prop_assert_eq!([answered.tx_bytes, answered.rx_bytes], [balance[0], balance[1]]);
            let rest: u64 = answer.rows.iter().filter_map(|row| row.rest).map(|rest| rest.unattributed_bytes).sum();
            prop_assert_eq!(rest, balance[3]);
        } else {
            prop_assert_eq!(answered, sum);
            prop_assert_eq!(answer.rows.iter().map(|row| row.drops).sum::<u64>(), drops);
        }
        let in_sparklines: u64 = answer.rows.iter().flat_map(|row| &row.sparkline).sum();
        prop_assert_eq!(in_sparklines, answered.bytes());
        prop_assert_eq!(answer.measured_ms, slots.len() as u64 * 3_600_000);
        if by != By::Device {
            let found: BTreeMap<_, _> = answer
                .rows
                .iter()
                .map(|row| ((row.who.pid, row.name.clone()), (row.counters, row.processes, row.drops)))
                .map(|((pid, name), sums)| (if by == By::Process { pid.to_string() } else { name }, sums))
                .collect();
            prop_assert_eq!(found, grouped(&slots, by));
        }
        let bytes: Vec<u64> = answer.rows.iter().map(|row| row.counters.bytes()).collect();
        prop_assert!(bytes.is_sorted_by(|one, next| one >= next), "{:?}", bytes);
        let first = Reader::open(&path).unwrap().answer(&Question { top: 2, ..question }).unwrap();
        let (shown, rest) = answer.rows.split_at(answer.rows.len().min(2));
        let mut others = Counters::default();
        rest.iter().for_each(|row| others.add(&row.counters));
        prop_assert_eq!((first.others, first.others_number), (others, rest.len()));
        for (one, other) in first.rows.iter().zip(shown) {
            prop_assert_eq!((&one.name, &one.who, one.counters, &one.sparkline), (&other.name, &other.who, other.counters, &other.sparkline));
        }
    }
}

#[test]
fn what_is_left_in_hours_only_is_answered() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { keep: Keep { days: [1, 3, 4000] }, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), 0).unwrap();
    for ts in [BEGIN, BEGIN + 1_000_000] {
        let mut slot = slot(ts, &[(1, 5)]);
        slot.tick.measured_ms = 3_600_000;
        store.write(&[slot]).unwrap();
    }
    let answer = Reader::open(&path).unwrap().answer(&question(BEGIN, BEGIN + 1_000_010)).unwrap();
    assert_eq!(answer.rows[0].counters.tx_bytes, 10);
}

#[test]
fn what_does_not_fit_in_a_slot_is_added_up_as_others() {
    let moved: Vec<(u32, u64)> = (0..40).map(|number| (number, 1000 + u64::from(number))).collect();
    let mut capped = slot(BEGIN, &moved);
    capped.cap(10);
    let mut sum = Counters::default();
    capped.samples.values().for_each(|more| sum.add(more));
    let mut whole = Counters::default();
    moved.iter().for_each(|(_, bytes)| whole.add(&counters(*bytes)));
    assert_eq!(sum, whole);
    assert_eq!(capped.samples.len(), 12, "ten, and others on two devices");
    assert!(capped.samples.keys().any(|who| who.pid == 139), "the busiest stay");
    assert_eq!(capped.drops.values().map(|dropped| dropped.packets).sum::<u64>(), 40);
    assert!(capped.drops.len() <= 12);
}

#[test]
fn what_did_not_fit_is_others_by_whatever_it_is_asked() {
    let folder = folder();
    let path = file(&folder);
    let mut capped = slot(BEGIN, &[(1, 1000), (3, 10), (5, 10)]);
    capped.cap(1);
    open(&path).write(&[capped]).unwrap();
    let reader = Reader::open(&path).unwrap();
    for by in [By::Process, By::Program, By::Unit, By::User, By::Container, By::Script, By::Parent] {
        let answer = reader.answer(&Question { by, ..question(BEGIN, BEGIN + 10) }).unwrap();
        let others: Vec<u64> =
            answer.rows.iter().filter(|row| row.name == "[other]").map(|row| row.counters.tx_bytes).collect();
        assert_eq!(others, [20], "{by:?}");
    }
}

#[test]
fn what_is_known_of_a_process_stays_known() {
    let folder = folder();
    let path = file(&folder);
    let whole = slot(BEGIN, &[(2, 5)]);
    let mut bare = slot(BEGIN + 10, &[]);
    let who = super::who(2);
    bare.samples.insert(
        Who {
            exe: None,
            script: None,
            unit: None,
            cgroup: None,
            parents: Vec::new(),
            login: Login::default(),
            ..who.clone()
        },
        counters(7),
    );
    open(&path).write(&[whole, bare]).unwrap();
    let answer = Reader::open(&path).unwrap().answer(&question(BEGIN, BEGIN + 20)).unwrap();
    let found = &answer.rows[0];
    assert_eq!((&found.who, found.counters.tx_bytes, answer.rows.len()), (&who, 12, 1));
}

#[test]
fn what_is_recorded_where_minutes_went_before_is_added_to_their_hour() {
    let folder = folder();
    let path = file(&folder);
    let limits = Limits { keep: Keep { days: [1, 3, 4000] }, ..Limits::default() };
    let mut store = Store::open(&path, limits, &origin(), 0).unwrap();
    let hour = Resolution::Hour.floor(BEGIN);
    // Ten days on, the hour's only minute goes, and only the first ten minutes of slots. Then the clock is set back.
    for ts in [hour + 10, hour + 864_000, hour + 1800] {
        let mut slot = slot(ts, &[(1, 5)]);
        slot.tick.measured_ms = 3_600_000;
        store.write(&[slot]).unwrap();
    }
    let answer = Reader::open(&path).unwrap().answer(&question(hour, hour + 864_010)).unwrap();
    assert_eq!(answer.rows[0].counters.tx_bytes, 15);
}

#[test]
fn only_processes_of_these_names_are_added_up() {
    let folder = folder();
    let path = file(&folder);
    let moved: Vec<(u32, u64)> = (0..10).map(|number| (number, 1 << number)).collect();
    let mut slot = slot(BEGIN, &moved);
    let contained = Who { container: Some("0123abcd".into()), ..super::who(20) };
    slot.samples.insert(contained, counters(1 << 20));
    let names = ContainerNames {
        container_name: Some("front".into()),
        pod: Some("shop/front-1".into()),
        ..ContainerNames::default()
    };
    slot.containers.insert("0123abcd".into(), names);
    open(&path).write(&[slot]).unwrap();
    let sent = |by, names: Names| {
        let answer =
            Reader::open(&path).unwrap().answer(&Question { by, names, ..question(BEGIN, BEGIN + 10) }).unwrap();
        let (rows, drops) = (answer.rows.iter(), answer.rows.iter().map(|row| row.drops).sum::<u64>());
        let sparkline: u64 = answer.rows.iter().flat_map(|row| &row.sparkline).sum();
        assert_eq!(sparkline, rows.clone().map(|row| row.counters.bytes()).sum::<u64>());
        (rows.map(|row| row.counters.tx_bytes).sum::<u64>(), drops)
    };
    let names = |text: &str| vec![text.to_owned(), "no-such".to_owned()];
    for by in [By::Process, By::Unit, By::Parent] {
        let select = Names { commands: names("talker1"), ..Names::default() };
        assert_eq!(sent(by, select), (1 << 1 | 1 << 6, 2));
        let select = Names { units: names("talk"), ..Names::default() };
        assert_eq!(sent(by, select), (1 << 20 | 0x155, 5));
        let select = Names { units: names("talk.service"), commands: names("talker2"), ..Names::default() };
        assert_eq!(sent(by, select), (1 << 2, 1));
        let select = Names { containers: names("0123"), ..Names::default() };
        assert_eq!(sent(by, select), (1 << 20, 0));
        for nobody in ["' OR 1 --", "fron", "123"] {
            let select = Names { containers: names(nobody), ..Names::default() };
            assert_eq!(sent(by, select), (0, 0));
        }
        let select = Names { containers: names("front"), ..Names::default() };
        assert_eq!(sent(by, select), (1 << 20, 0));
        for (pod, bytes) in [("shop/front-1", 1 << 20), ("front-1", 1 << 20), ("ront-1", 0), ("shop", 0)] {
            let select = Names { pods: names(pod), ..Names::default() };
            assert_eq!(sent(by, select), (bytes, 0), "{pod}");
        }
    }
}

#[test]
fn a_container_has_the_names_that_were_known_last() {
    let folder = folder();
    let path = file(&folder);
    let write = |ts: i64, names: ContainerNames| {
        let mut slot = slot(ts, &[(1, 5)]);
        slot.samples.insert(Who { container: Some("0123abcd".into()), ..super::who(20) }, counters(7));
        slot.containers.insert("0123abcd".into(), names);
        open(&path).write(&[slot]).unwrap();
    };
    let text = |text: &str| Some(text.to_owned());
    // Not at all; known when it is silent; by the path alone; then what the runtime says; then by a daemon that may not read it.
    let by_path = ContainerNames { runtime: Some("docker".into()), ..ContainerNames::default() };
    let mut unnamed = slot(BEGIN - 20, &[]);
    for id in ["silent", "unknown"] {
        unnamed.samples.insert(Who { container: text(id), ..super::who(30) }, counters(1));
    }
    let mut silent = slot(BEGIN - 10, &[]);
    for id in ["silent", "stranger"] {
        let names = ContainerNames { container_name: text(&format!("{id} one")), ..ContainerNames::default() };
        silent.containers.insert(id.into(), names);
    }
    open(&path).write(&[unnamed, silent]).unwrap();
    let before = Question { by: By::Container, ..question(BEGIN - 20, BEGIN) };
    let names: BTreeSet<String> =
        Reader::open(&path).unwrap().answer(&before).unwrap().rows.into_iter().map(|row| row.name).collect();
    assert_eq!(names, BTreeSet::from(["silent one".to_owned(), "unknown".to_owned()]));
    let noted: i64 =
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM container", [], |row| row.get(0)).unwrap();
    assert_eq!(noted, 2, "of a stranger there is no row");
    write(BEGIN, by_path.clone());
    let named = ContainerNames {
        container_name: text("web"),
        image: text("nginx"),
        pod: text("shop/web-0"),
        ..by_path.clone()
    };
    write(BEGIN + 10, named.clone());
    write(BEGIN + 20, by_path);
    for (by, name) in [(By::Container, "web"), (By::Pod, "shop/web-0")] {
        let answer = Reader::open(&path).unwrap().answer(&Question { by, ..question(BEGIN, BEGIN + 30) }).unwrap();
        let rows: Vec<_> = answer.rows.iter().map(|row| (row.name.as_str(), row.counters.tx_bytes)).collect();
        assert_eq!(rows, [(name, 21), ("-", 15)]);
        assert_eq!(answer.rows[0].container, named);
        assert_eq!(answer.rows[1].container, ContainerNames::default());
    }
}
