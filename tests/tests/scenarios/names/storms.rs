//! Storms of forks and of execs: bytes stay exact, memory is bounded, and what has no name is counted.

use std::{
    mem::size_of,
    net::UdpSocket,
    num::NonZero,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::Duration,
};

use nettop_model::Snapshot;
use nettop_tests::{Moved, Namespace, Nettopd, Process, app, cgroup::limit_pids, device, rss_kib, wait_until};
use nix::{
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous},
        prctl::set_child_subreaper,
        signal::{SigHandler, Signal, signal},
    },
    unistd::{ForkResult, fork},
};

/// What a nettopd may grow by for each process, whose row stays for a minute: its record, its row, and its part of the last
/// document.
const MAX_GROWTH_KIB: u64 = 8;

/// A document of thousands of processes five times a second would keep a CPU from virtual machines beside.
const INTERVAL_S: &str = "1";

/// Counters that forked processes share.
struct Counts {
    begun: &'static AtomicU64,
    sent: &'static AtomicU64,
}

impl Counts {
    fn shared() -> Self {
        let length = NonZero::new(2 * size_of::<AtomicU64>()).unwrap();
        let (access, shared) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping, of zeroes, which stays to the end of the process and its children.
        let both = unsafe { mmap_anonymous(None, length, access, shared).unwrap().cast::<[AtomicU64; 2]>().as_ref() };
        Self { begun: &both[0], sent: &both[1] }
    }

    fn send_one(&self) {
        let sent = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[1], "127.0.0.1:9"));
        self.sent.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
    }
}

/// Ends a child and nothing else.
fn end() -> ! {
    // SAFETY: no handler of the test's runs.
    unsafe { libc::_exit(0) }
}

/// Each process sends a datagram and begins two others, until `most` were begun. Only the first never gives up when the
/// limit of processes is reached.
fn bomb(counts: &Counts, most: u64) {
    // Nobody waits for them, and process 1 of a container may not wait for orphans: these become the first one's.
    set_child_subreaper(true).unwrap();
    // SAFETY: no handler runs.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn).unwrap() };
    let mut left = u64::MAX;
    while left > 0 && counts.begun.load(Ordering::Relaxed) < most {
        // SAFETY: this process has one thread.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { .. }) => {
                counts.begun.fetch_add(1, Ordering::Relaxed);
                left -= 1;
            }
            Ok(ForkResult::Child) => {
                counts.send_one();
                left = 2;
            }
            Err(_) if left > 2 => std::thread::yield_now(),
            Err(_) => end(),
        }
    }
    if left <= 2 {
        end();
    }
}

/// One that sends to itself, a thousand times a second, until it is told to stop.
fn steady(alone: &Namespace) -> Process {
    let sender = Process::start(Some(alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:7000").unwrap();
        let stop = UdpSocket::bind("127.0.0.1:7001").unwrap();
        stop.set_nonblocking(true).unwrap();
        parent.signal_ready();
        let mut moved = Moved::default();
        loop {
            if let Ok(received) = stop.recv(&mut [0; 8]) {
                moved.received += received as u64;
                return moved;
            }
            moved.sent += socket.send_to(&[1; 1000], "127.0.0.1:7000").unwrap() as u64;
            moved.received += socket.recv(&mut [0; 2000]).unwrap() as u64;
            sleep(Duration::from_millis(1));
        }
    });
    sender.wait_until_ready();
    sender
}

fn stop(alone: &Namespace) {
    alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"stop", "127.0.0.1:7001").unwrap());
}

/// Sums of the namespace's own device: of processes that rows were given back of as well.
fn assert_exact(document: &Snapshot, alone: &Namespace, sender: (u32, Moved), others: u64) {
    let (pid, moved) = sender;
    assert_eq!(app(document, pid), moved);
    let lo = device(document, alone.inode(), "lo");
    let datagrams = moved.sent / 1000;
    // The one that stops it is a process's as well.
    let sent = datagrams * 1028 + others * 29 + 32;
    assert_eq!((lo.tx.attributed_bytes, lo.tx.unattributed_bytes), (sent, 0), "{lo:#?}");
}

/// Between two documents: what one takes is given back every ten seconds (`malloc_trim`).
fn assert_bounded(nettopd: &Nettopd, before_kib: u64, processes: u64) {
    let growth_kib = || rss_kib(nettopd.pid()).saturating_sub(before_kib);
    wait_until("memory is bounded", || growth_kib() < processes * MAX_GROWTH_KIB);
}

fn assert_counted(document: &Snapshot, alone: &Namespace) {
    let of = document.rows.iter().filter(|row| row.netns == alone.inode() && row.total.tx.app_bytes == 1);
    let unnamed = of.filter(|row| row.process.exe.is_none()).count() as u64;
    assert!(unnamed <= document.loss.processes_unrecorded, "{unnamed} unnamed: {:#?}", document.loss);
}

#[test]
fn a_fork_bomb_costs_bounded_memory_and_no_byte() {
    const PROCESSES: u64 = 20_000;
    let nettopd = Nettopd::start(&[INTERVAL_S]);
    let alone = Namespace::new();
    let sender = steady(&alone);
    let before = rss_kib(nettopd.pid());
    let counts = Counts::shared();
    let limit = limit_pids(200);
    let first = Process::start(Some(&alone), |_| {
        limit.enter();
        // Virtual machines run beside this scenario, and must get CPU time.
        // SAFETY: has no preconditions.
        unsafe { libc::nice(19) };
        bomb(&counts, PROCESSES);
        Moved::default()
    });
    first.finish();
    limit.wait_until_empty();
    stop(&alone);
    let (pid, moved) = (sender.pid(), sender.finish());
    let begun = counts.begun.load(Ordering::Relaxed);
    assert!((PROCESSES..PROCESSES + 1000).contains(&begun), "{begun}");
    let document = nettopd.settled();
    assert_exact(&document, &alone, (pid, moved), counts.sent.load(Ordering::Relaxed));
    assert_eq!(counts.sent.load(Ordering::Relaxed), begun);
    assert_counted(&document, &alone);
    assert_bounded(&nettopd, before, PROCESSES);
}

#[test]
fn a_storm_of_execs_costs_bounded_memory_and_no_byte() {
    const PROCESSES: u64 = 5000;
    const AT_ONCE: u64 = 4;
    let nettopd = Nettopd::start(&[INTERVAL_S]);
    let alone = Namespace::new();
    let sender = steady(&alone);
    let before = rss_kib(nettopd.pid());
    let counts = Counts::shared();
    let storm: Vec<Process> = (0..AT_ONCE)
        .map(|_| {
            Process::start(Some(&alone), |_| {
                for _ in 0..PROCESSES / AT_ONCE {
                    // SAFETY: this process has one thread.
                    match unsafe { fork() }.unwrap() {
                        ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None).unwrap()),
                        ForkResult::Child => {
                            counts.send_one();
                            // Known as an owner, it becomes two other programs.
                            use std::os::unix::process::CommandExt as _;
                            let _ = Command::new("/bin/sh").args(["-c", "exec /bin/true"]).exec();
                            end();
                        }
                    }
                }
                Moved::default()
            })
        })
        .collect();
    for process in storm {
        process.finish();
    }
    stop(&alone);
    let (pid, moved) = (sender.pid(), sender.finish());
    let document = nettopd.settled();
    assert_exact(&document, &alone, (pid, moved), PROCESSES);
    assert_eq!(counts.sent.load(Ordering::Relaxed), PROCESSES);
    assert_counted(&document, &alone);
    assert_bounded(&nettopd, before, PROCESSES);
}
