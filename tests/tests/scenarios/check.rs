//! What nettopd says of a kernel: `nettopd check`, forced back ends, missing rights.

use std::{os::unix::process::CommandExt as _, process::Command};

use nettop_tests::run_nettopd;

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
fn check_tells_what_is_used_and_proves_that_it_counts_right() {
    let output = run_nettopd(&["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "nettop.check/1");
    let proof = report["proof"].as_array().unwrap();
    assert!(proof.len() == 8 && proof.iter().all(|proof| proof["holds"] == true), "{proof:#?}");
    assert!(report["lacking"].as_array().unwrap().is_empty(), "{report:#}");
    for program in report["programs"].as_array().unwrap() {
        assert!(program["verified_instructions"].as_u64().unwrap() <= 100_000, "{program}");
    }
    let text = run_nettopd(&["check"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("cgroup_skb/egress"));
}

#[test]
fn what_is_hooked_has_a_prototype_that_is_known() {
    let output = run_nettopd(&["check", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let prototypes = report["prototypes"].as_array().unwrap();
    let found: Vec<_> = prototypes.iter().filter(|hook| !hook["found"].is_null()).collect();
    assert!(found.len() > 10, "{report:#}");
    assert!(found.iter().all(|hook| hook["is_known"] == true), "{found:#?}");
}

#[test]
fn a_forced_back_end_is_used_or_refused_with_its_reason() {
    // Programs are freed a moment after their last descriptor.
    let loaded = || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        aya::programs::loaded_programs().filter(Result::is_ok).count()
    };
    for backend in ["tracepoint", "fentry", "kprobe"] {
        let before = loaded();
        let output = run_nettopd(&["check", "--format", "json", "--backend", backend]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.code() == Some(0) {
            let used: Vec<_> =
                report["purposes"].as_array().unwrap().iter().map(|purpose| &purpose["backend"]).collect();
            assert_eq!(used.iter().filter(|used| **used == backend).count(), 3, "{used:?}");
        } else {
            assert_eq!(output.status.code(), Some(69), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.starts_with(&format!("nettopd: back end {backend} cannot be used for app")), "{said}");
        }
        assert_eq!(loaded(), before, "{backend} left programs");
    }
}
