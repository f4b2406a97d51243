//! The Debian package: installed, upgraded, removed and purged in a clean root under a real systemd.

use std::{collections::BTreeSet, time::Duration};

use nettop_tests::machine::{Machine, eventually, given};

const HISTORY: &str = "/var/lib/nettopd/history.db";

#[test]
fn data_outlives_upgrade_and_removal_and_nothing_outlives_purge() {
    let machine = Machine::boot();
    let before = kept(&machine);
    machine.install(&given("NETTOP_PREVIOUS"));
    assert_eq!(machine.run("systemctl", &["is-active", "nettopd"]), "active\n");
    assert_eq!(machine.run("systemctl", &["is-enabled", "nettopd"]), "enabled\n");
    assert!(eventually(Duration::from_secs(10), || machine.path(HISTORY).exists()), "no history is written");
    let first_pid = machine.main_pid("nettopd");
    let changed = "# changed by the administrator\n";
    append(&machine, "/etc/nettopd/nettopd.toml", changed);

    machine.install(&given("NETTOP_PACKAGE"));
    let version = machine.run("dpkg-query", &["--show", "--showformat", "${Version}", "nettopd"]);
    assert_eq!(version, format!("{}-1", env!("CARGO_PKG_VERSION")));
    assert_eq!(machine.run("systemctl", &["is-active", "nettopd"]), "active\n");
    assert_ne!(machine.main_pid("nettopd"), first_pid, "the old program still runs");
    assert_eq!(sessions(&machine), "2", "history before the upgrade is lost");
    let settings = std::fs::read_to_string(machine.path("/etc/nettopd/nettopd.toml")).unwrap();
    assert!(settings.ends_with(changed), "the administrator's settings are lost");

    machine.run("dpkg", &["--remove", "nettopd"]);
    assert_ne!(machine.try_run("systemctl", &["is-active", "nettopd"]).stdout, b"active\n");
    assert!(!machine.path("/usr/bin/nettopd").exists());
    assert_eq!(sessions(&machine), "2", "removal is not purge");
    assert!(machine.path("/etc/nettopd/nettopd.toml").exists());

    machine.run("dpkg", &["--purge", "nettopd"]);
    let left: Vec<String> = kept(&machine).difference(&before).cloned().collect();
    assert_eq!(left, Vec::<String>::new());
    let owned = machine.run("find", &["/", "-xdev", "(", "-user", "nettopd", "-o", "-group", "nettopd", ")"]);
    assert_eq!(owned, "");
}

#[test]
fn it_brings_manual_pages_and_completions() {
    let machine = Machine::with_package();
    let files = machine.run("dpkg-query", &["--listfiles", "nettopd"]);
    for file in [
        "/usr/share/man/man8/nettopd.8.gz",
        "/usr/share/man/man8/nettopd-history.8.gz",
        "/usr/share/man/man5/nettopd.toml.5.gz",
        "/usr/share/zsh/vendor-completions/_nettopd",
        "/usr/share/fish/vendor_completions.d/nettopd.fish",
        "/usr/share/doc/nettopd/changelog.Debian.gz",
        "/usr/share/doc/nettopd/copyright",
        "/usr/lib/sysusers.d/nettopd.conf",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} is missing in\n{files}");
    }
    let help = machine.run("nettopd", &["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(commands.contains(&"trace"), "{help}");
    for command in commands {
        assert!(files.contains(&format!("/man8/nettopd-{command}.8.gz\n")), "{command} has no page in\n{files}");
    }
    assert!(!files.contains("nettopd-man."), "a hidden command has a page");
    let complete = "source /usr/share/bash-completion/completions/nettopd && COMP_WORDS=(nettopd his) COMP_CWORD=1 \
                    && _nettopd nettopd his nettopd && echo ${COMPREPLY[@]}";
    assert_eq!(machine.run("bash", &["-c", complete]), "history\n");
}

/// Files that a package is responsible for: not those of the journal, of dpkg's database, and of users.
fn kept(machine: &Machine) -> BTreeSet<String> {
    // The user stays when the package goes, and with it the backups that are made whenever one is added.
    const OTHERS: [&str; 4] = ["/var/log/", "/var/cache/", "/var/lib/dpkg/", "/tmp/"];
    let backups = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"];
    let files = machine.files().into_iter();
    files
        .filter(|file| !OTHERS.iter().any(|other| file.starts_with(other)) && !backups.contains(&file.as_str()))
        .collect()
}

fn sessions(machine: &Machine) -> String {
    machine.run("sqlite3", &["-readonly", HISTORY, "select count(*) from session"]).trim().to_owned()
}

fn append(machine: &Machine, path: &str, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(machine.path(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
