//! What processes use, for those who ask the daemon.

use std::{net::UdpSocket, thread, time::Duration};

use nettop_model::Snapshot;
use nettop_tests::{Process, api::Daemon, run_nettopd, wait_until};

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
            thread::sleep(Duration::from_millis(20));
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
    // What is not read in time is in the next.
    wait_until("only it is asked about", || {
        let only = snapshot(&format!("/v1/snapshot?resources=1&pid={pid}")).resources;
        only.is_some_and(|only| only.processes.iter().all(|process| process.pid == pid))
    });
    wait_until("users have what theirs used", || {
        let by_user = snapshot("/v1/snapshot?resources=1&by=user");
        by_user.groups.iter().any(|group| group.resources.is_some_and(|used| used.rss_mean_bytes > Some(0)))
    });
    // As people see it.
    let mut shown = String::new();
    wait_until("it is shown", || {
        shown = String::from_utf8(daemon.client(&["--once", "--format", "table", "--sort", "cpu"]).stdout).unwrap();
        let its = shown.lines().find(|line| line.trim_start().starts_with(&format!("{pid} "))).expect("it talks");
        !its.contains(" - ")
    });
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
