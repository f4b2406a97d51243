//! Checks of a kernel: `nettopd check`, forced back ends, missing rights.

use std::{os::unix::process::CommandExt as _, process::Command};

use nettop_model::check::{Document, SCHEMA};
use nettop_tests::{hang_timeout, run_nettopd};

fn document(bytes: &[u8]) -> Document {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn missing_capabilities_are_named_with_code_77() {
    let nettopd = std::env::var_os("NETTOPD_BIN")
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/nettopd").into());
    // A descriptor of it, since its folder may be closed to others.
    let file = std::fs::File::open(nettopd).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    let copy = std::env::temp_dir().join(format!("nettopd-{}", std::process::id()));
    std::fs::copy(path, &copy).unwrap();
    let output = Command::new(&copy).uid(65_534).gid(65_534).output();
    std::fs::remove_file(&copy).unwrap();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(77));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("nettopd: not permitted: missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN; "), "{line}");
}

#[test]
fn check_shows_what_is_used_and_proves_that_it_counts_right() {
    let output = run_nettopd(&["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = document(&output.stdout);
    assert_eq!(report.schema, SCHEMA);
    let proof = &report.proof;
    assert!(proof.len() == 8 && proof.iter().all(|proof| proof.holds), "{proof:#?}");
    assert!(report.lacking.is_empty(), "{report:#?}");
    for program in &report.programs {
        assert!(program.verified_instructions <= 100_000, "{program:?}");
    }
    let text = run_nettopd(&["check"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("cgroup_skb/egress"));
}

#[test]
fn what_is_hooked_has_a_prototype_that_is_known() {
    let output = run_nettopd(&["check", "--format", "json"]);
    let report = document(&output.stdout);
    let found: Vec<_> = report.prototypes.iter().filter(|hook| hook.found.is_some()).collect();
    assert!(found.len() > 10, "{report:#?}");
    assert!(found.iter().all(|hook| hook.is_known), "{found:#?}");
}

#[test]
fn a_forced_back_end_is_used_or_refused_with_its_reason() {
    let loaded = || aya::programs::loaded_programs().filter(Result::is_ok).count();
    for backend in ["tracepoint", "fentry", "kprobe"] {
        let before = loaded();
        let output = run_nettopd(&["check", "--format", "json", "--backend", backend]);
        let report = document(&output.stdout);
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.code() == Some(0) {
            let used: Vec<_> = report.purposes.iter().map(|purpose| purpose.backend.as_deref()).collect();
            assert_eq!(used.iter().filter(|used| **used == Some(backend)).count(), 3, "{used:?}");
        } else {
            assert_eq!(output.status.code(), Some(69), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.starts_with(&format!("nettopd: back end {backend} cannot be used for app")), "{said}");
        }
        // Programs are freed some time after their last descriptor, those of a nettopd that ended before as well.
        let deadline = std::time::Instant::now() + hang_timeout();
        while loaded() > before {
            assert!(std::time::Instant::now() < deadline, "{backend} left programs");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

#[test]
fn the_programs_log_what_they_do_at_level_debug() {
    let quiet = run_nettopd(&["check", "--format", "json"]);
    assert!(quiet.stderr.is_empty(), "{}", String::from_utf8_lossy(&quiet.stderr));
    let verbose = run_nettopd(&["check", "-v", "--format", "json"]);
    assert_eq!(verbose.status.code(), Some(0), "{}", String::from_utf8_lossy(&verbose.stderr));
    // What is off costs nothing: the same programs are verified to the same length, or longer with it.
    let length =
        |output: &[u8]| document(output).programs.iter().map(|program| program.verified_instructions).sum::<u32>();
    assert!(length(&quiet.stdout) <= length(&verbose.stdout));
    let result = String::from_utf8(verbose.stderr).unwrap();
    let of_programs: Vec<&str> = result.lines().collect();
    // Its own proof: an owner is made, and then a row of that owner.
    let made = of_programs.iter().filter_map(|line| line.split_once("owner ")?.1.split_once(" made for process "));
    let slots: Vec<&str> = made.map(|(slot, _)| slot).collect();
    let has_row = |slot: &&str, hook: &str| {
        of_programs.iter().any(|line| line.contains(&format!(" made for owner {slot}, in {hook}, socket cookie ")))
    };
    // The row of what it sends, and of what it receives, is the same: whichever is first makes it.
    let is_proof = |slot: &&str| has_row(slot, "packet_tx") || has_row(slot, "packet_rx");
    assert!(slots.iter().any(is_proof), "{result}");
    let owner_made: Vec<_> = of_programs.iter().filter(|line| line.contains(" made for process ")).collect();
    let is_known_place = |line: &&&str| line.contains(", in socket_create, ") || line.contains(", in seed, ");
    assert!(owner_made.iter().all(is_known_place), "{result}");
    assert!(owner_made.iter().any(|line| line.contains(", in socket_create, socket cookie ")), "{result}");
    assert!(!result.contains("something unknown"), "{result}");
}

#[test]
fn a_device_is_watched_and_one_that_is_not_there_is_refused() {
    let alone = nettop_tests::Namespace::new();
    // It passes a datagram each 20 ms for as long as the device is watched.
    let talker = nettop_tests::Process::start(Some(&alone), |parent| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        parent.signal_ready();
        loop {
            socket.send_to(&[7; 100], socket.local_addr().unwrap()).unwrap();
            socket.recv(&mut [0; 100]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    talker.wait_until_ready();
    let output = alone.enter(|| run_nettopd(&["check", "--format", "json", "--device", "lo"]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = document(&output.stdout);
    for what in ["device sent", "device received"] {
        let found = &report.proof.iter().find(|proof| proof.what == what).unwrap().found;
        assert!(
            found.contains("lo: ") && found.contains(" 0 B unattributed") && !found.contains("too little"),
            "{found}"
        );
    }
    let refused = run_nettopd(&["check", "--device", "no-such-device"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
