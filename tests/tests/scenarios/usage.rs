//! What users and hostile names do to it: flags, formats, signals, pipes. Nothing of this depends on the kernel.

use std::{
    io::{BufRead as _, BufReader},
    net::UdpSocket,
    process::{Command, Stdio},
};

use nettop_model::{
    DropsDocument, Snapshot,
    drops::{Class, DropReport},
};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, app, nettopd_command, owner_row, rows_of, run_nettopd, set_name,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::schemas::assert_fits;

/// A process that sends itself one datagram of `size` bytes every 20 ms, until dropped.
fn talker(namespace: &Namespace, name: &[u8], size: usize) -> Process {
    let talker = Process::start(Some(namespace), |parent| {
        set_name(name);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = vec![0; size];
        parent.signal_ready();
        loop {
            socket.send_to(&buffer, socket.local_addr().unwrap()).unwrap();
            socket.recv(&mut buffer).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    talker.wait_until_ready();
    talker
}

fn stderr_line(output: &std::process::Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn absurd_arguments_are_refused_with_code_2() {
    let absurd: [&[&str]; 10] = [
        &["0"],
        &["-1"],
        &["nan"],
        &["inf"],
        &["1e99"],
        &["1", "0"],
        &["--rows", "1"],
        &["--format", "xml"],
        &["-4", "-6"],
        &["--once", "1", "2"],
    ];
    for args in absurd {
        let output = run_nettopd(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && stderr_line(&output).starts_with("nettopd: "), "{args:?}");
    }
    let output = run_nettopd(&["-u", "no-such\x1buser"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr_line(&output), "nettopd: no user is named 'no-such\\x1buser'; give a name or a number\n");
}

#[test]
fn hostile_names_are_harmless_in_every_format() {
    let alone = Namespace::new();
    let names: [&[u8]; 5] = [b"\x1b]0;x\x07", b"a\",\"b", b"=1+1", b"\xff\xc2\x9b", "\u{202e}x".as_bytes()];
    let talkers: Vec<Process> = names.iter().map(|name| talker(&alone, name, 10)).collect();
    for format in ["table", "json", "ndjson", "csv"] {
        let output = run_nettopd(&["--once", "0.3", "--format", format]);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).expect("output is UTF-8");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{format}");
        assert!(!text.contains('\u{202e}'), "{format}");
        assert!(text.contains("x1b]0;x"), "{format}");
        if format == "csv" {
            let mut fields = text.lines().filter(|line| line.contains(",row,"));
            let width = text.lines().next().unwrap().split(',').count();
            let quoted = fields.clone().find(|line| line.contains("\"a\"\",\"\"b\"")).expect("quotes are doubled");
            // The comma in the name is inside quotes.
            assert_eq!(quoted.split(',').count(), width + 1);
            assert!(fields.any(|line| line.contains(",'=1+1,")), "no formula");
        }
    }
    drop(talkers);
}

#[test]
fn signals_end_it_with_a_last_report_and_code_0() {
    let alone = Namespace::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let nettopd = Nettopd::start(&[]);
        let (pid, _) = Process::run(Some(&alone), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&[0; 9], socket.local_addr().unwrap()).unwrap();
            Moved::default()
        });
        let (last, code) = nettopd.stop(signal);
        assert_eq!(code, Some(0));
        assert_eq!(app(&last, pid).sent, 9);
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let nettopd = std::env::var_os("NETTOPD_BIN")
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/nettopd").into());
    let mut child = Command::new(nettopd).arg("0.1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("XMIT_PK"));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn once_prints_one_document_and_a_count_that_many() {
    let output = run_nettopd(&["--once", "0.1"]);
    let document: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document.schema, "nettop.snapshot/1");
    assert!(!document.hooks.is_empty() && document.hooks.iter().all(|hook| hook.attached), "{:?}", document.hooks);
    let output = run_nettopd(&["--format", "ndjson", "0.1", "3"]);
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 3);
    let output = run_nettopd(&["--format", "csv", "0.1", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("time,")).count(), 1);
}

#[test]
fn a_document_with_traffic_is_what_the_schema_says() {
    let alone = Namespace::new();
    let _talker = talker(&alone, b"talker", 10);
    let document: Value = serde_json::from_slice(&run_nettopd(&["--once", "0.3"]).stdout).unwrap();
    assert!(!document["rows"].as_array().unwrap().is_empty() && !document["devices"].as_array().unwrap().is_empty());
    assert_fits(include_str!("../../../docs/snapshot.schema.json"), document, "/rows/0/interval/tx/bytes");
}

#[test]
fn selection_and_order_do_what_they_say() {
    let alone = Namespace::new();
    let (small, large) = (talker(&alone, b"zz-small", 10), talker(&alone, b"aa-large", 5000));
    let once = |args: &[&str]| -> Snapshot {
        let output = run_nettopd(&[&["--once", "0.3"], args].concat());
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let pid = small.pid().to_string();
    let document = once(&["-p", &pid]);
    assert_eq!(document.rows.len(), 1);
    assert_eq!(owner_row(&document, small.pid()).comm, "zz-small");
    assert!(rows_of(&once(&["-u", "54321"]), small.pid()).is_empty());
    assert_eq!(rows_of(&once(&["-u", "root"]), small.pid()).len(), 1);
    assert_eq!(rows_of(&once(&["-i", "lo"]), small.pid()).len(), 1);
    let document = once(&["-i", "no-such-device"]);
    assert!(document.rows.is_empty() && document.devices.is_empty());
    assert_eq!(rows_of(&once(&["-4"]), small.pid()).len(), 1);
    assert!(rows_of(&once(&["-6"]), small.pid()).is_empty());
    assert!(owner_row(&once(&["-n"]), small.pid()).user.is_none());
    assert_eq!(owner_row(&once(&[]), small.pid()).user.as_deref(), Some("root"));
    for (column, first) in [("xmit_kb", large.pid()), ("command", large.pid()), ("pid", small.pid())] {
        let document = once(&["-s", column]);
        let mut pids = document.rows.iter().map(|row| row.pid);
        let ours = pids.find(|pid| [small.pid(), large.pid()].contains(pid));
        assert_eq!(ours, Some(first), "{column}");
    }
}

#[test]
fn names_beside_the_pid_come_from_proc() {
    let alone = Namespace::new();
    let talker = talker(&alone, b"named", 10);
    let output = run_nettopd(&["--once", "0.3"]);
    let document: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
    let row = owner_row(&document, talker.pid());
    let exe = std::env::current_exe().unwrap();
    assert_eq!(row.process.exe.as_deref(), exe.to_str());
    assert_eq!(row.owner, "user");
    assert_eq!(row.netns, alone.inode());
    assert_eq!(row.device.as_deref(), Some("lo"));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", talker.pid())).unwrap();
    let start_ticks: u64 = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
    assert_eq!(row.start_time_ns.unwrap() / 10_000_000, start_ticks);
}

#[test]
fn a_process_whose_main_thread_has_ended_keeps_its_path() {
    let alone = Namespace::new();
    let headless = Process::start(Some(&alone), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        std::thread::spawn(move || {
            loop {
                socket.send_to(&[0; 9], socket.local_addr().unwrap()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        parent.signal_ready();
        // SAFETY: ends this thread alone.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!()
    });
    headless.wait_until_ready();
    let output = run_nettopd(&["--once", "0.3"]);
    let document: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
    let exe = std::env::current_exe().unwrap();
    assert_eq!(owner_row(&document, headless.pid()).process.exe.as_deref(), exe.to_str());
}

#[test]
fn what_matches_nothing_is_said_in_a_line() {
    // No process has a number above the kernel's limit.
    let nobody = "4194305";
    let no_process = format!("nettopd: nothing matches now: there is no process {nobody}\n");
    let no_device = "nettopd: nothing matches now: no device is named 'no-such-device'\n".to_owned();
    for (args, said) in [
        (&["--once", "0.05", "-p", nobody][..], &no_process),
        (&["--once", "0.05", "-i", "no-such-device"], &no_device),
        (&["drops", "0.05", "2", "-i", "no-such-device"], &no_device),
        (&["sockets", "-p", nobody], &no_process),
    ] {
        let output = run_nettopd(args);
        assert_eq!((output.status.code(), &String::from_utf8(output.stderr).unwrap()), (Some(0), said), "{args:?}");
    }
    for (args, said) in
        [(&["connections", "-p", nobody][..], &no_process), (&["packets", "-i", "no-such-device"], &no_device)]
    {
        let mut child = nettopd_command().args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(&line, said, "{args:?}");
    }
    let output = run_nettopd(&["--socket", "", "status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_line(&output).contains("name its socket with --socket PATH"), "{output:?}");
}

#[test]
fn times_always_have_three_digits_of_a_second() {
    for _ in 0..3 {
        let output = run_nettopd(&["--once", "0.05"]);
        let document: Snapshot = serde_json::from_slice(&output.stdout).unwrap();
        for time in [document.time, document.accounting_since] {
            assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "{time}");
        }
    }
}

/// A process that sends to a closed port every 20 ms, until dropped.
fn misguided(namespace: &Namespace) -> Process {
    let process = Process::start(Some(namespace), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        parent.signal_ready();
        loop {
            let _ = socket.send_to(&[0; 10], "127.0.0.1:9");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    process.wait_until_ready();
    process
}

#[test]
fn drops_are_printed_in_dropwatchs_words_and_in_every_format() {
    let alone = Namespace::new();
    let _misguided = misguided(&alone);
    let text = run_nettopd(&["drops", "0.3", "2"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("Monitoring for dropped packets\n\n"), "{text}");
    let line = text.lines().find(|line| line.contains("NO_SOCKET")).unwrap();
    let (count, rest) = line.split_once(" packets dropped at ").unwrap();
    // 15 in 0.3 s; a busy machine sends fewer, or reads later.
    assert!((5..=100).contains(&count.parse::<u32>().unwrap()), "{line}");
    assert!(rest.starts_with("__udp4_lib_rcv+0x") && rest.ends_with(" NO_SOCKET routing UDP - lo"), "{line}");

    let json = run_nettopd(&["drops", "0.3", "1", "--format", "json", "-i", "lo"]);
    let document: DropsDocument<'static> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document.schema, "nettop.drops/1");
    let is_shown = |drop: &DropReport| drop.device.as_deref() == Some("lo") && drop.class != Class::Lifecycle;
    assert!(!document.drops.is_empty() && document.drops.iter().all(|drop| is_shown(&drop.report)));

    let lines = run_nettopd(&["drops", "0.3", "2", "--format", "ndjson"]).stdout;
    assert_eq!(String::from_utf8(lines).unwrap().lines().count(), 2);

    let output = run_nettopd(&["drops", "0.3", "1", "--format", "csv"]).stdout;
    let output = String::from_utf8(output).unwrap();
    let (header, lines) = output.split_once('\n').unwrap();
    assert!(lines.lines().all(|line| line.split(',').count() == header.split(',').count()), "{output}");
    for record in ["drop", "other", "uncounted"] {
        assert!(lines.lines().any(|line| line.split(',').nth(2) == Some(record)), "{output}");
    }

    let table = run_nettopd(&["--drops", "0.3", "1"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().next().unwrap().ends_with("RECV_KB   DROPS RETRANS COMMAND"), "{table}");
}
