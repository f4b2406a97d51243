//! Processes of milliseconds in packets, traced calls and drops.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use nettop_model::{DropsDocument, ProcessNames, trace};
use nettop_tests::{Namespace, Stream, cgroup::Cgroup, drops::nft_drop, nettopd_command};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{BASH, Programs, SEND, expected};

/// What must be known of the `number`th that a shell in a group has run.
fn assert_named(process: &ProcessNames, programs: &Programs, number: usize, group: &Cgroup, shell: u32) {
    assert_eq!((process.exe.as_deref(), process.script.as_deref()), expected(programs, number), "{process:#?}");
    assert_eq!(process.unit.as_deref(), group.path().file_name().unwrap().to_str(), "{process:#?}");
    let parents: Vec<u32> = process.parents.iter().map(|parent| parent.pid).collect();
    assert_eq!(parents[..2], [shell, std::process::id()], "{process:#?}");
}

#[test]
fn packets_have_what_their_processes_are() {
    let [plain, asked] = [&[][..], &["-e"]].map(|args| Stream::packets(&[args, &["--port", "9"]].concat()));
    let alone = Namespace::new();
    let programs = Programs::new(SEND);
    let group = Cgroup::new("c.service");
    let (shell, pids) = programs.run(10, &group, &alone);
    for (stream, is_asked) in [(plain, false), (asked, true)] {
        let result = stream.stop();
        let mut sent = HashMap::new();
        let events = || result.events.iter().filter(|event| event.netns == alone.inode());
        for event in events().filter(|event| event.protocol == "udp" && event.direction == "tx") {
            sent.insert(event.pid.unwrap(), &event.process);
        }
        assert_eq!(sent.len(), pids.len());
        for (number, pid) in pids.iter().enumerate() {
            assert_named(sent[pid], &programs, number, &group, shell);
            assert_eq!(sent[pid].arguments.is_some(), is_asked);
        }
        let kernels = events().find(|event| event.pid == Some(0)).unwrap();
        assert_eq!(kernels.process, ProcessNames::default());
    }
}

#[test]
fn drops_have_what_their_processes_are() {
    let alone = Namespace::new();
    nft_drop(&alone, "output", "udp dport 9");
    let mut nettopd = nettopd_command();
    nettopd.args(["drops", "-e", "--format", "ndjson", "0.2"]).stdout(Stdio::piped());
    let mut nettopd = nettopd.spawn().unwrap();
    let mut documents = BufReader::new(nettopd.stdout.take().unwrap()).lines();
    documents.next().unwrap().unwrap();
    // The firewall has each of them fail.
    let programs = Programs::new("printf x 2> /dev/null > /dev/udp/127.0.0.1/9 || true");
    let group = Cgroup::new("d.service");
    let (shell, pids) = programs.run(10, &group, &alone);
    let mut dropped: HashMap<u32, ProcessNames> = HashMap::new();
    let mut are_quiet = false;
    // Those of earlier intervals have their names as well.
    while dropped.len() < pids.len() || !are_quiet {
        let line = documents.next().unwrap().unwrap();
        let document: DropsDocument<'_> = serde_json::from_str(&line).unwrap();
        are_quiet = true;
        for drop in document.drops.into_iter().filter(|drop| drop.report.netns == Some(alone.inode())) {
            are_quiet &= drop.report.interval.packets == 0;
            dropped.insert(drop.report.pid.unwrap(), drop.process);
        }
    }
    kill(Pid::from_raw(nettopd.id().cast_signed()), Signal::SIGTERM).unwrap();
    nettopd.wait().unwrap();
    for (number, pid) in pids.iter().enumerate() {
        assert_named(&dropped[pid], &programs, number, &group, shell);
        assert!(dropped[pid].arguments.is_some());
    }
}

#[test]
fn traced_calls_have_what_their_processes_are() {
    let programs = Programs::new(SEND);
    let group = Cgroup::new("e.service");
    let (program, script) = (programs.program.display(), programs.script.display());
    let enter = format!("echo $$ > {}/cgroup.procs", group.path().display());
    let unit = group.path().file_name().unwrap().to_str();
    let calls = format!(
        "{BASH} -c '{SEND}'; {enter}; for i in 1 2 3; do {program} -c 'echo $$; {SEND}'; '{script}'; done; true"
    );
    for (is_asked, options) in [(false, vec![]), (true, vec!["-e", "--unit", unit.unwrap()])] {
        let mut nettopd = nettopd_command();
        nettopd.args(["trace", "--format", "ndjson"]).args(options).args(["--", BASH, "-c", &calls]);
        let output = nettopd.output().unwrap();
        let (documents, pids): (Vec<_>, Vec<_>) =
            str::from_utf8(&output.stdout).unwrap().lines().partition(|line| line.starts_with('{'));
        let steps = documents.iter().filter_map(|line| serde_json::from_str::<trace::Record>(line).ok());
        let steps: HashMap<u32, ProcessNames> = steps.map(|step| (step.pid, step.process)).collect();
        assert_eq!(pids.len(), 6, "{documents:#?}");
        // The first is elsewhere.
        let has_others = steps.values().any(|process| process.unit.as_deref() != unit);
        assert_eq!(has_others, !is_asked);
        for (number, pid) in pids.iter().enumerate() {
            let process = &steps[&pid.parse().unwrap()];
            assert_eq!(
                (process.exe.as_deref(), process.script.as_deref()),
                expected(&programs, number),
                "{process:#?}"
            );
            assert_eq!(process.unit.as_deref(), unit, "{process:#?}");
            assert_eq!(process.parents[0].comm, "bash", "{process:#?}");
            assert_eq!(process.arguments.is_some(), is_asked, "{process:#?}");
        }
    }
}
