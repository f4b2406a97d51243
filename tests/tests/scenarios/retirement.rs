//! What ended leaves the documents: devices, their rows, processes with drops. No count falls, and nothing comes back.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nettop_model::{Snapshot, snapshot::DeviceReport};
use nettop_tests::{
    Moved, Namespace, Nettopd, Process, amount, app, assert_app, assert_app_bytes, device, join, netns_inode, rows_of,
    skip, veth_pair,
};
use nix::sched::{CloneFlags, setns};

const RETIREMENT_TIMEOUT: Duration = Duration::from_secs(150);

/// A program that is ended with the scenario.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn devices_of(document: &Snapshot, netns: u32) -> Vec<&DeviceReport> {
    document.devices.iter().filter(|device| device.netns == netns).collect()
}

/// A process that stays, and sends to a port where nobody listens.
fn sender(namespace: &Namespace) -> Process {
    let process = Process::start(Some(namespace), |parent| {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 100], "127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    process
}

#[test]
fn devices_of_an_unprivileged_user_leave_rows_for_everybody() {
    const PAIRS: usize = 350;
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let line = |k| format!("link add t{k} type veth peer name u{k}\nlink set t{k} up\nlink set u{k} up\n");
    let folder = tempfile::tempdir().unwrap();
    let batch = folder.path().join("batch");
    fs::write(&batch, (0..PAIRS).map(line).collect::<String>()).unwrap();
    for path in [folder.path(), &batch] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("unshare");
    let script = format!("ip -batch {} && exec sleep 600", batch.display());
    command.args(["-Urn", "sh", "-c", &script]).uid(65_534).gid(65_534).stdin(Stdio::null());
    let mut greedy = Ended(command.spawn().unwrap());
    let netns = format!("/proc/{}/ns/net", greedy.0.id());
    let own = netns_inode("/proc/self/ns/net");
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    // Each device announces itself on both IP layers, with a listener or without.
    let document = loop {
        if greedy.0.try_wait().unwrap().is_some() {
            return skip("no user namespaces for users");
        }
        let document = nettopd.settled();
        if document.loss.rows_full > 0 {
            break document;
        }
        assert!(Instant::now() < deadline, "the table is not filled");
    };
    let inode = netns_inode(netns);
    assert_ne!(inode, own);
    let held = document.rows.iter().filter(|row| row.netns == inode).count();
    // Four fifths of the 64 and of the 512 in reserve: fewer than there are devices.
    assert!(held <= 64 * 4 / 5 + 512 * 4 / 5 + 2, "{held} rows");
    let other = Namespace::new();
    let sender = sender(&other);
    let document = nettopd.settled();
    assert_app_bytes(&document, app(&document, sender.pid()).sent, 100);
    assert_eq!(device(&nettopd.settled(), other.inode(), "lo").tx.unattributed_bytes, 0);
}

#[test]
fn devices_that_are_deleted_leave_with_their_rows() {
    let (a, b) = (Namespace::new(), Namespace::new());
    // The machine's own namespace is `a`: its rows count with the crowd's and are more than is free. So gone and quiet rows
    // leave at once.
    let nettopd = a.enter(|| Nettopd::start(&["--rows", "64"]));
    let _crowd: Vec<Process> = (0..40).map(|_| sender(&b)).collect();
    join(&a, &b);
    let process = Process::start(Some(&a), |parent| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..10 {
            socket.send_to(&[0; 100], "10.0.0.2:9").unwrap();
        }
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    process.wait_until_ready();
    let before = nettopd.settled();
    let sent = device(&before, a.inode(), "v0").tx.bytes;
    assert!(rows_of(&before, process.pid()).iter().any(|row| row.device.as_deref() == Some("v0")));
    let on_v0 = |document: &Snapshot| {
        let rows = document.rows.iter().filter(|row| row.netns == a.inode());
        rows.filter(|row| row.device.as_deref() != Some("lo")).count()
    };
    a.ip("link del v0");
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    let after = loop {
        let document = nettopd.settled();
        let has_v0 = devices_of(&document, a.inode()).iter().any(|device| device.device == "v0");
        if !has_v0 && on_v0(&document) == 0 {
            break document;
        }
        assert!(Instant::now() < deadline, "v0 is listed: {has_v0}; rows on it: {}", on_v0(&document));
    };
    assert!(after.gone_devices.tx.bytes >= sent);
    assert!(after.exited.tx.bytes >= 10 * 128);
}

#[test]
fn the_last_interval_of_a_device_that_is_deleted_under_traffic_is_its_rows() {
    let nettopd = Nettopd::start(&[]);
    let (a, _b) = veth_pair();
    let sender = Process::start(Some(&a), |parent| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        parent.signal_ready();
        let mut sent = 0;
        // Until the device's route is gone.
        while socket.send_to(&[0; 1000], "10.0.0.2:9").is_ok() {
            sent += 1000;
        }
        Moved { sent, received: 0 }
    });
    sender.wait_until_ready();
    assert!(device(&nettopd.settled(), a.inode(), "v0").tx.attributed_bytes > 0);
    a.ip("link del v0");
    let pid = sender.pid();
    let moved = sender.finish();
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    let after = loop {
        let document = nettopd.settled();
        if devices_of(&document, a.inode()).iter().all(|device| device.device != "v0") {
            break document;
        }
        assert!(Instant::now() < deadline, "v0 is listed");
    };
    assert_app(&after, pid, moved);
    let gone = after.gone_devices.tx;
    // Until it is down, it drops what it gets without its peer (`veth_dellink`, `veth_xmit`), and sending succeeds.
    let dropped = after.drops.iter().filter(|drop| drop.pid == Some(pid));
    let dropped_bytes: u64 = dropped.filter_map(|drop| drop.total.bytes).sum();
    assert!(gone.attributed_bytes + dropped_bytes >= moved.sent, "{gone:#?} {dropped_bytes} B dropped");
    assert_eq!((gone.pending_bytes, gone.undecided_bytes), (0, 0), "{gone:#?}");
    // What it counted after its rows were read and before its counters were counts twice: milliseconds, and in an emulated
    // machine a tenth of a second, of some seconds.
    assert!(gone.unattributed_bytes < gone.bytes / amount(50, 10), "{gone:#?}");
}

#[test]
fn a_device_that_comes_back_does_not_bring_what_it_moved_elsewhere() {
    let (a, b, x) = (Namespace::new(), Namespace::new(), Namespace::new());
    for namespace in [&a, &b, &x] {
        namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    }
    a.ip(&format!("link add v0 type veth peer name v1 netns {}", b.pid()));
    b.ip("link set v1 address 02:00:00:00:00:02 up");
    let nettopd = Nettopd::start(&[]);
    a.ip(&format!("link set v0 netns {}", x.pid()));
    x.ip("addr add 10.0.0.1/24 dev v0");
    x.ip("link set v0 up");
    x.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    x.wait_until_up("v0");
    Process::run(Some(&x), |_| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..100 {
            socket.send_to(&[0; 1000], "10.0.0.2:9").unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let balance = device(&document, x.inode(), "v0").tx;
    assert_eq!((balance.bytes, balance.unattributed_bytes), (104_200, 0));
    x.ip(&format!("link set v0 netns {}", a.pid()));
    let document = nettopd.settled();
    let balance = device(&document, a.inode(), "v0").tx;
    assert_eq!((balance.bytes, balance.unattributed_bytes), (0, 0));
    assert!(devices_of(&nettopd.settled(), x.inode()).iter().all(|device| device.device != "v0"));
}

#[test]
fn a_namespace_without_traffic_that_only_a_thread_is_in_has_its_devices() {
    let process = Process::start(None, |parent| {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            std::thread::park();
        });
        parent.signal_ready();
        parent.wait_for_parent();
        drop(thread);
        Moved::default()
    });
    process.wait_until_ready();
    let own = netns_inode("/proc/self/ns/net");
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    let inode = loop {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
        let inodes = tasks.map(|task| netns_inode(task.unwrap().path().join("ns/net")));
        if let Some(inode) = inodes.into_iter().find(|inode| *inode != own) {
            break inode;
        }
        assert!(Instant::now() < deadline, "the thread stays");
    };
    let nettopd = Nettopd::start(&[]);
    let document = nettopd.settled();
    let devices = devices_of(&document, inode);
    assert!(devices.iter().any(|device| device.device == "lo"), "{devices:?}");
}

#[test]
fn devices_of_a_namespace_that_is_found_late_do_not_bring_what_they_moved_before() {
    let send = |datagrams: u64| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..datagrams {
            socket.send_to(&[0; 1000], "10.0.0.2:9").unwrap();
        }
    };
    let namespace = Namespace::new();
    namespace.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    namespace.ip("link add d0 type veth peer name d1");
    namespace.ip("link set d1 up");
    namespace.ip("addr add 10.0.0.1/24 dev d0");
    namespace.ip("link set d0 up");
    namespace.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev d0 nud permanent");
    namespace.enter(|| send(1000));
    // A descriptor alone is no way into it.
    let (inode, descriptor) = (namespace.inode(), namespace.file());
    drop(namespace);
    let nettopd = Nettopd::start(&["--drops"]);
    assert_eq!(devices_of(&nettopd.settled(), inode).len(), 0);
    let visitor = Process::start(None, |parent| {
        setns(&descriptor, CloneFlags::CLONE_NEWNET).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        send(10);
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    visitor.wait_until_ready();
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    while devices_of(&nettopd.settled(), inode).is_empty() {
        assert!(Instant::now() < deadline, "it is not found");
    }
    assert_eq!(device(&nettopd.settled(), inode, "d0").tx.bytes, 0);
    visitor.go();
    visitor.wait_until_ready();
    let sent = device(&nettopd.settled(), inode, "d0").tx;
    assert_eq!((sent.bytes, sent.attributed_bytes, sent.unattributed_bytes), (10_420, 10_280, 0));
}

#[test]
fn totals_of_a_process_with_drops_do_not_fall_when_it_leaves() {
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let namespace = Namespace::new();
    let _crowd: Vec<Process> = (0..36).map(|_| sender(&namespace)).collect();
    let lossy = Process::start(Some(&namespace), |parent| {
        let socket = UdpSocket::bind("127.0.0.1:7001").unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &4096).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        socket.recv(&mut [0; 2000]).unwrap();
        Moved::default()
    });
    lossy.wait_until_ready();
    namespace.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            socket.send_to(&[0; 1000], "127.0.0.1:7001").unwrap();
        }
    });
    let pid = lossy.pid();
    let document = nettopd.settled();
    let drops = &document.drops;
    assert!(rows_of(&document, pid)[0].drops.total > 0, "{:#?} {drops:#?}", rows_of(&document, pid));
    lossy.go();
    lossy.finish();
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    let mut before: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    let mut absent = 0;
    // Twice: a row that was given back must not be made again.
    while absent < 2 {
        assert!(Instant::now() < deadline, "the row of a process that ended stays");
        let document = nettopd.settled();
        let rows = rows_of(&document, pid);
        assert!(absent == 0 || rows.is_empty(), "it is back: {rows:#?}");
        absent += usize::from(rows.is_empty());
        for row in rows {
            let total = row.total.rx.bytes;
            let last = before.insert(row.ifindex, total).unwrap_or(0);
            assert!(total >= last, "{last}, then {total}");
        }
    }
}

#[test]
fn a_namespace_that_may_not_be_entered_is_seen_to_end() {
    // As the packaged unit runs.
    let mut confined = nettop_tests::without_daemon(Command::new("setpriv"));
    confined.arg("--bounding-set=-sys_admin").arg(nettop_tests::nettopd_command().get_program());
    let nettopd = Nettopd::start_by(confined, &["--rows", "64"]);
    let rows_in = |inode: u32, document: &Snapshot| document.rows.iter().filter(|row| row.netns == inode).count();
    let (ending, staying) = (Namespace::new(), Namespace::new());
    let [ending_inode, staying_inode] = [&ending, &staying].map(Namespace::inode);
    let (_sender, crowd) = (sender(&staying), Vec::from_iter((0..40).map(|_| sender(&ending))));
    let document = nettopd.settled();
    assert!(document.loss.namespaces_unread >= 2, "{:?}", document.loss);
    assert!(rows_in(ending_inode, &document) > 40);
    let sent = 40 * 128;
    drop(crowd);
    drop(ending);
    let deadline = Instant::now() + RETIREMENT_TIMEOUT;
    let document = loop {
        let document = nettopd.settled();
        if rows_in(ending_inode, &document) == 0 {
            break document;
        }
        assert!(Instant::now() < deadline, "{} rows stay", rows_in(ending_inode, &document));
    };
    assert!(document.exited.tx.bytes >= sent, "{:?}", document.exited);
    assert!(rows_in(staying_inode, &document) >= 2);
}
