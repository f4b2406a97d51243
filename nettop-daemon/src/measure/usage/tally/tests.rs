//! Differences of made-up readings.

use super::*;

const BEGUN_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// The begin of a pass.
const fn after(seconds: u64) -> u64 {
    BEGUN_NS + seconds * SECOND_NS
}

fn process(tgid: u32, start_time_ns: u64, cpu_us: u64) -> ProcessUsage {
    let used = Used { cpu_ns: cpu_us * 1000, user_ns: cpu_us * 3000, system_ns: cpu_us * 1000, ..Used::default() };
    ProcessUsage { key: OwnerKey { start_time_ns, tgid, uid: 0 }, used, ..ProcessUsage::default() }
}

fn reading(process: ProcessUsage) -> ProcessReading {
    ProcessReading { process, runnable: 0, blocked: 0 }
}

/// CPU time by pid.
fn cpu_us(tally: &mut Tally) -> Vec<(u32, u64)> {
    let mut seen: Vec<(u32, u64)> = tally
        .take()
        .entries
        .iter()
        .map(|entry| (entry.process.key.tgid, entry.usage.cpu_us()))
        .filter(|(_, cpu_us)| *cpu_us > 0)
        .collect();
    seen.sort_unstable();
    seen
}

#[test]
fn an_older_process_counts_from_the_first_reading_on_and_a_new_one_whole() {
    let mut tally = Tally::new(&[reading(process(7, 5, 900))], BEGUN_NS);
    assert_eq!(cpu_us(&mut tally), []);
    tally.add(&[reading(process(7, 5, 910)), reading(process(8, BEGUN_NS + 1, 40))], after(1), 1000);
    assert_eq!(cpu_us(&mut tally), [(7, 10), (8, 40)]);
    // One that lived between two readings, and one that ends.
    tally.add_ended(&process(9, BEGUN_NS + 2, 33));
    tally.add_ended(&process(8, BEGUN_NS + 1, 41));
    assert_eq!(cpu_us(&mut tally), [(8, 1), (9, 33)]);
    // What ended before anybody read it is not known.
    tally.add_ended(&process(10, 6, 5000));
    assert_eq!(cpu_us(&mut tally), []);
}

#[test]
fn an_end_is_counted_once_with_how_it_came_and_only_where_a_process_has_exited() {
    let mut tally = Tally::new(&[reading(process(7, 5, 100))], BEGUN_NS);
    let ended = |tgid, status| ProcessUsage { has_exited: 1, exit_status: status, ..process(tgid, BEGUN_NS + 1, 10) };
    tally.add(&[reading(process(8, BEGUN_NS + 1, 4))], after(1), 1000);
    tally.add_ended(&ended(8, 3 << 8));
    tally.add_ended(&ended(9, 11 | 0x80));
    tally.add_ended(&ended(10, 0));
    // One of a kernel that does not show it.
    tally.add_ended(&process(11, BEGUN_NS + 1, 10));
    tally.add_ended(&ProcessUsage { is_kernel_thread: 1, ..ended(12, 0) });
    let entries = tally.take().entries;
    let mut seen: Vec<_> = entries
        .iter()
        .map(|Entry { process, usage, .. }| {
            (process.key.tgid, usage.exits, usage.exits_failed, usage.exits_signaled, usage.exit_status)
        })
        .collect();
    seen.sort_unstable();
    let core = 11 | 0x80;
    assert_eq!(seen, [(8, 1, 1, 0, 3 << 8), (9, 1, 0, 1, core), (10, 1, 0, 0, 0), (11, 0, 0, 0, 0), (12, 0, 0, 0, 0)]);
    tally.add(&[], after(2), 1000);
    assert!(tally.take().entries.iter().all(|entry| entry.usage.exits == 0));
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let mut tally = Tally::new(&[reading(process(7, 5, 900))], BEGUN_NS);
    tally.add(&[reading(process(7, BEGUN_NS + 9, 30))], after(1), 1000);
    tally.add_ended(&process(7, 5, 950));
    let entries = tally.take().entries;
    let mut seen: Vec<_> =
        entries.iter().map(|entry| (entry.process.key.start_time_ns, entry.usage.cpu_us())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(5, 50), (BEGUN_NS + 9, 30)]);
}

#[test]
fn a_thread_that_a_pass_misses_is_not_counted_twice() {
    let mut tally = Tally::new(&[reading(process(7, 5, 100))], BEGUN_NS);
    for (now, expected) in [(150, 50), (120, 0), (160, 10)] {
        tally.add(&[reading(process(7, 5, now))], after(1), 1000);
        assert_eq!(cpu_us(&mut tally).first().map_or(0, |(_, cpu_us)| *cpu_us), expected, "{now}");
    }
}

#[test]
fn time_is_split_as_ticks_are_and_states_are_times() {
    let mut tally = Tally::new(&[], BEGUN_NS);
    let mut hog = reading(process(7, BEGUN_NS, 1000));
    (hog.runnable, hog.blocked, hog.process.rss_pages) = (2, 3, 1024);
    tally.add(&[hog], after(1), 5000);
    let usage = tally.take().entries[0].usage;
    assert_eq!((usage.user_us, usage.system_us), (750, 250));
    assert_eq!((usage.runnable_ms, usage.blocked_ms), (10_000, 15_000));
    assert_eq!(usage.rss_kib_s, 5 * 1024 * procfs::page_size() / 1024);
    assert_eq!((process_kib(u64::MAX), share(5, 0, 0)), (0, None));
}

#[test]
fn who_ends_during_a_pass_is_counted_once() {
    let mut tally = Tally::new(&[], BEGUN_NS);
    let at = |cpu_us| process(8, BEGUN_NS + 1, cpu_us);
    tally.add(&[reading(at(40))], after(1), 1000);
    tally.add_ended(&at(42));
    // Were it added after the end, this would be an older reading.
    tally.add(&[reading(at(41))], after(2), 1000);
    assert_eq!(cpu_us(&mut tally), [(8, 42)]);
}

#[test]
fn an_end_that_comes_late_counts_what_is_new_or_is_a_loss() {
    let lasting = process(7, 5, 900);
    let mut tally = Tally::new(&[reading(lasting), reading(process(8, 6, 5000))], BEGUN_NS);
    for second in 1..=14 {
        tally.add(&[reading(lasting)], after(second), 1000);
    }
    // Seen by none of fourteen passes: its end comes with what it used last.
    tally.add_ended(&process(8, 6, 5001));
    assert_eq!(cpu_us(&mut tally), [(8, 1)]);
    let begun = after(14) + 1;
    tally.add(&[reading(lasting), reading(process(9, begun, 70))], after(15), 1000);
    assert_eq!(cpu_us(&mut tally), [(9, 70)]);
    // One that is not known any more counts nothing again.
    for second in 16..=40 {
        tally.add(&[reading(lasting)], after(second), 1000);
    }
    tally.add_ended(&process(9, begun, 71));
    assert_eq!(tally.bases.len(), 1, "those that were not seen for long are forgotten");
    let interval = tally.take();
    assert_eq!((interval.unread, interval.entries.iter().map(|entry| entry.usage.cpu_us()).sum::<u64>()), (1, 0));
    // One that ended before any of it, and one that no pass saw.
    tally.add_ended(&process(10, after(39), 8));
    assert_eq!(cpu_us(&mut tally), [(10, 8)]);
}

#[test]
fn two_passes_are_kept_however_long_they_are_apart() {
    let mut tally = Tally::new(&[reading(process(8, 6, 5000))], BEGUN_NS);
    tally.add(&[], after(3600), 3_600_000);
    tally.add_ended(&process(8, 6, 5003));
    assert_eq!(cpu_us(&mut tally), [(8, 3)]);
}

#[test]
fn an_ended_process_has_the_parent_that_a_pass_saw() {
    let mut tally = Tally::new(&[], BEGUN_NS);
    let with_parent = |parent_tgid| ProcessUsage { parent_tgid, ..process(8, BEGUN_NS + 1, 40) };
    tally.add(&[reading(with_parent(3))], after(1), 1000);
    tally.add_ended(&with_parent(99));
    assert_eq!(tally.take().entries[0].process.parent_tgid, 3);
}
