//! `nettopd sockets` against ss and lsof in the same namespace.

mod protocols;

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

use nettop_model::sockets::{Document, ProgramWarning, SocketReport};
use nettop_tests::{Moved, Namespace, Process, is_emulated, nettopd_command, pairs::socket, set_name, skip};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{Backlog, SockaddrIn, SockaddrIn6, bind},
};
use serde_json::Value;

use crate::schemas::assert_fits;

/// Lists by `nettopd sockets`, run inside.
fn sockets(namespace: &Namespace, args: &[&str]) -> Vec<SocketReport> {
    let mut command = nettopd_command();
    command.args(["sockets", "--numeric", "--format", "json"]).args(args);
    let output = namespace.inside(command).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Document { schema, mut sockets, .. } = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema, "nettop.sockets/1");
    sockets.retain(|socket| socket.netns == namespace.inode());
    sockets
}

/// Process and descriptor of each holder.
fn holders(socket: &SocketReport) -> BTreeSet<(u32, u32)> {
    socket.holders.iter().map(|holder| (holder.pid, holder.fd)).collect()
}

/// What names a socket in both: protocol, state, queues and ends, with its holders.
type Line = (String, String, u32, u32, String, String);

type Lines = BTreeMap<Line, BTreeSet<(u32, u32)>>;

fn ours(sockets: &[SocketReport]) -> Lines {
    let inet = sockets.iter().filter(|socket| matches!(socket.protocol.as_str(), "tcp" | "udp"));
    inet.map(|socket| {
        let line = (
            socket.protocol.clone(),
            socket.state.to_string(),
            socket.receive_queue.unwrap(),
            socket.send_queue.unwrap(),
            socket.local.clone(),
            socket.remote.clone(),
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
            let number = |prefix: &str, text: &str| -> Option<u32> {
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
        // Never read.
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
            parent.send_number(child.as_raw().cast_unsigned().into());
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
    let pid = crowd.pid();
    for protocol in ["raw", "packet"] {
        let found = listed.iter().find(|socket| socket.protocol == protocol).unwrap();
        assert!(holders(found).iter().any(|(holder, _)| *holder == pid), "{found:#?}");
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
    let all: BTreeSet<(u32, u32)> = listed.iter().flat_map(holders).collect();
    assert!(files.len() >= 14 && files.is_subset(&all), "{files:?} of {all:?}");
}

#[test]
fn what_is_asked_for_is_listed_and_nothing_else() {
    let alone = Namespace::new();
    let crowd = crowd(&alone);
    let pid = crowd.pid().to_string();
    let ports = |args: &[&str]| -> BTreeSet<u16> {
        sockets(&alone, args).iter().map(|socket| socket.local_port.unwrap_or(0)).collect()
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
fn a_masquerading_program_is_warned_of() {
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
    let holder = listed[0].holders.iter().find(|holder| holder.pid == child.id()).unwrap();
    assert_eq!(holder.warnings, [ProgramWarning::Deleted, ProgramWarning::WorldWritable], "{holder:#?}");
    assert_eq!(holder.fd, 0);
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
        parent.signal_ready();
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
    assert_eq!(listed[0].rpc_program.as_deref(), Some("300123"), "{:#?}", listed[0]);
    portmapper.go();
    portmapper.finish();
}

#[test]
fn the_table_and_csv_say_the_same_and_names_do_no_harm() {
    let alone = Namespace::new();
    let hostile = Process::start(Some(&alone), |parent| {
        set_name(b"\x1b[2J,=\n");
        let _socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
        parent.signal_ready();
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

#[test]
fn a_document_is_what_its_schema_says() {
    let alone = Namespace::new();
    let _crowd = crowd(&alone);
    for args in [&["sockets", "--format", "json"][..], &["sockets", "0.1", "--format", "ndjson"]] {
        let document: Value = serde_json::from_slice(&nettop_tests::run_nettopd(args).stdout).unwrap();
        assert!(document["sockets"].as_array().unwrap().len() >= 8);
        assert_fits(include_str!("../../../docs/sockets.schema.json"), document, "/sockets/0/holders");
    }
}

/// nettopd inside, with `hosts` as /etc/hosts.
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
    if is_emulated() {
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
        parent.signal_ready();
        parent.wait_for_parent();
        drop((four, six, evil, none));
        Moved::default()
    });
    holder.wait_until_ready();
    let locals = |args: &[&str]| -> Vec<(String, String)> {
        let args = [&["--format", "json"], args].concat();
        let document: Document = serde_json::from_str(&with_hosts(&alone, hosts.path(), &args)).unwrap();
        let all = document.sockets.into_iter().filter(|socket| socket.netns == alone.inode());
        all.map(|socket| (socket.local, socket.local_address.unwrap())).collect()
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
