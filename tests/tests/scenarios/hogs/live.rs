//! What processes use, in reports as they come.

use std::{
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::Stdio,
    sync::mpsc::channel,
    thread,
};

use nettop_model::{Snapshot, snapshot::RowReport};
use nettop_tests::{Process, nettopd_command};
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use super::{assert_near, burn, cpu_us, worker};
use crate::schemas::assert_fits;

const BURN_US: u64 = 1_000_000;

/// One that computes when it is told to, with a datagram to itself now and then, or without.
fn burner(name: &'static [u8], talks: bool) -> Process {
    worker(name, move |parent| {
        let socket = talks.then(|| UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..20 {
            burn(BURN_US / 20);
            if let Some(socket) = &socket {
                socket.send_to(&[7; 100], socket.local_addr().unwrap()).unwrap();
            }
        }
        parent.send_number(cpu_us(&getrusage(UsageWho::RUSAGE_SELF).unwrap()));
        // It is there until what it did is read.
        parent.wait_for_parent();
        0
    })
}

/// Time on a CPU of the process's first row; all its rows have the same.
fn of_rows(snapshot: &Snapshot, pid: u32) -> u64 {
    let is_its = |row: &&RowReport| row.pid == pid;
    let used = snapshot.rows.iter().filter(is_its).map(|row| row.resources.as_ref().map_or(0, |used| used.cpu_us()));
    let used: Vec<u64> = used.collect();
    assert!(used.windows(2).all(|two| two[0] == two[1]), "{used:?}");
    used.first().copied().unwrap_or(0)
}

fn of_all(snapshot: &Snapshot, pid: u32) -> u64 {
    let resources = snapshot.resources.iter().flat_map(|resources| &resources.processes);
    resources.filter(|process| process.pid == pid).map(|process| process.resources.cpu_us()).sum()
}

#[test]
fn reports_have_what_processes_use_whether_they_talk_or_not() {
    let mut command = nettopd_command();
    command.args(["--no-history", "--resources", "--format", "ndjson", "0.5"]);
    let mut nettopd = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(nettopd.stdout.take().unwrap());
    let (send, lines) = channel();
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let next = || serde_json::from_str::<serde_json::Value>(&lines.recv().expect("nettopd has ended")).unwrap();
    // The first reports may come before a first interval of what processes use has ended.
    assert!((0..60).any(|_| next()["resources"]["host"].is_object()), "no report has what the host used");
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let wait = |number: usize, snapshots: &mut Vec<Snapshot>| {
        for _ in 0..number {
            let document = next();
            snapshots.push(serde_json::from_value(document.clone()).unwrap());
            // None where the pass was still on its way.
            if document["resources"]["host"].is_object() {
                assert_fits(include_str!("../../../../docs/snapshot.schema.json"), document, "/resources/host");
            }
        }
    };
    wait(1, &mut snapshots);
    let burners = [burner(b"talking", true), burner(b"silent", false)];
    burners.iter().for_each(Process::go);
    let [talker, silent] = burners.each_ref().map(|burner| (burner.pid(), burner.wait_until_ready()));
    snapshots.extend(lines.try_iter().map(|line| serde_json::from_str::<Snapshot>(&line).unwrap()));
    wait(3, &mut snapshots);
    kill(Pid::from_raw(nettopd.id().cast_signed()), Signal::SIGTERM).unwrap();
    while let Ok(line) = lines.recv() {
        snapshots.push(serde_json::from_str(&line).unwrap());
    }
    assert!(nettopd.wait().unwrap().success());
    for burner in burners {
        burner.go();
        burner.wait_until_ready();
        burner.finish();
    }
    let sum = |of: fn(&Snapshot, u32) -> u64, pid| snapshots.iter().map(|snapshot| of(snapshot, pid)).sum::<u64>();
    assert_near("the silent one", sum(of_all, silent.0), silent.1, 2, 5000);
    assert_near("the one that talks", sum(of_all, talker.0), talker.1, 2, 5000);
    // Its row comes with its first packet.
    assert_near("its rows", sum(of_rows, talker.0), talker.1, 0, BURN_US / 2);
    assert_eq!(sum(of_rows, silent.0), 0, "it has none");
}
