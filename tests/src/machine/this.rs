//! The machine that the scenario itself runs on: a guest of `cargo xtask vm`, whose process 1 is a Debian's systemd.

use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

/// Left on the disk by a scenario that starts the machine anew, and ends with it: what is run after that is the same
/// scenario again.
const STARTED_ANEW: &str = "/var/lib/scenarios/started-anew";

pub fn is_started_anew() -> bool {
    Path::new(STARTED_ANEW).exists()
}

/// Takes away what the scenario before has left.
pub fn clean() {
    if Path::new("/usr/bin/nettopd").exists() {
        run("dpkg", &["--purge", "nettopd"]);
    }
    for left in ["/etc/nettopd", "/run/systemd/system/nettopd.service.d"] {
        let _ = fs::remove_dir_all(left);
    }
    run("systemctl", &["daemon-reload"]);
}

/// Starts the machine anew, in order, and never returns; after that, and called again, does nothing.
pub fn reboot() {
    if fs::remove_file(STARTED_ANEW).is_ok() {
        return;
    }
    fs::create_dir_all(Path::new(STARTED_ANEW).parent().unwrap()).unwrap();
    fs::write(STARTED_ANEW, "").unwrap();
    run("systemctl", &["reboot"]);
    loop {
        sleep(Duration::from_secs(1));
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}
