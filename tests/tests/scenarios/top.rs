//! The full-screen view, in a terminal, with real traffic: what it shows is what was sent, and the terminal is left as it was.

use std::{fs, net::UdpSocket, path::Path, process::Stdio, time::Duration};

use nettop_history::{
    Counters, Device, DeviceBalance, DirectionBalance, Limits, Origin, SLOT_S, Slot, Store, Tick, Who, unix_now_s,
};
use nettop_tests::{
    Moved, Namespace, Process,
    api::{Daemon, GROUP, MEMBER},
    nettopd_command,
    screen::Screen,
    set_name, veth_pair,
};
use nix::sys::{
    signal::Signal,
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

/// nettopd top, measuring here.
fn top(args: &[&str], columns: u16, lines: u16) -> Screen {
    let mut command = nettopd_command();
    command.arg("top").args(args);
    Screen::start(command, columns, lines)
}

/// Sends so many datagrams of 100 bytes to a port, and stays.
fn sender(namespace: &Namespace, name: &'static [u8], datagrams: u64) -> Process {
    let sender = Process::start(Some(namespace), move |parent| {
        set_name(name);
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..datagrams {
            socket.send_to(&[0; 100], "10.0.0.2:9999").unwrap();
        }
        parent.signal_ready();
        parent.wait_for_parent();
        Moved { sent: datagrams * 100, received: 0 }
    });
    sender.wait_until_ready();
    sender
}

#[test]
fn the_numbers_on_the_screen_are_those_of_the_processes() {
    let (a, b) = veth_pair();
    let receiver = b.enter(|| UdpSocket::bind("10.0.0.2:9999").unwrap());
    let mut screen = top(&["0.2"], 150, 40);
    screen.wait_until_full(true);
    screen.wait_for_text("LIVE");
    let _few = sender(&a, b"top-few", 3);
    let _many = sender(&a, b"top-many", 7);
    // Views by process have names; sums are exact below a thousand.
    screen.press("3");
    // 128 bytes with headers of UDP and IP.
    screen.wait_for("sums of both", |lines| {
        let shown = (sums_of_process(lines, "top-few")?, sums_of_process(lines, "top-many")?);
        (shown == ((3 * 128, 0), (7 * 128, 0))).then_some(())
    });
    // Into the device: its own books hold the same bytes, and nothing is lost.
    screen.press("/dev:v0\r4");
    screen.wait_for("the device", |lines| lines.iter().any(|line| line.trim_start().starts_with("v0 ")).then_some(()));
    screen.press("3");
    // Together with what follows it would be another key.
    screen.press("\x1b");
    screen.wait_for_text("no filter");
    screen.press("/top-f");
    screen.wait_for_text("1 of");
    screen.wait_for("one of them", |lines| {
        let has = |name: &str| lines.iter().skip(4).any(|line| line.contains(name));
        (has("top-few") && !has("top-many")).then_some(())
    });
    // Down to the sockets of the process, and back.
    screen.press("\r\x1b[B\r");
    screen.wait_for("its socket", |lines| {
        lines.iter().any(|line| line.contains("udp") && line.contains("10.0.0.1:")).then_some(())
    });
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
    drop(receiver);
}

/// The amounts in the columns of sums of a process.
fn sums_of_process(lines: &[String], name: &str) -> Option<(u64, u64)> {
    let heading = lines.get(3)?;
    let line = lines.iter().skip(4).find(|line| line.contains(&format!(" {name} ")))?;
    let number = |column: &str| {
        let end = heading.find(column)? + column.len();
        let text: String = line.chars().take(end).collect();
        text.split_whitespace().last()?.parse().ok()
    };
    Some((number("UP SUM")?, number("DOWN SUM")?))
}

#[test]
fn the_terminal_is_left_as_it_was_however_it_ends() {
    // Keys, and signals from outside.
    for end in [Ok("q"), Ok("\x03"), Err(Signal::SIGTERM), Err(Signal::SIGHUP), Err(Signal::SIGQUIT)] {
        let mut screen = top(&["0.2"], 80, 24);
        screen.wait_until_full(true);
        screen.wait_for_text("LIVE");
        match end {
            Ok(keys) => screen.press(keys),
            Err(signal) => screen.signal(signal),
        }
        let status = screen.wait();
        assert!(status.success(), "{end:?}: {status}");
        screen.assert_restored();
    }
    // Q leaves the last screen.
    let mut screen = top(&["0.2"], 80, 24);
    screen.wait_for_text("LIVE");
    screen.press("Q");
    assert!(screen.wait().success());
    screen.assert_restored();
    screen.wait_for_text("PROGRAM");
}

#[test]
fn it_stops_and_goes_on_as_other_programs_do() {
    let mut screen = top(&["0.2"], 80, 24);
    screen.wait_for_text("LIVE");
    let pid = nix::unistd::Pid::from_raw(screen.pid().cast_signed());
    for key in [true, false] {
        if key {
            screen.press("\x1a");
        } else {
            screen.signal(Signal::SIGTSTP);
        }
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        screen.assert_restored();
        screen.signal(Signal::SIGCONT);
        screen.wait_until_full(true);
        screen.wait_for_text("LIVE");
    }
    screen.resize(200, 40);
    screen.wait_for("a line of the new width", |lines| {
        (lines.len() == 40 && lines[1].contains("forwarded")).then_some(())
    });
    screen.resize(39, 9);
    screen.wait_for_text("40x8 at least; this is 39x9");
    screen.resize(80, 24);
    screen.wait_for_text("LIVE");
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
}

/// Where one of them was read, the other had to be waited for.
#[test]
fn a_key_and_a_size_that_come_together_both_count() {
    let mut screen = top(&["60"], 80, 24);
    screen.wait_for_text("LIVE");
    for (number, (key, title)) in (1..).zip([("3", "PROCESS"), ("4", "DEVICE")].into_iter().cycle().take(100)) {
        let lines = 24 + number % 2;
        screen.resize(80, lines);
        screen.press(key);
        screen.wait_for("both", |shown| (shown.len() == usize::from(lines) && shown[3].contains(title)).then_some(()));
    }
}

#[test]
fn a_terminal_that_takes_nothing_stops_neither_keys_nor_signals() {
    for end in [Ok("q"), Err(Signal::SIGTERM)] {
        let mut screen = top(&["0.2"], 80, 24);
        screen.wait_for_text("LIVE");
        screen.stop_output();
        screen.resize(120, 40);
        match end {
            Ok(keys) => screen.press(keys),
            Err(signal) => screen.signal(signal),
        }
        let status = screen.wait();
        assert!(status.success(), "{end:?}: {status}");
        screen.assert_settings();
    }
}

#[test]
fn it_goes_on_after_a_stop_that_it_did_not_see() {
    let mut screen = top(&["0.2"], 80, 24);
    screen.wait_for_text("LIVE");
    let pid = nix::unistd::Pid::from_raw(screen.pid().cast_signed());
    screen.signal(Signal::SIGSTOP);
    assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(pid, Signal::SIGSTOP));
    screen.reset_settings();
    screen.signal(Signal::SIGCONT);
    // By lines, as a shell has the terminal, the key would not arrive.
    screen.press("3");
    screen.wait_for("the view by process", |lines| lines.get(3)?.contains("PROCESS").then_some(()));
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
}

#[test]
fn a_daemon_is_followed_without_privileges_and_its_end_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Namespace::new();
    let daemon = Daemon::start_alone(folder.path(), &["--interval", "0.2", "--no-history"]);
    let talker = Process::start(Some(&alone), |parent| {
        set_name(b"top-talker");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..5 {
            socket.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        parent.signal_ready();
        parent.wait_for_parent();
        Moved { sent: 500, received: 0 }
    });
    talker.wait_until_ready();
    let command = daemon.client_command(MEMBER, &[GROUP], &["top"]);
    let mut screen = Screen::start(command, 150, 40);
    screen.wait_for_text("LIVE");
    screen.press("3");
    // What arrives and is not taken is received as well.
    screen.wait_for("its sums", |lines| (sums_of_process(lines, "top-talker")?.0 == 5 * 128).then_some(()));
    daemon.kill();
    screen.wait_for_text("!LOST");
    screen.wait_for_text("the daemon is no longer heard");
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
}

/// A file with a slot every ten seconds, in which a process sent a thousand bytes more each time.
fn record(path: &Path, from: i64, slots: i64) {
    let origin = Origin {
        boot_id: "another".into(),
        host: "elsewhere".into(),
        kernel: "6.12.0".into(),
        version: "0".into(),
        hooks_missing: 0,
    };
    let mut store = Store::open(path, Limits::default(), &origin, from).unwrap();
    for number in 0..slots {
        let ts = from + number * SLOT_S;
        let device = Device { netns: 1, netns_cookie: 2, ifindex: 3, name: Some("eth7".into()) };
        let who = Who { pid: 4242, start_time_ns: Some(7), comm: "recorded".into(), device, ..Who::default() };
        let bytes = (number.cast_unsigned() + 1) * 1000;
        let counters = Counters { tx_bytes: bytes, tx_packets: 1, ..Counters::default() };
        let tick = Tick { measured_ms: 10_000, readings: 1, ..Tick::default() };
        let mut slot =
            Slot { ts, begin_ms: ts * 1000, end_ms: (ts + SLOT_S) * 1000, tick, flush: number + 1, ..Slot::default() };
        let tx = DirectionBalance { bytes, attributed_bytes: bytes, ..DirectionBalance::default() };
        slot.devices.insert(who.device.clone(), DeviceBalance { tx, ..DeviceBalance::default() });
        slot.samples.insert(who, counters);
        store.write(&[slot]).unwrap();
    }
}

#[test]
fn a_record_is_shown_slot_by_slot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let begin = unix_now_s() / 60 * 60 - 600;
    record(&path, begin, 5);
    let at = jiff::Timestamp::from_second(begin + 25).unwrap().to_string();
    let mut screen = top(&["--file", path.to_str().unwrap(), "--at", &at], 120, 30);
    // The third slot: 3000 bytes in 10 s.
    screen.wait_for_text("REPLAY");
    let shows = |rate: &'static str| {
        move |lines: &[String]| {
            lines.iter().skip(4).any(|line| line.contains("recorded") && line.contains(rate)).then_some(())
        }
    };
    screen.wait_for("the third slot", shows(" 300 "));
    let books = screen.wait_for_text("elsewhere");
    assert!(books.contains("up 300B/s"), "{books}");
    screen.press("t");
    screen.wait_for("the slot after it", shows(" 400 "));
    screen.press("TTT");
    screen.wait_for("the first slot", shows(" 100 "));
    screen.press("T");
    screen.wait_for_text("the record begins here");
    screen.press("]");
    screen.wait_for_text("nothing is recorded at");
    screen.wait_for("the last slot", shows(" 500 "));
    screen.press("t");
    screen.wait_for_text("the record ends here");
    screen.press(".");
    screen.wait_for_text("nothing is measured now");
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
}

#[test]
fn packets_of_a_process_are_shown_as_they_pass() {
    let (a, b) = veth_pair();
    let receiver = b.enter(|| UdpSocket::bind("10.0.0.2:9999").unwrap());
    let _talker = Process::start(Some(&a), |_| {
        set_name(b"top-streams");
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        loop {
            socket.send_to(&[0; 77], "10.0.0.2:9999").unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut screen = top(&["0.2", "--filter", "program:top-streams"], 150, 30);
    screen.wait_for_text("LIVE");
    screen.press("3");
    screen.wait_for("its line", |lines| lines.iter().skip(4).any(|line| line.contains(" top-streams ")).then_some(()));
    screen.press("p");
    screen.wait_for_text("packets of top-streams");
    screen.wait_for("a packet", |lines| lines.iter().any(|line| line.contains("10.0.0.2")).then_some(()));
    screen.press("\x1b");
    screen.wait_for("the table", |lines| lines.iter().any(|line| line.contains("UP/s")).then_some(()));
    screen.press("q");
    assert!(screen.wait().success());
    screen.assert_restored();
    drop(receiver);
}

#[test]
fn what_cannot_be_shown_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, "quit = 'x'\nfly = 'y'\n").unwrap();
    let missing = folder.path().join("none.db");
    let no_terminal = nettopd_command().args(["top"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(no_terminal.stderr).unwrap();
    assert_eq!(no_terminal.status.code(), Some(2));
    assert!(said.contains("needs a terminal") && said.lines().count() == 1, "{said}");
    let refused = |term: &str, args: &[&str], code: i32, words: &str| {
        let mut command = nettopd_command();
        command.arg("top").args(args).env("TERM", term);
        let mut screen = Screen::start(command, 1000, 24);
        let status = screen.wait();
        screen.wait_for_text(words);
        assert_eq!(status.code(), Some(code), "{words}");
        assert_eq!(screen.lines().len(), 1, "{:?}", screen.lines());
        screen.assert_restored();
    };
    refused("dumb", &[], 2, "(TERM is 'dumb')");
    refused("xterm", &["--keys", keys.to_str().unwrap()], 78, "line 2: there is no action 'fly'");
    refused("xterm", &["--file", missing.to_str().unwrap()], 1, "there is no history");
    refused("xterm", &["--at", "later"], 2, "'later' is no time");
    refused("xterm", &["--filter", "tx>much"], 2, "--filter: ");
}

#[test]
fn a_table_on_a_terminal_names_the_full_screen_view_once() {
    let mut command = nettopd_command();
    command.args(["--no-history", "0.2", "2"]);
    let mut screen = Screen::start(command, 100, 200);
    screen.wait_for_text("loss: none");
    assert!(screen.wait().success());
    let named = screen.lines().iter().filter(|line| line.contains("nettopd top")).count();
    assert_eq!(named, 1, "{:?}", screen.lines());
    screen.assert_restored();
}

#[test]
fn older_terminals_get_what_they_can_show() {
    for (name, value) in [("TERM", "vt100"), ("TERM", "linux"), ("LC_ALL", "C")] {
        let mut command = nettopd_command();
        command.args(["top", "0.2"]).env(name, value);
        let mut screen = Screen::start(command, 100, 30);
        screen.wait_for("the first interval", |lines| {
            lines
                .first()?
                .contains("every 0.2 s")
                .then(|| assert!(lines.iter().all(|line| line.is_ascii()), "{lines:?}"))
        });
        screen.press("q");
        assert!(screen.wait().success(), "{name} {value}");
        screen.assert_restored();
    }
}
