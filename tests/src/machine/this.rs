//! The machine that the scenario itself runs on: a guest of `cargo xtask vm`, whose process 1 is a Debian's systemd.

use std::{fs, path::Path, process::Command, thread::sleep, time::Duration};

/// Left on the disk by a scenario that reboots the machine, and ends with it: the same scenario runs again after that.
const STARTED_ANEW: &str = "/var/lib/scenarios/started-anew";

/// The unit may have failed up to its limit: that degrades the machine.
pub fn forget_failures() {
    let _ = Command::new("systemctl").args(["reset-failed", "nettopd"]).output();
}

fn systemctl(args: &[&str]) {
    let output = Command::new("systemctl").args(args).output().unwrap();
    assert!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn has_package() -> bool {
    Path::new("/usr/bin/nettopd").exists()
}

/// Resets the package to what its installation left: emulated, installing it for each scenario takes most of a minute.
pub fn begin_anew() {
    systemctl(&["stop", "nettopd"]);
    for left in ["/var/lib/nettopd", "/etc/nettopd/conf.d", "/run/systemd/system/nettopd.service.d"] {
        let _ = fs::remove_dir_all(left);
    }
    widen_timeouts(true);
    systemctl(&["start", "nettopd"]);
}

/// An emulated machine may get little CPU for longer than systemd waits for a start, a reload, a stop or the watchdog.
/// Before the package is installed as well: that starts the unit.
pub fn widen_timeouts(with_watchdog: bool) {
    let folder = Path::new("/run/systemd/system/nettopd.service.d");
    fs::create_dir_all(folder).unwrap();
    // After the watchdog systemd waits for a stop.
    let more = if with_watchdog { "TimeoutStopSec=5min\nWatchdogSec=5min\n" } else { "" };
    fs::write(folder.join("emulated.conf"), format!("[Service]\nTimeoutStartSec=10min\n{more}")).unwrap();
    systemctl(&["daemon-reload"]);
}

/// Runs the unit with its own watchdog.
pub fn run_with_watchdog() {
    widen_timeouts(false);
    systemctl(&["restart", "nettopd"]);
}

/// Whether this scenario has rebooted the machine; the next one has not.
pub fn was_started_anew() -> bool {
    fs::remove_file(STARTED_ANEW).is_ok()
}

/// Reboots the machine, in order.
pub fn start_anew() -> ! {
    fs::create_dir_all(Path::new(STARTED_ANEW).parent().unwrap()).unwrap();
    fs::write(STARTED_ANEW, "").unwrap();
    systemctl(&["reboot"]);
    loop {
        sleep(Duration::from_secs(1));
    }
}
