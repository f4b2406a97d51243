//! The machine that the scenario itself runs on: a guest of `cargo xtask vm`, whose process 1 is a Debian's systemd.

use std::{fs, path::Path, thread::sleep, time::Duration};

use super::Machine;

/// Left on the disk by a scenario that starts the machine anew, and ends with it: what runs after that is the same scenario
/// again.
const STARTED_ANEW: &str = "/var/lib/scenarios/started-anew";

/// The unit may have failed, and as often as it may: that degrades the machine.
pub fn forget_failures(machine: &Machine) {
    let _ = machine.try_run("systemctl", &["reset-failed", "nettopd"]);
}

pub fn has_package() -> bool {
    Path::new("/usr/bin/nettopd").exists()
}

/// Puts the package back to where its installation left it: emulated, installing it for each scenario takes most of a minute.
pub fn begin_anew(machine: &Machine) {
    machine.run("systemctl", &["stop", "nettopd"]);
    for left in ["/var/lib/nettopd", "/etc/nettopd/conf.d", "/run/systemd/system/nettopd.service.d"] {
        let _ = fs::remove_dir_all(left);
    }
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["start", "nettopd"]);
}

/// Whether this scenario has started the machine anew; the next one has not.
pub fn was_started_anew() -> bool {
    fs::remove_file(STARTED_ANEW).is_ok()
}

/// Starts the machine anew, in order.
pub fn start_anew(machine: &Machine) -> ! {
    fs::create_dir_all(Path::new(STARTED_ANEW).parent().unwrap()).unwrap();
    fs::write(STARTED_ANEW, "").unwrap();
    machine.run("systemctl", &["reboot"]);
    loop {
        sleep(Duration::from_secs(1));
    }
}
