//! A fork bomb: each process starts two more, and all of them compute.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use nettop_tests::is_emulated;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        wait::waitpid,
    },
    unistd::{ForkResult, fork},
};

use super::{INTERVAL_MS, Recording, ask, assert_near, cpu_us, used, worker};

const LASTS: Duration = Duration::from_secs(4);

/// Computes until then, in this process and in two more of each generation.
fn explode(generations: u32, until: Instant) {
    let mut children = Vec::new();
    for _ in 0..if generations > 0 { 2 } else { 0 } {
        // SAFETY: this process has one thread; the child ends without returning.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                explode(generations - 1, until);
                // SAFETY: ends the child without exit handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }
    while Instant::now() < until {
        std::hint::black_box(children.len());
    }
    for child in children {
        waitpid(child, None).unwrap();
    }
}

#[test]
fn a_fork_bomb_is_the_load_and_is_counted_to_its_last_process() {
    let generations = if is_emulated() { 3 } else { 5 };
    let number = (2_u64 << generations) - 1;
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::start(folder.path(), &[]);
    let bomb = worker(b"bomb", |parent| {
        // nettopd goes on, as a unit with a weight of its own does.
        // SAFETY: the call takes no memory.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
        let begun = Instant::now();
        explode(generations, begun + LASTS);
        parent.send_number(u64::try_from(begun.elapsed().as_millis()).unwrap());
        cpu_us(&getrusage(UsageWho::RUSAGE_CHILDREN).unwrap()) + cpu_us(&getrusage(UsageWho::RUSAGE_SELF).unwrap())
    });
    bomb.go();
    let lasted_ms = bomb.wait_until_ready();
    let truth_us = bomb.wait_until_ready();
    bomb.finish();
    recording.wait_for_reports(2);
    let path = recording.finish();
    let document = ask(&path, &["--sort", "load", "-c", "bomb"]);
    let all = |of: fn(&nettop_model::history::Resources) -> u64| document.rows.iter().map(|row| of(&used(row))).sum();
    let (exits, us): (u64, u64) = (all(|used| used.exits.unwrap()), all(|used| used.cpu_us()));
    // Those that did nothing since the last reading before their end are among others then.
    let others = ask(&path, &[]).rows.into_iter().find(|row| row.name == "[other]");
    let others = others.map_or(0, |row| used(&row).exits.unwrap());
    assert!(exits <= number && exits + others >= number, "{exits} + {others} of {number}: {document:#?}");
    assert_near("all of them", us, truth_us, 2, 5000);
    let usage_ms = document.quality.host.unwrap().usage_ms;
    let runnable: f64 = document.rows.iter().map(|row| used(row).runnable_mean).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "minutes")]
    let runnable_ms = (runnable * usage_ms as f64) as u64;
    // Each is seen once an interval, of which the first and the last may have it or not.
    let longest_ms = INTERVAL_MS + document.quality.late_ms;
    assert_near("runnable", runnable_ms, number * lasted_ms, 1, number * 2 * longest_ms);
    let load = ask(&path, &["--hogs"]).hogs.unwrap().into_iter().find(|hog| hog.measure == "load").unwrap();
    assert!(load.sentence.starts_with("bomb had "), "{load:?}");
    assert!(number > available_parallelism().unwrap().get() as u64, "it fills the run queue");
}
