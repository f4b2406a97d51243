//! What processes used adds up at every resolution, by whatever it is asked.

use rusqlite::Connection;

use super::{file, folder, open, question, slot, who};
use crate::{Ancestor, By, HostUsage, Order, Question, Reader, Resolution, Slot, Usage, Who, slot::Device};

/// The begin of an hour.
const BEGIN: i64 = 1_795_003_200;

/// What a process used in a slot.
fn usage(number: u32, ts: i64) -> Usage {
    let amount = u64::from(number) * 1000 + ts.cast_unsigned() % 977;
    Usage {
        user_us: 20_000 + amount,
        system_us: amount / 3,
        wait_us: amount / 7,
        runnable_ms: 5000 * u64::from(number % 3),
        blocked_ms: 5000 * u64::from(number % 2),
        rss_kib_s: 40_960 * u64::from(20 - number),
        read_bytes: amount * 4096,
        write_bytes: amount * 512,
        rss_peak_kib: 5000 + amount,
        threads: u64::from(number),
        ..Usage::default()
    }
}

/// A slot in which these used something, and one of them talked.
fn busy(ts: i64, numbers: &[u32]) -> Slot {
    let mut slot = slot(ts, &[(numbers[0], 100)]);
    let mut host = HostUsage { usage_ms: 10_000, idle_ms: 10_000, memory_total_kib: 1000, ..HostUsage::default() };
    for number in numbers {
        let used = usage(*number, ts);
        // Some while later it is loaded.
        host.user_ms = if ts >= BEGIN + 3600 { 90_000 } else { 1000 };
        host.memory_used_kib = 900;
        slot.usage.insert(Who { device: Device::default(), ..who(*number) }, used);
    }
    slot.host = Some(host);
    slot
}

fn all(answer: &crate::Answer) -> Usage {
    let mut sum = answer.others_usage;
    (sum.rss_peak_kib, sum.threads) = (0, 0);
    answer.rows.iter().for_each(|row| sum.add(&row.usage));
    sum
}

#[test]
fn usage_is_the_same_at_every_resolution_and_by_everything() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let mut given = Usage::default();
    let slots: Vec<i64> = (0..3 * 360).step_by(7).map(|number| BEGIN + number * 10).collect();
    for ts in &slots {
        let numbers: Vec<u32> = (1..12).filter(|number| !(ts / 10 + i64::from(*number)).rem_euclid(3).eq(&0)).collect();
        numbers.iter().for_each(|number| given.add(&usage(*number, *ts)));
        store.write(&[busy(*ts, &numbers)]).unwrap();
    }
    store.finish(BEGIN + 3 * 3600).unwrap();
    let connection = Connection::open(&path).unwrap();
    for resolution in Resolution::ALL {
        for column in ["user_us", "rss_kib_s", "read_bytes", "blocked_ms"] {
            let number = |from: &str| -> i64 {
                let query = format!("SELECT sum({column}), max(rss_peak_kib) FROM {from}_{}", resolution.suffix());
                connection.query_row(&query, [], |row| row.get(0)).unwrap()
            };
            let given = match column {
                "user_us" => given.user_us,
                "rss_kib_s" => given.rss_kib_s,
                "read_bytes" => given.read_bytes,
                _ => given.blocked_ms,
            };
            assert_eq!(number("usage"), given.cast_signed(), "{column} {}", resolution.suffix());
        }
    }
    let reader = Reader::open(&path).unwrap();
    let end = BEGIN + 3 * 3600;
    for by in [By::Process, By::Program, By::Unit, By::User, By::Parent, By::Container] {
        let answer = reader.answer(&Question { by, order: Order::Cpu, ..question(BEGIN, end) }).unwrap();
        assert_eq!(all(&answer), given, "{by:?}");
        assert_eq!(answer.host.unwrap().usage_ms, slots.len() as u64 * 10_000);
        let drawn: u64 = answer.rows.iter().flat_map(|row| &row.sparkline).sum();
        assert_eq!(drawn, given.cpu_us(), "the order is drawn");
    }
    let by_device = reader.answer(&Question { by: By::Device, ..question(BEGIN, end) }).unwrap();
    assert_eq!(all(&by_device), Usage::default());
}

#[test]
fn the_order_and_the_condition_are_of_what_was_used() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for ts in [BEGIN, BEGIN + 3600] {
        store.write(&[busy(ts, &[1, 5, 6, 11])]).unwrap();
    }
    store.finish(BEGIN + 3610).unwrap();
    let reader = Reader::open(&path).unwrap();
    let asked = question(BEGIN, BEGIN + 3610);
    let order = |order| {
        let answer = reader.answer(&Question { order, top: 2, ..asked.clone() }).unwrap();
        assert_eq!(answer.others_number, 2);
        let all_us = |ts| [1, 5, 6, 11].map(|number| usage(number, ts).cpu_us()).iter().sum::<u64>();
        assert_eq!(all(&answer).cpu_us(), all_us(BEGIN) + all_us(BEGIN + 3600));
        answer.rows.iter().map(|row| row.who.pid - 100).collect::<Vec<_>>()
    };
    assert_eq!(order(Order::Cpu), [11, 6]);
    assert_eq!(order(Order::Memory), [1, 5]);
    assert_eq!(order(Order::Disk), [11, 6]);
    assert_eq!(order(Order::Load), [11, 5]);
    assert_eq!(order(Order::Bytes)[0], 1, "it talked");
    let selected = |when: &str| {
        let when = Some(when.parse().unwrap());
        let answer = reader.answer(&Question { when, order: Order::Cpu, ..asked.clone() }).unwrap();
        (answer.selected_ms, answer.host.map_or(0, |host| host.user_ms), answer.rows.len())
    };
    assert_eq!(selected("cpu_busy > 80%"), (10_000, 90_000, 4));
    assert_eq!(selected("cpu_busy < 20 and mem_free < 11%"), (10_000, 1000, 4));
    assert_eq!(selected("mem_free > 10%"), (0, 0, 0));
    assert_eq!(selected("swap_used > 0"), (0, 0, 0), "there is none");
}

#[test]
fn a_process_that_only_used_something_keeps_its_names() {
    let folder = folder();
    let path = file(&folder);
    let limits = crate::Limits { keep: crate::Keep { days: [1, 1, 3] }, ..crate::Limits::default() };
    let mut store = crate::Store::open(&path, limits, &super::origin(), 0).unwrap();
    for hour in 0..24 * 6 {
        let mut slot = busy(BEGIN + hour * 3600, &[1, 2]);
        slot.tick.measured_ms = 3_600_000;
        slot.samples.clear();
        slot.drops.clear();
        store.write(&[slot]).unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(number("SELECT count(*) FROM usage_1h") < 24 * 5 * 2, "hours are deleted");
    assert_eq!(number("SELECT count(*) FROM usage_1h WHERE process NOT IN (SELECT id FROM process)"), 0);
    assert_eq!(number("SELECT count(*) FROM host_10s WHERE ts NOT IN (SELECT ts FROM tick_10s)"), 0);
    assert_eq!(number("SELECT count(DISTINCT pid) FROM resources"), 2);
}

#[test]
fn a_line_of_text_has_the_processes_of_a_moment() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let mut slot = busy(BEGIN, &[1, 11]);
    slot.tick.load = Some([1.5, 1.0, 0.5]);
    store.write(&[slot]).unwrap();
    let connection = Connection::open(&path).unwrap();
    // As those who kept such a table asked it.
    let of_then = "SELECT TopProcesses FROM savetop WHERE DateAndTime = datetime(?1, 'unixepoch', 'localtime')";
    let top: String = connection.query_row(of_then, [BEGIN], |row| row.get(0)).unwrap();
    let lines: Vec<Vec<&str>> = top.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines.len(), lines[0][0], lines[0][1]), (2, "111", "talker1"), "{top}");
    let loaded = "SELECT COUNT(TopProcesses), max(HostName) FROM savetop WHERE Load > 1.4";
    let found: (i64, String) = connection.query_row(loaded, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(found, (1, "host".into()));
}

#[test]
fn usage_that_does_not_fit_in_a_slot_is_added_to_the_others() {
    let mut capped = slot(BEGIN, &[]);
    let mut given = Usage::default();
    for number in 0..100 {
        let used = Usage { user_us: 20_000 + u64::from(number), ..Usage::default() };
        given.add(&used);
        capped.usage.insert(Who { device: Device::default(), ..who(number) }, used);
    }
    // As each interval has one.
    let others = Usage { user_us: 900_000, read_bytes: 1 << 20, ..Usage::default() };
    given.add(&others);
    capped.usage.insert(Who::other(), others);
    capped.cap(512);
    let mut sum = Usage::default();
    capped.usage.values().for_each(|used| sum.add(used));
    assert_eq!(sum, given);
    assert_eq!(capped.usage.len(), 16 + 4 + 1, "those that lead, alone or together, and the others");
    assert!(capped.usage.keys().any(|who| who.pid == 199), "the busiest stay");
}

#[test]
fn one_that_is_alone_of_its_program_keeps_its_pid() {
    let mut slot = slot(BEGIN, &[]);
    for pid in 1..=90 {
        let comm = format!("program{pid}");
        let who = Who { pid, start_time_ns: Some(1), comm, ..Who::default() };
        slot.usage.insert(who, Usage { rss_kib_s: 1_000_000 - u64::from(pid), ..Usage::default() });
    }
    slot.cap(512);
    let pids: Vec<u32> = slot.usage.keys().map(|who| who.pid).collect();
    assert_eq!(pids, (1..=20).chain([0]).collect::<Vec<_>>(), "twenty, and the others");
}

#[test]
fn what_any_slot_does_not_tell_is_untold_of_all() {
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    for (number, untold_block_io) in (0_i64..).zip([1, 0]) {
        let mut slot = busy(BEGIN + number * 10, &[1]);
        let host = slot.host.as_mut().unwrap();
        (host.untold_block_io, host.untold_ended) = (untold_block_io, 1 - untold_block_io);
        store.write(&[slot]).unwrap();
    }
    store.finish(BEGIN + 3600).unwrap();
    let host = Reader::open(&path).unwrap().answer(&question(BEGIN, BEGIN + 20)).unwrap().host.unwrap();
    assert_eq!((host.untold_block_io, host.untold_ended, host.untold_wait), (1, 1, 0));
}

#[test]
fn a_process_that_uses_something_again_is_not_forgotten() {
    let folder = folder();
    let path = file(&folder);
    let limits = crate::Limits { keep: crate::Keep { days: [1, 1, 2] }, ..crate::Limits::default() };
    let mut store = crate::Store::open(&path, limits, &super::origin(), BEGIN).unwrap();
    let again = BEGIN + 50 * 3600;
    for hour in 0..=50 {
        let ts = BEGIN + hour * 3600;
        let mut slot = busy(ts, &[if ts == BEGIN || ts == again { 1 } else { 2 }]);
        slot.tick.measured_ms = 3_600_000;
        slot.samples.clear();
        slot.drops.clear();
        store.write(&[slot]).unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number(&format!("SELECT count(*) FROM usage_1h WHERE ts <= {BEGIN}")), 0, "its other rows are given up");
    assert_eq!(number("SELECT count(*) FROM usage_10s WHERE process NOT IN (SELECT id FROM process)"), 0);
    let answer = Reader::open(&path).unwrap().answer(&question(again, again + 10)).unwrap();
    assert_eq!(answer.rows[0].usage, usage(1, again));
}

#[test]
fn many_of_one_program_are_named_together_where_few_of_them_lead() {
    let mut slot = slot(BEGIN, &[]);
    let parents = vec![Ancestor { pid: 7, comm: "make".into(), ..Ancestor::default() }];
    let one = |pid, comm: &str| Who {
        pid,
        comm: comm.into(),
        start_time_ns: Some(pid.into()),
        parents: parents.clone(),
        ..Who::default()
    };
    let usage = |user_us| Usage { user_us, runnable_ms: 500, ..Usage::default() };
    // What lead together in an interval already.
    slot.usage.insert(Who { start_time_ns: None, ..one(0, "bomb") }, usage(1_000_000));
    for pid in 1..200 {
        slot.usage.insert(one(pid, "bomb"), usage(50_000 + u64::from(pid)));
        slot.usage.insert(one(1000 + pid, &format!("other{pid}")), Usage { user_us: 20, ..Usage::default() });
    }
    let sum = |slot: &Slot, comm: &str| -> u64 {
        slot.usage.iter().filter(|(who, _)| who.comm == comm).map(|(_, usage)| usage.user_us).sum()
    };
    let all = sum(&slot, "bomb");
    let mut mixed = slot.clone();
    slot.cap(512);
    assert_eq!((sum(&slot, "bomb"), sum(&slot, "[other]")), (all, 199 * 20));
    assert!(slot.usage.len() <= 5 * (16 + 4) + 1, "{}", slot.usage.len());
    let crowds: Vec<&Who> = slot.usage.keys().filter(|who| who.pid == 0 && who.comm == "bomb").collect();
    assert_eq!(crowds.len(), 1);
    assert_eq!(crowds[0].parents, parents, "all have the same");
    // One has another: it leads in nothing.
    mixed.usage.insert(Who { parents: Vec::new(), ..one(300, "bomb") }, usage(50_000));
    mixed.cap(512);
    assert!(mixed.usage.keys().any(|who| who.pid == 0 && who.comm == "bomb" && who.parents.is_empty()));
}

#[test]
fn of_minutes_and_hours_the_leaders_are_kept_and_the_others_by_program() {
    const MINUTES: i64 = 90;
    let folder = folder();
    let path = file(&folder);
    let mut store = open(&path);
    let (mut given, mut compiled) = (Usage::default(), 0);
    // In each slot nineteen others lead, and one always. Commands of a build are many and short.
    for number in 0..MINUTES * 6 {
        let mut busy = slot(BEGIN + number * 10, &[]);
        let mut add = |pid: u32, comm: &str, user_us: u64| {
            let usage = Usage { user_us, rss_peak_kib: user_us, ..Usage::default() };
            given.add(&usage);
            let who = Who { pid, start_time_ns: Some(pid.into()), comm: comm.into(), ..Who::default() };
            busy.usage.insert(who, usage);
        };
        add(1, "hog", 5_000_000);
        for one in 0..19 {
            let pid = 10 + u32::try_from(number).unwrap() * 19 + one;
            add(pid, &if one < 10 { "cc1".into() } else { format!("short{pid}") }, 100_000 + u64::from(pid));
            compiled += if one < 10 { 100_000 + i64::from(pid) } else { 0 };
        }
        store.write(&[busy]).unwrap();
    }
    store.finish(BEGIN + MINUTES * 60).unwrap();
    let connection = Connection::open(&path).unwrap();
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    for table in ["usage_10s", "usage_1m", "usage_1h"] {
        assert_eq!(number(&format!("SELECT sum(user_us) FROM {table}")), given.user_us.cast_signed(), "{table}");
        assert_eq!(number(&format!("SELECT max(rss_peak_kib) FROM {table}")), 5_000_000, "{table}");
        let of = |comm: &str| {
            let joins = "JOIN process p ON p.id = process JOIN program g ON g.id = p.program";
            number(&format!("SELECT sum(user_us) FROM {table} {joins} WHERE comm = '{comm}'"))
        };
        assert_eq!((of("hog"), of("cc1")), (5_000_000 * MINUTES * 6, compiled), "{table}");
        // Sixteen lead, four crowds do, and the others.
        let rows = format!("SELECT max(rows) FROM (SELECT count(*) AS rows FROM {table} GROUP BY ts)");
        assert!(number(&rows) <= 21, "{table}");
    }
    let crowds = "SELECT count(*) FROM process JOIN program ON program.id = program WHERE pid = 0 AND comm = 'cc1'";
    assert_eq!(number(crowds), 1, "it has one number");
}

#[test]
fn who_leads_in_slots_alone_keeps_its_names() {
    let folder = folder();
    let path = file(&folder);
    let limits = crate::Limits { keep: crate::Keep { days: [1, 1, 2] }, ..crate::Limits::default() };
    let mut store = crate::Store::open(&path, limits, &super::origin(), BEGIN).unwrap();
    for number in 0..60 * 6 {
        let mut slot = slot(BEGIN + number * 600, &[]);
        slot.tick.measured_ms = 600_000;
        // Each second hour this one does something, and a hundred others all the time.
        let first = if number % 12 == 0 { 0 } else { 1 };
        for pid in first..101 {
            let who = Who { pid: 100 + pid, start_time_ns: Some(1), comm: format!("one{pid}"), ..Who::default() };
            slot.usage.insert(who, Usage { user_us: 20_000 + u64::from(pid), ..Usage::default() });
        }
        store.write(&[slot]).unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let of_it = |table: &str| {
        number(&format!("SELECT count(*) FROM {table} JOIN process ON process.id = process WHERE pid = 100"))
    };
    assert_eq!((of_it("usage_1m"), of_it("usage_1h")), (0, 0), "it leads in no minute and no hour");
    assert!(of_it("usage_10s") >= 12);
    let rows = number("SELECT count(*) FROM usage_10s WHERE process NOT IN (SELECT id FROM process)");
    assert_eq!(rows, 0, "all that have rows have names");
}
