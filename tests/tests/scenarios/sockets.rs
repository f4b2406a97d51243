//! `nettopd sockets` against ss and lsof in the same namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use nettop_tests::{Moved, Namespace, Process, nettopd_command, pairs::socket, set_name, skip};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{Backlog, SockaddrIn, SockaddrIn6, bind},
};
use serde_json::Value;

/// What `nettopd sockets` says, run inside.
fn sockets(namespace: &Namespace, args: &[&str]) -> Vec<Value> {
    let mut command = nettopd_command();
    command.args(["sockets", "--numeric", "--format", "json"]).args(args);
    let output = namespace.inside(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "nettop.sockets/1");
    let mut sockets = document["sockets"].as_array().unwrap().clone();
    sockets.retain(|socket| socket["netns"] == namespace.inode());
    sockets
}

/// Process and descriptor of each holder.
fn holders(socket: &Value) -> BTreeSet<(u64, u64)> {
    let holders = socket["holders"].as_array().unwrap().iter();
    holders.map(|holder| (holder["pid"].as_u64().unwrap(), holder["fd"].as_u64().unwrap())).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

/// What names a socket in both: protocol, state, queues and ends, with its holders.
type Line = (String, String, u64, u64, String, String);

type Lines = BTreeMap<Line, BTreeSet<(u64, u64)>>;

fn ours(sockets: &[Value]) -> Lines {
    let inet = sockets.iter().filter(|socket| matches!(text(socket, "protocol"), "tcp" | "udp"));
    inet.map(|socket| {
        let queue = |name: &str| socket[name].as_u64().unwrap();
        let line = (
            text(socket, "protocol").into(),
            text(socket, "state").into(),
            queue("receive_queue"),
            queue("send_queue"),
            text(socket, "local").into(),
            text(socket, "remote").into(),
        );
        (line, holders(socket))
    })
    .collect()
}

fn ss(namespace: &Namespace) -> Lines {
    let lines = namespace.run("ss", "-HtunapO");
    lines
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let state = match words[1] {
                "ESTAB" => "established".into(),
                "UNCONN" => "unconnected".into(),
                other => other.to_lowercase(),
            };
            let number = |prefix: &str, text: &str| -> Option<u64> {
                text.split(prefix).nth(1)?.split([',', ')']).next()?.parse().ok()
            };
            let users = words.get(6).copied().unwrap_or_default();
            let holders = users.split("),(").filter_map(|user| Some((number("pid=", user)?, number("fd=", user)?)));
            let queue = |word: &str| word.parse().unwrap();
            let line = (words[0].into(), state, queue(words[2]), queue(words[3]), words[4].into(), words[5].into());
            (line, holders.collect())
        })
        .collect()
}

/// Sockets of all kinds, some of them held by two, one by nobody.
fn crowd(namespace: &Namespace) -> Process {
    let crowd = Process::start(Some(namespace), |parent| {
        set_name(b"crowd");
        let listener = TcpListener::bind("127.0.0.1:4000").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:4000").unwrap();
        let (server, _) = listener.accept().unwrap();
        // Not taken by anybody.
        client.write_all(b"hello").unwrap();
        // Closed by both: what stays is nobody's.
        let mut gone = TcpStream::connect("127.0.0.1:4000").unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(gone.read(&mut [0]).unwrap(), 0);
        drop(gone);
        let unconnected = UdpSocket::bind("0.0.0.0:4001").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:4002").unwrap();
        connected.connect("127.0.0.1:4001").unwrap();
        connected.send(&[0; 100]).unwrap();
        let six = TcpListener::bind("[::1]:4003").unwrap();
        let both = UdpSocket::bind("[::]:4004").unwrap();
        let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        let packet = socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0800_u16.to_be()));
        // SAFETY: the process has one thread.
        let child = unsafe { nix::unistd::fork() }.unwrap();
        if let nix::unistd::ForkResult::Parent { child } = child {
            parent.tell_number(child.as_raw().cast_unsigned().into());
        }
        parent.wait_for_parent();
        drop((listener, server, client, unconnected, connected, six, both, raw, packet));
        Moved::default()
    });
    crowd.wait_until_ready();
    crowd
}

#[test]
fn every_line_of_ss_and_every_file_of_lsof_is_there() {
    let alone = Namespace::new();
    let crowd = crowd(&alone);
    let listed = sockets(&alone, &[]);
    let (ours, theirs) = (ours(&listed), ss(&alone));
    assert!(theirs.len() == 8, "{theirs:#?}");
    let only = |these: &Lines, those: &Lines| -> Lines {
        these
            .iter()
            .filter(|(line, holders)| those.get(*line) != Some(*holders))
            .map(|(l, h)| (l.clone(), h.clone()))
            .collect()
    };
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (Lines::new(), Lines::new()));
    assert!(theirs.keys().any(|line| line.1 == "time-wait") && theirs.values().any(|holders| holders.len() == 2));
    let pid = u64::from(crowd.pid());
    for protocol in ["raw", "packet"] {
        let found = listed.iter().find(|socket| socket["protocol"] == protocol).unwrap();
        assert!(holders(found).iter().any(|(holder, _)| *holder == pid), "{found:#}");
    }
    let mut lsof = Command::new("lsof");
    lsof.args(["-nP", "-i", "-Fpf"]).stderr(Stdio::null());
    let Ok(output) = alone.inside(lsof).output() else { return skip("no lsof") };
    let mut files = BTreeSet::new();
    let mut pid = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.split_at(1) {
            ("p", number) => pid = number.parse().unwrap(),
            ("f", fd) => drop(files.insert((pid, fd.parse().unwrap()))),
            _ => {}
        }
    }
    let all: BTreeSet<(u64, u64)> = listed.iter().flat_map(holders).collect();
    assert!(files.len() >= 14 && files.is_subset(&all), "{files:?} of {all:?}");
}

#[test]
fn what_is_asked_for_is_listed_and_nothing_else() {
    let alone = Namespace::new();
    let crowd = crowd(&alone);
    let pid = crowd.pid().to_string();
    let ports = |args: &[&str]| -> BTreeSet<u64> {
        sockets(&alone, args).iter().map(|socket| socket["local_port"].as_u64().unwrap_or(0)).collect()
    };
    assert_eq!(ports(&["-l", "-i", "tcp"]), [4000, 4003].into());
    assert_eq!(ports(&["-i", "udp:4001-4002"]), [4001, 4002].into());
    assert_eq!(ports(&["-i", "6"]), [4003, 4004].into());
    assert_eq!(ports(&["-i", "4udp@127.0.0.1:4001"]), [4002].into(), "its remote end");
    assert_eq!(ports(&["-p", &pid, "-i", ":4004"]), [4004].into());
    assert_eq!(ports(&["-c", "cro", "-i", "6tcp"]), [4003].into());
    assert!(ports(&["-c", "nobody-is-called-that"]).is_empty());
    let wrong = nettop_tests::run_nettopd(&["sockets", "-i", "xyz"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_program_in_disguise_is_warned_of() {
    let alone = Namespace::new();
    let folder = own_folder();
    let file = folder.join("harmless");
    std::fs::copy("/bin/sleep", &file).unwrap();
    let held = alone.enter(|| UdpSocket::bind("127.0.0.1:4000").unwrap());
    let mut command = Command::new(&file);
    command.arg("100").stdin(Stdio::from(OwnedFd::from(held.try_clone().unwrap())));
    let mut child = command.spawn().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let listed = sockets(&alone, &["-i", ":4000", "-p", &child.id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(listed.len(), 1, "{listed:#?}");
    let holder = listed[0]["holders"].as_array().unwrap().iter().find(|holder| holder["pid"] == child.id()).unwrap();
    let warnings: Vec<&str> = holder["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(warnings, ["deleted", "world_writable"], "{holder:#}");
    assert_eq!(holder["fd"], 0);
    assert!(held.as_raw_fd() > 0);
}

/// A folder of its own below one where everybody may write.
fn own_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("nettopd-sockets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn ports_that_the_portmapper_knows_carry_their_program() {
    let alone = Namespace::new();
    // Program 300123, version 1, at port 4000 of TCP.
    let portmapper = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:111").unwrap();
        let _program = TcpListener::bind("127.0.0.1:4000").unwrap();
        parent.tell();
        let mut stream = listener.accept().unwrap().0;
        let mut call = [0; 44];
        stream.read_exact(&mut call).unwrap();
        let words = [1_u32, 1, 0, 0, 0, 0, 1, 300_123, 1, 6, 4000, 0];
        let mark = 0x8000_0000 | u32::try_from(words.len() * 4).unwrap();
        let answer: Vec<u8> = std::iter::once(mark).chain(words).flat_map(u32::to_be_bytes).collect();
        stream.write_all(&answer).unwrap();
        parent.wait_for_parent();
        Moved::default()
    });
    portmapper.wait_until_ready();
    let listed = sockets(&alone, &["-l", "-i", "tcp:4000"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["rpc_program"], "300123", "{:#}", listed[0]);
    portmapper.go();
    portmapper.finish();
}

#[test]
fn the_table_and_csv_say_the_same_and_names_do_no_harm() {
    let alone = Namespace::new();
    let hostile = Process::start(Some(&alone), |parent| {
        set_name(b"\x1b[2J,=\n");
        let _socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        parent.tell();
        parent.wait_for_parent();
        Moved::default()
    });
    hostile.wait_until_ready();
    let netns = alone.inode();
    let run = |format: &str| {
        let output = nettop_tests::run_nettopd(&["sockets", "-n", "-i", "udp:4000", "--format", format]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let table = run("table");
    assert!(table.starts_with("PROTO STATE "), "{table}");
    let line = table.lines().find(|line| line.contains(&netns.to_string())).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let shown = format!("\\x1b[2J,=\\x0a({})", hostile.pid());
    let expected = ["udp", "unconnected", "0", "0", "127.0.0.1:4000", "0.0.0.0:*", &netns.to_string(), "0", &shown];
    assert_eq!(words, expected);
    let csv = run("csv");
    let line = csv.lines().find(|line| line.contains(&netns.to_string())).unwrap();
    assert!(line.contains(&format!(",{},\"\\x1b[2J,=\\x0a\",", hostile.pid())), "{line}");
    assert_eq!(run("ndjson").lines().count(), 1);
}

/// What is to be listed of a socket: protocol, IP version, state, ends.
type Expected = (&'static str, Option<u8>, &'static str, &'static str, &'static str);

/// Has a process open sockets, and holds what is listed of each against what was opened; and against the kernel's own tables
/// below /proc/net, each with the column of its inode numbers, where they have to be the same sockets.
fn compare(open: impl FnOnce() -> Vec<OwnedFd>, expected: &[Expected], tables: &[(&str, usize)]) {
    let alone = Namespace::new();
    // Everybody may ping.
    alone.write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    let holder = Process::start(Some(&alone), |parent| {
        let sockets = open();
        for socket in &sockets {
            parent.tell_number(nix::sys::stat::fstat(socket).unwrap().st_ino);
        }
        parent.wait_for_parent();
        Moved::default()
    });
    let inodes: Vec<u64> = expected.iter().map(|_| holder.wait_until_ready()).collect();
    let listed = sockets(&alone, &[]);
    for (inode, (protocol, version, state, local, remote)) in inodes.iter().zip(expected) {
        let found: Vec<&Value> = listed.iter().filter(|socket| socket["inode"] == *inode).collect();
        assert_eq!(found.len(), 1, "{protocol}: {listed:#?}");
        let is = ["protocol", "state", "local", "remote"].map(|name| text(found[0], name));
        assert_eq!(is, [*protocol, *state, *local, *remote], "{:#}", found[0]);
        assert_eq!(found[0]["ip_version"].as_u64(), version.map(u64::from), "{:#}", found[0]);
        let pids: Vec<u64> = holders(found[0]).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(pids, [u64::from(holder.pid())]);
    }
    let protocols: BTreeSet<&str> = expected.iter().map(|socket| socket.0).collect();
    let ours: BTreeSet<u64> = listed
        .iter()
        .filter(|socket| protocols.contains(text(socket, "protocol")))
        .filter_map(|socket| socket["inode"].as_u64())
        .collect();
    let theirs: BTreeSet<u64> = tables.iter().flat_map(|(table, column)| in_table(&alone, table, *column)).collect();
    assert!(tables.is_empty() || ours == theirs, "{ours:?} {theirs:?}");
}

/// Inode numbers of a table below /proc/net.
fn in_table(namespace: &Namespace, table: &str, column: usize) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", namespace.pid())).unwrap();
    let lines = text.lines().skip(1);
    lines.map(|line| line.split_whitespace().nth(column).unwrap().parse().unwrap()).collect()
}

/// A socket bound to a port of loopback, of either version.
fn bound(family: i32, kind: i32, protocol: i32, port: u16) -> OwnedFd {
    let socket = socket(family, kind, protocol);
    if family == libc::AF_INET {
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    } else {
        let address = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
        bind(socket.as_raw_fd(), &SockaddrIn6::from(address)).unwrap();
    }
    socket
}

/// Whether sockets of a protocol can be had.
fn has_protocol(kind: i32, protocol: i32) -> bool {
    // SAFETY: a plain system call; the descriptor is closed at once.
    let fd = unsafe { libc::socket(libc::AF_INET, kind, protocol) };
    if fd >= 0 {
        // SAFETY: the descriptor is ours.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    fd >= 0
}

#[test]
fn raw_ping_and_packet_sockets_are_those_of_proc() {
    const OTHER: i32 = 200;
    let open = || {
        let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        nix::sys::socket::connect(raw.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        vec![
            raw,
            socket(libc::AF_INET6, libc::SOCK_RAW, OTHER),
            bound(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP, 77),
            bound(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6, 78),
            socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0800_u16.to_be())),
            socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        ]
    };
    let expected = [
        ("raw", Some(4), "established", "127.0.0.1", "127.0.0.1"),
        ("raw", Some(6), "unconnected", "*", "*"),
        ("icmp", Some(4), "unconnected", "127.0.0.1", "0.0.0.0"),
        ("icmp6", Some(6), "unconnected", "::1", "::"),
        ("packet", None, "unconnected", "*", "*"),
        ("packet", None, "unconnected", "*", "*"),
    ];
    compare(open, &expected, &[("raw", 9), ("raw6", 9), ("icmp", 9), ("icmp6", 9), ("packet", 8)]);
}

#[test]
fn sockets_of_udp_lite_are_those_of_proc() {
    const UDPLITE: i32 = 136;
    if !has_protocol(libc::SOCK_DGRAM, UDPLITE) {
        return skip("no UDP-Lite");
    }
    let open = || {
        let connected = bound(libc::AF_INET, libc::SOCK_DGRAM, UDPLITE, 4000);
        nix::sys::socket::connect(connected.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 4001)).unwrap();
        vec![connected, bound(libc::AF_INET6, libc::SOCK_DGRAM, UDPLITE, 4002)]
    };
    let expected = [
        ("udplite", Some(4), "established", "127.0.0.1:4000", "127.0.0.1:4001"),
        ("udplite", Some(6), "unconnected", "[::1]:4002", "[::]:*"),
    ];
    compare(open, &expected, &[("udplite", 9), ("udplite6", 9)]);
}

/// A listener, who connects to it, and what it accepts.
fn connection(protocol: i32) -> Vec<OwnedFd> {
    let listener = bound(libc::AF_INET, libc::SOCK_STREAM, protocol, 5001);
    nix::sys::socket::listen(&listener, Backlog::new(5).unwrap()).unwrap();
    let client = bound(libc::AF_INET, libc::SOCK_STREAM, protocol, 5002);
    nix::sys::socket::connect(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5001)).unwrap();
    // SAFETY: a descriptor that is nobody else's.
    let server = unsafe { OwnedFd::from_raw_fd(nix::sys::socket::accept(listener.as_raw_fd()).unwrap()) };
    vec![listener, client, server]
}

fn connection_of(protocol: &'static str) -> [Expected; 3] {
    [
        (protocol, Some(4), "listen", "127.0.0.1:5001", "0.0.0.0:*"),
        (protocol, Some(4), "established", "127.0.0.1:5002", "127.0.0.1:5001"),
        (protocol, Some(4), "established", "127.0.0.1:5001", "127.0.0.1:5002"),
    ]
}

#[test]
fn sockets_of_sctp_are_those_of_proc() {
    const SCTP: i32 = 132;
    if !has_protocol(libc::SOCK_STREAM, SCTP) {
        return skip("no SCTP");
    }
    compare(|| connection(SCTP), &connection_of("sctp"), &[("sctp/eps", 7), ("sctp/assocs", 10)]);
}

#[test]
fn sockets_of_mptcp_are_listed_beside_their_subflows() {
    const MPTCP: i32 = 262;
    if !has_protocol(libc::SOCK_STREAM, MPTCP) {
        return skip("no MPTCP");
    }
    compare(|| connection(MPTCP), &connection_of("mptcp"), &[]);
}

#[test]
fn a_document_is_what_its_schema_says() {
    let alone = Namespace::new();
    let _crowd = crowd(&alone);
    let schema = include_str!("../../../docs/sockets.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    for args in [&["sockets", "--format", "json"][..], &["sockets", "0.1", "--format", "ndjson"]] {
        let mut document: Value = serde_json::from_slice(&nettop_tests::run_nettopd(args).stdout).unwrap();
        assert!(document["sockets"].as_array().unwrap().len() >= 8);
        let errors: Vec<String> = schema.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        document["sockets"][0]["holders"] = "many".into();
        assert!(!schema.is_valid(&document), "a schema that everything fits says nothing");
    }
}

/// nettopd inside, where /etc/hosts says something else.
fn with_hosts(namespace: &Namespace, hosts: &std::path::Path, args: &[&str]) -> String {
    let mut command = nettopd_command();
    command.arg("sockets").args(args);
    let hosts = hosts.to_owned();
    let mut command = namespace.inside(command);
    let own_view = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some(&hosts), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    };
    // SAFETY: plain system calls, and buffers on the stack.
    unsafe { command.pre_exec(own_view) };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn hosts_have_the_names_of_the_hosts_file_and_are_selected_by_them() {
    if std::env::var_os("NETTOP_VM").is_some() {
        // Something to mount over.
        std::fs::write("/etc/hosts", "").unwrap();
    }
    let alone = Namespace::new();
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&hosts, b"127.0.0.1 twin\n::1 twin\n127.0.0.3 evil\x1b[2J\n").unwrap();
    let holder = Process::start(Some(&alone), |parent| {
        let four = UdpSocket::bind("127.0.0.1:4000").unwrap();
        let six = UdpSocket::bind("[::1]:4000").unwrap();
        let evil = UdpSocket::bind("127.0.0.3:4000").unwrap();
        let none = UdpSocket::bind("127.0.0.4:4000").unwrap();
        parent.tell();
        parent.wait_for_parent();
        drop((four, six, evil, none));
        Moved::default()
    });
    holder.wait_until_ready();
    let locals = |args: &[&str]| -> Vec<(String, String)> {
        let args = [&["--format", "json"], args].concat();
        let document: Value = serde_json::from_str(&with_hosts(&alone, hosts.path(), &args)).unwrap();
        let mut all = document["sockets"].as_array().unwrap().clone();
        all.retain(|socket| socket["netns"] == alone.inode());
        all.iter().map(|socket| (text(socket, "local").into(), text(socket, "local_address").into())).collect()
    };
    let pair = |shown: &str, address: &str| (shown.to_owned(), address.to_owned());
    let twins = [pair("twin:4000", "127.0.0.1"), pair("twin:4000", "::1")];
    assert_eq!(locals(&["-i", "@twin"]), twins, "all of its addresses");
    let numbers = [pair("127.0.0.1:4000", "127.0.0.1"), pair("[::1]:4000", "::1")];
    assert_eq!(locals(&["-n", "-i", "@twin:4000"]), numbers);
    let evil = [pair("evil\\x1b[2J:4000", "127.0.0.3")];
    assert_eq!(locals(&["-i", "@127.0.0.3"]), evil);
    assert_eq!(locals(&["-i", "@127.0.0.4"]), [pair("127.0.0.4:4000", "127.0.0.4")]);
    // Nobody answers inside: the list comes all the same.
    assert_eq!(locals(&["--resolve", "-i", "@127.0.0.4"]), [pair("127.0.0.4:4000", "127.0.0.4")]);
}
