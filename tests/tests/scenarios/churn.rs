//! Everything comes and goes, with every command running and somebody who wants to fill each table: in the end nothing is
//! kept, and nothing was lost. `NETTOP_CHURN=full` has it come by the thousand (5,000 devices, 500 namespaces, 50,000
//! processes), which takes minutes.

use std::{
    collections::HashSet,
    fs,
    net::UdpSocket,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use nettop_model::Snapshot;
use nettop_tests::{Kept, Moved, Namespace, Nettopd, Process, Stream, api::Daemon, app, device, netns_cookie};
use nix::{
    sched::{CloneFlags, unshare},
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};

mod commands;
mod devices;
mod filler;
mod size;

use commands::{Ignored, Running, ask, run_commands};
use devices::{GROUP, pairs};
use filler::filler;
use size::{amount, is_full};

const ROWS: &str = "4096";
/// With IP and UDP header a hundred.
const PAYLOAD: usize = 72;
const DATAGRAM: u64 = 100;
/// Rows that others of this machine may have more or less.
const OTHERS: usize = 200;
/// Entries that others may make or give back while tables are counted.
const COMING: usize = 20;
/// Of one, with its device.
const ROW_BYTES: usize = 2 << 10;
/// What the history remembers of the names it has written, the heap that is free and in pieces, and what others of this
/// machine add to documents: 7 to 12 MB in full. What is in use is as it was, however often this is done.
const MEMORY_KIB: u64 = 12 << 10;
/// Rows of what is gone stay for a minute.
const LINGER_TIMEOUT: Duration = Duration::from_secs(100);

fn processes() -> u64 {
    amount(50_000, 3000)
}

/// A child that does something and ends.
fn child(work: impl FnOnce()) {
    // SAFETY: the caller has one thread, and its child never returns.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
        }
        ForkResult::Child => {
            work();
            // SAFETY: ends the child and nothing else.
            unsafe { libc::_exit(0) }
        }
    }
}

fn send_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[0; PAYLOAD], "127.0.0.1:7000").unwrap();
}

/// One process after the other sends a datagram and ends.
fn short_processes(namespace: &Namespace) -> Process {
    Process::start(Some(namespace), |_| {
        for _ in 0..processes() {
            child(send_one);
        }
        Moved { sent: processes() * DATAGRAM, received: 0 }
    })
}

/// One namespace after the other, each with a datagram and its answer that nobody listens; sends their cookies.
fn short_namespaces(count: u64) -> Process {
    Process::start(None, move |parent| {
        for _ in 0..count {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            child(send_one);
            parent.send_number(netns_cookie().into());
        }
        Moved::default()
    })
}

/// Makes and removes pairs in rounds.
fn short_devices(namespace: &Namespace, rounds: u64, pairs_at_once: u64) {
    let batch = tempfile::NamedTempFile::new().unwrap();
    fs::write(batch.path(), pairs(pairs_at_once)).unwrap();
    for _ in 0..rounds {
        namespace.run("ip", &format!("-batch {}", batch.path().display()));
        // All at once: one by one, each waits for all processors.
        namespace.ip(&format!("link del group {GROUP}"));
    }
}

/// What a document still has of these namespaces.
fn entries_of(document: &Snapshot, cookies: &HashSet<u32>) -> [usize; 4] {
    let is_of = |cookie: Option<u32>| cookie.is_some_and(|cookie| cookies.contains(&cookie));
    [
        document.rows.iter().filter(|row| is_of(Some(row.netns_cookie))).count(),
        document.devices.iter().filter(|device| is_of(Some(device.netns_cookie))).count(),
        document.drops.iter().filter(|drop| is_of(drop.netns_cookie)).count(),
        document.tcp.iter().filter(|event| is_of(event.netns_cookie)).count(),
    ]
}

/// Rows of processes that have ended, of a namespace that lives.
fn rows_of_ended(document: &Snapshot, namespace: &Namespace) -> usize {
    let rows = document.rows.iter().filter(|row| row.netns == namespace.inode());
    rows.filter(|row| row.pid != 0 && row.exited).count()
}

/// What must be as it was. All is reported, not only the first find.
#[derive(Default)]
struct Ends(Vec<String>);

impl Ends {
    fn hold(&mut self, name: &str, holds: bool, found: impl std::fmt::Debug) {
        println!("{} {name}: {found:?}", if holds { "holds" } else { "broken" });
        if !holds {
            self.0.push(format!("{name}: {found:?}"));
        }
    }
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let nettopd = Nettopd::start(&["--rows", ROWS]);
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.db").display().to_string();
    let daemon = Arc::new(Daemon::start(folder.path(), &["--interval", "0.5", "--history", &history, "--rows", ROWS]));
    let crowd = Namespace::new();
    let sink = crowd.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    sink.set_nonblocking(true).unwrap();
    let hosts = Namespace::new();
    // What is made once has been made.
    Process::run(Some(&crowd), |_| {
        for _ in 0..100 {
            child(send_one);
        }
        Moved::default()
    });
    ask(&daemon);
    nettopd.settled();
    let began = [nettopd.pid(), daemon.pid()].map(Kept::by);
    let bytes_began = nettopd.document_bytes();

    let streams = [&["connections", "--udp"][..], &["packets"]].map(Stream::counting);
    let [asked, folder_of] = [(); 2].map(|()| Arc::clone(&daemon));
    let loops = [Running::start(move || ask(&asked)), Running::start(move || run_commands(&folder_of))];
    let start = Instant::now();
    let filler = filler(amount(2000, 500));
    let cookie_of_filler = u32::try_from(filler.wait_until_ready()).unwrap();
    println!("filled after {:?}", start.elapsed());
    let namespaces = amount(500, 30);
    let short_namespaces = short_namespaces(namespaces);
    let short_processes = short_processes(&crowd);
    let traced = short_processes.pid().to_string();
    let commands =
        [&["--standalone", "drops", "--format", "ndjson", "1"][..], &["trace", "-p", &traced]].map(Ignored::start);
    short_devices(&hosts, amount(15, 1), 100);
    println!("devices are gone after {:?}", start.elapsed());
    let cookie = |_| u32::try_from(short_namespaces.wait_until_ready()).unwrap();
    let mut cookies: HashSet<u32> = (0..namespaces).map(cookie).collect();
    short_namespaces.finish();
    println!("namespaces are gone after {:?}", start.elapsed());
    let sent = short_processes.finish().sent + 100 * DATAGRAM;
    println!("processes are gone after {:?}", start.elapsed());
    // While all that is still in the tables.
    let (witness, witnessed) = {
        let process = Process::start(Some(&crowd), |parent| {
            send_one();
            parent.signal_ready();
            parent.wait_for_parent();
            Moved::default()
        });
        process.wait_until_ready();
        let document = nettopd.settled();
        (app(&document, process.pid()).sent, document)
    };
    cookies.insert(cookie_of_filler);
    drop(filler);
    let codes = commands.map(Ignored::end);
    let runs = loops.map(Running::end);
    let stream_results = streams.map(Stream::stop);
    println!("all has ended after {:?}, {runs:?}", start.elapsed());

    let deadline = Instant::now() + LINGER_TIMEOUT;
    let (document, ended) = loop {
        let document = nettopd.settled();
        let ended = [nettopd.pid(), daemon.pid()].map(Kept::by);
        let has_given_back = |(began, ended): (&Kept, &Kept)| {
            // A row that has left the table is counted until the next reading.
            let rows = ended.tables.rows.max(ended.counted.rows);
            rows <= began.tables.rows + OTHERS && ended.anonymous_kib < began.anonymous_kib + MEMORY_KIB
        };
        let is_back = entries_of(&document, &cookies) == [0; 4]
            && rows_of_ended(&document, &crowd) == 0
            && began.iter().zip(&ended).all(has_given_back);
        if is_back || Instant::now() > deadline {
            break (document, ended);
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let kib = [&began, &ended].map(|kept| kept.each_ref().map(|kept| kept.anonymous_kib));
    println!("given back after {:?}; KiB of nettopd and daemon before and after: {kib:?}", start.elapsed());

    let mut ends = Ends::default();
    let balance = &device(&document, crowd.inode(), "lo").tx;
    let owned = (balance.bytes, balance.attributed_bytes, balance.unattributed_bytes);
    let all = sent + DATAGRAM;
    ends.hold("the sum of all totals is what was sent", owned == (all, all, 0), (owned, all));
    ends.hold("nobody took the room of others", witness == PAYLOAD as u64, (witness, witnessed.loss));
    let refused = [
        ("rows", witnessed.loss.rows_full),
        ("ports and listeners", witnessed.loss.ports_full),
        ("kinds of drops", witnessed.other_drops.total.packets),
        ("forwarded pairs", witnessed.loss.forwarded_full),
    ];
    if is_full() {
        for (table, refused) in refused {
            ends.hold(&format!("room for {table} was refused"), refused > 0, refused);
        }
    }
    let of_gone = entries_of(&document, &cookies);
    ends.hold("rows of namespaces that are gone are gone", of_gone[0] == 0, of_gone[0]);
    ends.hold("devices of namespaces that are gone are gone", of_gone[1] == 0, of_gone[1]);
    ends.hold("drops of namespaces that are gone are gone", of_gone[2] == 0, of_gone[2]);
    ends.hold("events of namespaces that are gone are gone", of_gone[3] == 0, of_gone[3]);
    let rows = document.rows.iter().filter(|row| row.netns == hosts.inode());
    let devices = document.devices.iter().filter(|device| device.netns == hosts.inode());
    let of_hosts = [
        rows.filter(|row| row.device.as_deref().is_some_and(|name| name != "lo")).count(),
        devices.filter(|device| device.device != "lo").count(),
    ];
    ends.hold("devices that were removed are gone, with their rows", of_hosts == [0, 0], of_hosts);
    let of_ended = rows_of_ended(&document, &crowd);
    ends.hold("rows of ended processes are gone", of_ended == 0, of_ended);
    let bytes = nettopd.document_bytes();
    let are_small = bytes < bytes_began + OTHERS * ROW_BYTES;
    ends.hold("documents are as large as they were", are_small, (bytes_began, bytes));
    for ((who, began), ended) in ["nettopd", "daemon"].iter().zip(began).zip(ended) {
        let name = |what: &str| format!("{what} of {who} are as they were");
        ends.hold(&name("descriptors"), ended.descriptors <= began.descriptors, (began.descriptors, ended.descriptors));
        for ((table, before), (_, after)) in began.tables.entries().into_iter().zip(ended.tables.entries()) {
            ends.hold(&name(table), after <= before + OTHERS, (before, after));
        }
        for ((table, entries), (_, counted)) in ended.tables.entries().into_iter().zip(ended.counted.entries()) {
            // Others of this machine come and go between the two readings.
            let is_counted = entries.abs_diff(counted) <= COMING;
            ends.hold(&format!("{table} in use of {who} are as many as there are"), is_counted, (entries, counted));
        }
        let [before, after] = [began, ended].map(|kept| kept.anonymous_kib);
        ends.hold(&name("KiB of memory"), after < before + MEMORY_KIB, (before, after));
    }
    for stream_result in &stream_results {
        ends.hold(
            "a stream shows what it sees, or says that it was lost",
            stream_result.seen == stream_result.shown + stream_result.lost,
            stream_result,
        );
        ends.hold("a stream ends as it should", stream_result.code == Some(0), stream_result.code);
    }
    ends.hold("drops and trace end as they should", codes == [Some(0); 2], codes);
    ends.hold("commands in a loop ran", runs.iter().all(|runs| *runs > 0), runs);
    assert!(ends.0.is_empty(), "{:#?}", ends.0);
}
