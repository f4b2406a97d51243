//! What processes use, in reports as they come.

use std::{
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::Stdio,
    sync::mpsc::channel,
    thread,
};

use nettop_model::{Snapshot, snapshot::RowReport};
use nettop_tests::{Process, api::Daemon, nettopd_command, run_nettopd, wait_until};
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
    let mut snapshots = Vec::new();
    let wait = |number: usize, snapshots: &mut Vec<Snapshot>| {
        for _ in 0..number {
            let line = lines.recv().expect("nettopd has ended");
            let document = serde_json::from_str(&line).unwrap();
            assert_fits(include_str!("../../../../docs/snapshot.schema.json"), document, "/resources/host");
            snapshots.push(serde_json::from_str(&line).unwrap());
        }
    };
    wait(2, &mut snapshots);
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

#[test]
fn what_processes_use_is_for_those_who_ask() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.db");
    let daemon = Daemon::start_alone(folder.path(), &["--interval", "0.5", "--history", history.to_str().unwrap()]);
    let talker = Process::start(None, |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        parent.signal_ready();
        loop {
            socket.send_to(&[7; 100], socket.local_addr().unwrap()).unwrap();
            thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    talker.wait_until_ready();
    let pid = talker.pid();
    let snapshot = |target: &str| -> Snapshot { daemon.get(target).unwrap().document() };
    let row =
        |snapshot: &Snapshot| snapshot.rows.iter().find(|row| row.pid == pid).and_then(|row| row.resources.clone());
    wait_until("its row has what it used", || row(&snapshot("/v1/snapshot?resources=1")).is_some());
    let plain = snapshot("/v1/snapshot");
    assert!(plain.resources.is_none() && plain.rows.iter().all(|row| row.resources.is_none()));
    let only = snapshot(&format!("/v1/snapshot?resources=1&pid={pid}"));
    assert!(only.resources.unwrap().processes.iter().all(|process| process.pid == pid));
    let by_user = snapshot("/v1/snapshot?resources=1&by=user");
    assert!(by_user.groups.iter().any(|group| group.resources.is_some_and(|used| used.rss_mean_bytes > Some(0))));
    // As people see it.
    let shown = String::from_utf8(daemon.client(&["--once", "--format", "table", "--sort", "cpu"]).stdout).unwrap();
    let columns: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    let expected = ["XMIT_KB", "RECV_KB", "CPU%", "MEM_MB", "DISK_KB", "LOAD", "COMMAND"];
    assert!(columns.ends_with(&expected), "{shown}");
    let its = shown.lines().find(|line| line.trim_start().starts_with(&format!("{pid} "))).expect("it talks");
    let its: Vec<&str> = its.split_whitespace().collect();
    let at = |name: &str| its[columns.iter().position(|column| *column == name).unwrap()];
    assert!(at("MEM_MB").parse::<u64>().unwrap() > 0 && at("CPU%").parse::<f64>().is_ok(), "{shown}");
    let shown = run_nettopd(&["--once", "--standalone", "--no-history", "--format", "csv", "--resources"]);
    let csv = String::from_utf8(shown.stdout).unwrap();
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let of = csv.lines().find(|line| line.split(',').any(|cell| cell == pid.to_string())).expect("it talks");
    let user_us = of.split(',').nth(head.iter().position(|column| *column == "user_us").unwrap()).unwrap();
    assert!(user_us.parse::<u64>().is_ok(), "{csv}");
}
