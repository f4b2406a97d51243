//! The machine that the scenario itself runs on: a guest of `cargo xtask vm`, whose process 1 is a Debian's systemd.

use std::{fs, path::Path, thread::sleep, time::Duration};

use super::Machine;

/// Left on the disk by a scenario that starts the machine anew, and ends with it: what runs after that is the same scenario
/// again.
const STARTED_ANEW: &str = "/var/lib/scenarios/started-anew";

/// Takes away what the scenario before has left.
pub fn clean(machine: &Machine) {
    if Path::new("/usr/bin/nettopd").exists() {
        machine.run("dpkg", &["--purge", "nettopd"]);
    }
    for left in ["/etc/nettopd", "/run/systemd/system/nettopd.service.d"] {
        let _ = fs::remove_dir_all(left);
    }
    machine.run("systemctl", &["daemon-reload"]);
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
