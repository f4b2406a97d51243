//! Differences of made-up readings.

use super::*;

const BEGUN_NS: u64 = 1_000_000;

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
    tally.add(&[reading(process(7, 5, 910)), reading(process(8, BEGUN_NS + 1, 40))], 1000);
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
fn a_pid_that_is_used_again_is_another_process() {
    let mut tally = Tally::new(&[reading(process(7, 5, 900))], BEGUN_NS);
    tally.add(&[reading(process(7, BEGUN_NS + 9, 30))], 1000);
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
        tally.add(&[reading(process(7, 5, now))], 1000);
        assert_eq!(cpu_us(&mut tally).first().map_or(0, |(_, cpu_us)| *cpu_us), expected, "{now}");
    }
}

#[test]
fn time_is_split_as_ticks_are_and_states_are_times() {
    let mut tally = Tally::new(&[], BEGUN_NS);
    let mut hog = reading(process(7, BEGUN_NS, 1000));
    (hog.runnable, hog.blocked, hog.process.rss_pages) = (2, 3, 1024);
    tally.add(&[hog], 5000);
    let usage = tally.take().entries[0].usage;
    assert_eq!((usage.user_us, usage.system_us), (750, 250));
    assert_eq!((usage.runnable_ms, usage.blocked_ms), (10_000, 15_000));
    assert_eq!(usage.rss_kib_s, 5 * 1024 * procfs::page_size() / 1024);
    assert_eq!((process_kib(u64::MAX), share(5, 0, 0)), (0, None));
}

#[test]
fn what_was_not_seen_for_long_is_forgotten() {
    let mut tally = Tally::new(&[reading(process(7, 5, 100))], BEGUN_NS);
    tally.add(&[], 1000);
    assert_eq!(tally.bases.len(), 1, "its end may still come");
    tally.add(&[], 1000);
    assert!(tally.bases.is_empty());
}
