//! The packaged unit, exactly as shipped, under a real systemd: started, confined, reloaded, hung, killed, stopped.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, time::Duration};

use nettop_model::{Snapshot, snapshot::RowReport};
use nettop_tests::{
    machine::{Machine, eventually},
    thread_statuses,
};

const HISTORY: &str = "/var/lib/nettopd/history.db";
/// Sends itself six times 50,000 bytes over TCP, under a name of its own.
const TALKER: &str = r#"
use Socket;
$0 = "talker";
socket(L, PF_INET, SOCK_STREAM, 0) && bind(L, sockaddr_in(0, INADDR_LOOPBACK)) && listen(L, 1) or die;
socket(C, PF_INET, SOCK_STREAM, 0) && connect(C, getsockname(L)) && accept(S, L) or die;
for (1 .. 6) {
    syswrite(C, "x" x 50000) == 50000 or die;
    for (my $got = 0; $got < 50000;) { $got += sysread(S, my $part, 50000) or die }
}
"#;
const TALKED: u64 = 300_000;

#[test]
fn it_is_ready_confined_and_counts_right() {
    let machine = Machine::with_package();
    assert_eq!(machine.property("nettopd", "Type"), "notify");
    assert_eq!(machine.property("nettopd", "ActiveState"), "active");
    assert!(!machine.property("nettopd", "StatusText").is_empty());
    let pid = machine.main_pid("nettopd").unwrap();
    let status = fs::read_to_string(machine.path(&format!("/proc/{pid}/status"))).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let value = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:\t"))).unwrap();
        assert_eq!(value, "0000000000000000", "{set} of\n{status}");
    }
    // Threads have capabilities of their own.
    for status in thread_statuses(&machine.path(&format!("/proc/{pid}"))) {
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
    }
    assert!(!status.contains("VmLck:\t       0 kB\n"), "its program is not locked: {status}");
    assert_eq!(machine.property("nettopd", "MemorySwapMax"), "0");
    let uid = machine.run("id", &["--user", "nettopd"]);
    assert!(status.contains(&format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", uid.trim())), "{status}");

    talk(&machine);
    // A slot of the history is 10 s.
    assert!(eventually(Duration::from_secs(30), || !talked(&machine).is_empty()), "the talker is not recorded");
    assert_eq!(talked(&machine), format!("lo|65534|{TALKED}|{TALKED}"));
    // It was dropped after the talker's end: another slot may have it.
    let closed = || sql(&machine, "select location from drops where protocol = 'UDP' and reason = 'NO_SOCKET'");
    assert!(eventually(Duration::from_secs(30), || !closed().is_empty()), "the drop is not recorded");
    assert!(closed().contains("udp"), "drops carry no symbol: {:?}", closed());

    let file = fs::metadata(machine.path(HISTORY)).unwrap();
    assert_eq!((file.mode() & 0o777, file.uid().to_string()), (0o640, uid.trim().to_owned()));
    let count = ["-readonly", HISTORY, "select count(*) > 0 from talkers"];
    assert_eq!(machine.run_as("nobody", "nettopd", "sqlite3", &count).stdout, b"1\n");
    assert!(!machine.run_as("nobody", "nogroup", "sqlite3", &count).status.success());
}

/// A scope that is called as docker's, in which something is sent, and a row of it.
fn of_container<'a>(machine: &Machine, id: &str, document: &'a mut Option<Snapshot>) -> Option<&'a RowReport> {
    let send = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); send(S, 'x', 0, sockaddr_in(9, INADDR_LOOPBACK));";
    let unit = format!("docker-{id}.scope");
    // The last one of this name goes some time after its process.
    let is_free = || machine.property(&unit, "LoadState") == "not-found";
    assert!(eventually(Duration::from_secs(60), is_free), "{unit} stays");
    machine.run("systemd-run", &["--scope", "--quiet", &format!("--unit={unit}"), "perl", "-e", send]);
    let report = machine.run("nettopd", &["--once", "--format", "json"]);
    *document = Some(serde_json::from_str(&report).unwrap());
    document.as_ref()?.rows.iter().find(|row| row.process.container.as_deref() == Some(id))
}

#[test]
fn names_of_containers_are_closed_to_it_until_a_drop_in_opens_them() {
    const ID: &str = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
    let machine = Machine::with_package();
    // As docker makes them.
    let line = format!(
        "rm -rf /var/lib/docker; cd /var/lib && mkdir -p -m 0710 docker docker/containers docker/containers/{ID} && umask 077 && \
         echo '{{\"Name\":\"/web\"}}' > docker/containers/{ID}/config.v2.json"
    );
    machine.run("sh", &["-c", &line]);
    let mut document = None;
    let mut name = || Some(of_container(&machine, ID, &mut document)?.process.names.container_name.clone());
    assert!(eventually(Duration::from_secs(60), || name() == Some(None)), "the container is not seen");
    let is_closed =
        || machine.run("nettopd", &["status"]).contains("names    of containers in /var/lib/docker may not");
    assert!(eventually(Duration::from_secs(60), is_closed), "status does not say that it is closed");
    let checked = String::from_utf8(machine.try_run("nettopd", &["check"]).stdout).unwrap();
    assert!(checked.contains("/var/lib/docker: the daemon may not read them: privileged-containers.conf"), "{checked}");

    let drop_ins = machine.path("/run/systemd/system/nettopd.service.d");
    fs::create_dir_all(&drop_ins).unwrap();
    fs::write(drop_ins.join("containers.conf"), include_str!("../../../packaging/privileged-containers.conf")).unwrap();
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["restart", "nettopd"]);
    assert!(
        eventually(Duration::from_secs(60), || name() == Some(Some("web".into()))),
        "{:?}",
        document.map(|d| d.rows)
    );
    assert!(!machine.run("nettopd", &["status"]).contains("may not be read"));
}

#[test]
fn it_starts_on_boot() {
    let recorded = format!("lo|65534|{TALKED}|{TALKED}");
    let machine = Machine::booted_again(|machine| {
        talk(machine);
        assert!(eventually(Duration::from_secs(30), || talked(machine) == recorded), "{}", talked(machine));
    });
    assert_eq!(machine.property("nettopd", "ActiveState"), "active");
    let sessions = || sql(&machine, "select count(*) from session");
    assert!(eventually(Duration::from_secs(10), || sessions() == "2"), "it does not record");
    assert_eq!(talked(&machine), recorded);
    // Namespaces share a kernel, which has booted once.
    if machine.is_virtual() {
        assert_eq!(sql(&machine, "select count(*) from boot"), "2");
        let result = machine.run_as("nobody", "nettopd", "nettopd", &["history", "--last-boot"]);
        let result = String::from_utf8(result.stdout).unwrap();
        assert!(result.lines().next().is_some_and(|line| line.ends_with("nettopd was stopped in order")), "{result}");
        assert!(result.contains(" talker"), "{result}");
    }
}

#[test]
fn reload_takes_a_configuration_over_as_a_whole_or_not_at_all() {
    let machine = Machine::with_package();
    let pid = machine.main_pid("nettopd");
    let file = machine.path("/etc/nettopd/conf.d/test.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "interval = 1\n").unwrap();
    machine.run("systemctl", &["reload", "nettopd"]);
    let logged = || machine.journal("nettopd").contains("interval = 1");
    assert!(eventually(Duration::from_secs(10), logged), "the change is not logged");

    fs::write(&file, "numeric = true\ninterval = \"soon\"\n").unwrap();
    assert!(!machine.try_run("systemctl", &["reload", "nettopd"]).status.success(), "a wrong configuration is taken");
    assert!(machine.journal("nettopd").contains("test.toml"), "the journal does not name the file");
    // The daemon refuses it also without the check that systemd runs first.
    machine.run("systemctl", &["kill", "--signal=HUP", "nettopd"]);
    let refused = || machine.journal("nettopd").contains("the configuration is not taken over");
    assert!(eventually(Duration::from_secs(10), refused), "the refusal is not logged");
    assert!(!machine.journal("nettopd").contains("numeric = true"), "a part of it was taken over");
    assert_eq!(machine.property("nettopd", "ActiveState"), "active");
    assert_eq!(machine.main_pid("nettopd"), pid, "it was started anew");

    // It does not start with it. Its exit code makes systemd leave it there.
    assert!(!machine.try_run("systemctl", &["restart", "nettopd"]).status.success());
    assert_eq!(machine.property("nettopd", "ExecMainStatus"), "78");
    assert_eq!(machine.property("nettopd", "ActiveState"), "failed");
}

#[test]
fn stop_leaves_nothing_attached() {
    let machine = Machine::with_package();
    let held = Held::of(&machine);
    assert!(held.programs.len() > 5 && held.links.len() > 5 && held.maps.len() > 5, "{held:?}");
    assert_eq!(held.loaded(), held);
    machine.run("systemctl", &["stop", "nettopd"]);
    // Programs are freed a moment after their last descriptor.
    let nothing = Held::default();
    assert!(eventually(Duration::from_secs(10), || held.loaded() == nothing), "left behind: {:?}", held.loaded());
    assert!(!machine.path("/run/nettopd").exists());
}

/// Started by hand before: systemd does not try again and again.
#[test]
fn beside_another_daemon_it_is_not_restarted() {
    let machine = Machine::with_package();
    machine.run("systemctl", &["stop", "nettopd"]);
    let other = ["--quiet", "--unit=other", "--property=RuntimeDirectory=nettopd", "nettopd", "daemon", "--no-history"];
    machine.run("systemd-run", &other);
    let answers = || machine.try_run("nettopd", &["status"]).status.success();
    assert!(eventually(Duration::from_secs(60), answers), "{}", machine.journal("other"));
    assert!(!machine.try_run("systemctl", &["start", "nettopd"]).status.success());
    assert_eq!(machine.property("nettopd", "ExecMainStatus"), "73");
    assert_eq!(machine.property("nettopd", "ActiveState"), "failed");
    assert_eq!(machine.property("nettopd", "NRestarts"), "0");
    machine.run("systemctl", &["stop", "other"]);
}

#[test]
fn a_hung_daemon_is_restarted_by_the_watchdog() {
    let machine = Machine::with_package_and_watchdog();
    assert_eq!(machine.property("nettopd", "WatchdogUSec"), "30s");
    // Two seconds are too short on an emulated machine: it stays as shipped.
    if !machine.is_virtual() {
        drop_in(&machine, "WatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=0");
        machine.run("systemctl", &["restart", "nettopd"]);
    }
    let pid = machine.main_pid("nettopd").unwrap();
    // It feeds the watchdog by itself, each time within its timeout.
    let fed = || machine.property("nettopd", "WatchdogTimestampMonotonic");
    for _ in 0..5 {
        let before = fed();
        assert!(eventually(Duration::from_secs(30), || fed() != before), "the watchdog is not fed");
    }
    assert_eq!(machine.main_pid("nettopd"), Some(pid), "the watchdog is not fed in time");
    machine.kill("STOP", pid);
    assert!(eventually(Duration::from_secs(60), || is_restarted(&machine, pid)), "it is left hanging");
    // Nobody else would end a process that is stopped.
    assert_eq!(machine.property("nettopd", "NRestarts"), "1");
}

#[test]
fn a_killed_daemon_is_restarted_with_its_counters() {
    let machine = Machine::with_package();
    talk(&machine);
    assert!(eventually(Duration::from_secs(20), || counted(&machine) == Some(TALKED)), "{:?}", counted(&machine));
    let pid = machine.main_pid("nettopd").unwrap();
    machine.kill("KILL", pid);
    // systemd waits for 5 s: the kernel counts while nobody is there.
    talk(&machine);
    assert_eq!(machine.property("nettopd", "ActiveState"), "activating", "it was back too soon to show anything");
    assert!(eventually(Duration::from_secs(20), || is_restarted(&machine, pid)), "it is not restarted");
    talk(&machine);
    assert!(eventually(Duration::from_secs(20), || counted(&machine) >= Some(3 * TALKED)), "{:?}", counted(&machine));
    assert_eq!(counted(&machine), Some(3 * TALKED));
}

#[test]
fn members_of_its_group_may_ask_and_others_may_not() {
    let machine = Machine::with_package();
    talk(&machine);
    assert!(eventually(Duration::from_secs(20), || counted(&machine) == Some(TALKED)), "{:?}", counted(&machine));
    let socket = fs::metadata(machine.path("/run/nettopd/nettopd.sock")).unwrap();
    assert_eq!(socket.mode() & 0o007, 0, "it is open to others: {:o}", socket.mode());
    for what in [&["--once"][..], &["status"]] {
        let refused = machine.run_as("nobody", "nogroup", "nettopd", what);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!((refused.status.code(), said.lines().count()), (Some(77), 1), "{what:?}: {said}");
        assert!(refused.stdout.is_empty());
    }
}

/// Whether another process is ready in the place of this one.
fn is_restarted(machine: &Machine, pid: u32) -> bool {
    machine.property("nettopd", "ActiveState") == "active" && machine.main_pid("nettopd").is_some_and(|now| now != pid)
}

/// Runs the talker in a unit of its own, to its end, and sends a packet to a closed port.
fn talk(machine: &Machine) {
    machine.run("systemd-run", &["--wait", "--quiet", "--property=User=nobody", "perl", "-e", TALKER]);
    let closed = "echo >/dev/udp/127.0.0.1/9";
    machine.run("systemd-run", &["--wait", "--quiet", "bash", "-c", closed]);
}

/// App bytes of the talkers' user each way, as a member of the group without capabilities sees them. `None` while nobody
/// answers, or where both ways differ.
fn counted(machine: &Machine) -> Option<u64> {
    let output = machine.run_as("nobody", "nettopd", "nettopd", &["--once"]);
    let document: Snapshot = serde_json::from_slice(&output.stdout).ok()?;
    let rows = document.rows.iter().filter(|row| row.uid == Some(65_534)).map(|row| row.total);
    let sum = rows.fold((0, 0), |sum, moved| (sum.0 + moved.tx.app_bytes, sum.1 + moved.rx.app_bytes));
    (sum.0 == sum.1).then_some(sum.0)
}

/// What the history has of the talker: device, user, app bytes sent and received.
fn talked(machine: &Machine) -> String {
    let of = "from talkers where comm = 'talker' group by device, uid";
    sql(machine, &format!("select device, uid, sum(tx_app_bytes), sum(rx_app_bytes) {of}"))
}

fn sql(machine: &Machine, query: &str) -> String {
    machine.run("sqlite3", &["-readonly", HISTORY, query]).trim().to_owned()
}

/// Changes the unit as an administrator would.
fn drop_in(machine: &Machine, lines: &str) {
    let folder = machine.path("/run/systemd/system/nettopd.service.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("test.conf"), format!("[Service]\n{lines}\n")).unwrap();
    machine.run("systemctl", &["daemon-reload"]);
}

/// Numbers of what the kernel keeps for the daemon.
#[derive(Default, Debug, PartialEq, Eq)]
struct Held {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Held {
    /// What its descriptors stand for, without programs that others load at the same time.
    fn of(machine: &Machine) -> Self {
        let pid = machine.main_pid("nettopd").unwrap();
        let mut held = Self::default();
        for descriptor in fs::read_dir(machine.path(&format!("/proc/{pid}/fdinfo"))).unwrap() {
            let info = fs::read_to_string(descriptor.unwrap().path()).unwrap_or_default();
            let number = |name: &str| {
                let value = info.lines().find_map(|line| line.strip_prefix(name));
                value.map(|value| value.trim().parse::<u32>().unwrap())
            };
            held.programs.extend(number("prog_id:"));
            held.links.extend(number("link_id:"));
            held.maps.extend(number("map_id:"));
        }
        held
    }

    /// Those that the kernel still has.
    fn loaded(&self) -> Self {
        let programs = aya::programs::loaded_programs().flatten().map(|program| program.id());
        let links = aya::programs::loaded_links().flatten().map(|link| link.id());
        let maps = aya::maps::loaded_maps().flatten().map(|map| map.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
        }
    }
}
