//! Each format of one listing with hostile names, compared with what is kept in `golden/`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::IpAddr,
    path::Path,
};

use bytemuck::Zeroable as _;
use nettop_common::{
    Netns, SocketRecord, Wire,
    abi::{AF_INET, AF_PACKET},
    offsets::{UNKNOWN, UNKNOWN_64},
    ports,
};
use nettop_kernel::boot;

use super::*;
use crate::{
    golden::hold_output,
    identity::{
        devices::{Device, Devices},
        hosts::Hosts,
        processes::Processes,
    },
    measure::sockets::{
        document::{self, Namer},
        list::{Holder, LISTEN, Listing, Socket},
    },
    sys::escape::escape,
};

const HOST: Netns = Netns { inode: 4_026_531_833, cookie: 1 };
const ELSEWHERE: Netns = Netns { inode: 4_026_532_000, cookie: 9 };
const START_NS: u64 = 5_000_000_000;
/// What people have tried to be called: to clear the screen, to be a formula, to end the line, to reorder text.
const HOSTILE: [&[u8]; 4] = [b"\x1b[2J\x07,\"", b"=cmd()|' /C'!A0", b"a\nb\tc\r\xff", b"x\xe2\x80\xaeexe.txt"];

fn words(address: &str) -> ports::Address {
    let octets = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    bytemuck::cast(octets)
}

fn record(family: u16, kind: u16, protocol: u16, ends: [(&str, u16); 2]) -> SocketRecord {
    let [(local, local_port), (remote, remote_port)] = ends;
    let (local, remote) = (words(local), words(remote));
    let netns = HOST;
    SocketRecord { family, kind, protocol, netns, local, local_port, remote, remote_port, ..SocketRecord::zeroed() }
}

/// A process of the fixture; no machine gives those numbers.
fn holder(number: usize) -> Holder {
    let mut comm = [0; 16];
    let name = HOSTILE[number];
    comm[..name.len().min(15)].copy_from_slice(&name[..name.len().min(15)]);
    Holder { tgid: 5_000_001 + number as u32, start_time_ns: START_NS, fd: 3, comm }
}

/// A /proc of the first two processes.
fn write_proc(proc: &Path) {
    let ticks = boot::start_ticks(START_NS);
    for (number, exe) in ["/opt/a,b \"c\"\x1b[31m", "/usr/bin/=formula"].into_iter().enumerate() {
        let process = proc.join(holder(number).tgid.to_string());
        fs::create_dir_all(&process).unwrap();
        std::os::unix::fs::symlink(exe, process.join("exe")).unwrap();
        let rest = "0 ".repeat(30);
        let stat = format!("{} (x) S{} {ticks} {rest}\n", holder(number).tgid, " 0".repeat(18));
        fs::write(process.join("stat"), stat).unwrap();
        let unit = if number == 0 { "@evil\u{202e}.service" } else { "web.service" };
        fs::write(process.join("cgroup"), format!("0::/system.slice/{unit}\n")).unwrap();
    }
}

fn listing(watched_ms: Option<u64>) -> Listing {
    const INET6: u16 = 10;
    let [stream, datagram, raw] = [1, 2, 3];
    let listener = SocketRecord {
        state: LISTEN,
        receive_queue: 1,
        send_queue: 128,
        inode: 11,
        ..record(AF_INET, stream, 6, [("0.0.0.0", 80), ("0.0.0.0", 0)])
    };
    let wide = SocketRecord {
        state: 1,
        receive_queue: 5,
        send_queue: 1_234_567,
        uid: 1000,
        has_tcp: 1,
        rtt_us: 12_345,
        cwnd_segments: 10,
        retransmits: 3,
        acked_bytes: 1 << 40,
        received_bytes: 77,
        segments_sent: 9,
        segments_received: 8,
        data_segments_sent: 7,
        data_segments_received: 6,
        created_ns: 60_000_000_000,
        moved: [Wire { packets: 12, bytes: 3456 }, Wire { packets: 7, bytes: 890 }],
        ..record(
            INET6,
            stream,
            6,
            [("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65_535), ("2001:db8:1111:2222:3333:4444:5555:6666", 443)],
        )
    };
    let datagrams =
        SocketRecord { state: 7, ifindex: 2, is_v6_only: 1, ..record(INET6, datagram, 17, [("::", 53), ("::", 0)]) };
    let named = SocketRecord { state: 1, ..record(AF_INET, datagram, 17, [("10.0.0.1", 4000), ("10.0.0.66", 4001)]) };
    let elsewhere = SocketRecord { netns: ELSEWHERE, ..named };
    let ping = SocketRecord { state: 7, ..record(AF_INET, raw, 1, [("0.0.0.0", 1), ("0.0.0.0", 0)]) };
    let packet = SocketRecord { state: 7, ifindex: 2, ..record(AF_PACKET, raw, 0x0800, [("::", 0), ("::", 0)]) };
    let gone = SocketRecord { state: 6, ..record(AF_INET, stream, 6, [("10.0.0.1", 22), ("10.0.0.66", 4001)]) };
    let all = [
        (listener, vec![0, 1, 2, 3]),
        (wide, vec![1]),
        // By two descriptors.
        (datagrams, vec![2, 2]),
        (named, vec![3]),
        (elsewhere, vec![3]),
        (ping, vec![0]),
        (packet, vec![0]),
        (gone, vec![]),
    ];
    Listing {
        sockets: all
            .into_iter()
            .map(|(record, holders)| Socket { record, holders: holders.into_iter().map(holder).collect() })
            .collect(),
        namespaces_unread: 1,
        time_ns: 61_750_000_000,
        watched_ms,
        truncated: watched_ms.is_none(),
        packets_uncounted: watched_ms.map(|_| 2),
    }
}

fn document(watched_ms: Option<u64>) -> Document {
    document_of(&listing(watched_ms))
}

fn document_of(listing: &Listing) -> Document {
    let proc = tempfile::tempdir().unwrap();
    write_proc(proc.path());
    let name = escape(b"eth\x1b0");
    let device = Device { name, ..Device::default() };
    let devices = Devices::fixed(HOST, BTreeMap::from([((HOST, 2), device)]));
    let mut hosts = Hosts::from_file(b"10.0.0.66 evil\x1b[2J\xe2\x80\xae:22\n10.0.0.1 +plus\n");
    hosts.unanswered = 4;
    let mut namer = Namer {
        host: HOST,
        devices: &devices,
        users: None,
        services: HashMap::from([((6, 80), "http".into())]),
        hosts,
        proc: proc.path(),
        processes: Processes::new(proc.path()),
        programs: HashMap::from([((17, 53), escape(b"rpc\x07prog"))]),
        warnings: HashMap::new(),
    };
    let mut document = document::document(listing, &mut namer);
    document.version = "0".into();
    document.host = "host".into();
    document.boot_id = "00000000-0000-0000-0000-000000000000".into();
    document.kernel = "6.12.0".into();
    document.time = "2026-01-01T00:00:00Z".into();
    document
}

#[test]
fn each_format_is_as_kept_and_hostile_names_do_no_harm() {
    let terminal = Layout { width: Some(80), netns: HOST.inode, extended: false };
    let pipe = Layout { width: None, ..terminal };
    let extended = Layout { extended: true, ..pipe };
    for (file, format, watched_ms, layout) in [
        ("table.txt", SocketsFormat::Table, None, pipe),
        ("table-80.txt", SocketsFormat::Table, None, terminal),
        ("table-extended.txt", SocketsFormat::Table, None, extended),
        ("table-watched.txt", SocketsFormat::Table, Some(1500), pipe),
        ("document.json", SocketsFormat::Json, Some(1500), pipe),
        ("document.ndjson", SocketsFormat::Ndjson, None, pipe),
        ("sockets.csv", SocketsFormat::Csv, Some(1500), pipe),
    ] {
        let encoded = encode(&document(watched_ms), format, layout).unwrap();
        let text = String::from_utf8(encoded).unwrap();
        hold_output(&format!("golden/sockets/{file}"), &text);
    }
}

#[test]
fn what_the_kernel_does_not_have_is_null() {
    let connection = SocketRecord {
        receive_queue: UNKNOWN,
        send_queue: UNKNOWN,
        has_tcp: 1,
        rtt_us: UNKNOWN,
        cwnd_segments: UNKNOWN,
        retransmits: UNKNOWN,
        acked_bytes: UNKNOWN_64,
        received_bytes: UNKNOWN_64,
        segments_sent: UNKNOWN,
        segments_received: UNKNOWN,
        data_segments_sent: UNKNOWN,
        data_segments_received: UNKNOWN,
        ..record(AF_INET, 1, 6, [("10.0.0.1", 80), ("10.0.0.66", 4001)])
    };
    let sockets = vec![Socket { record: connection, holders: Vec::new() }];
    let document = serde_json::to_value(document_of(&Listing { sockets, ..listing(None) })).unwrap();
    let socket = &document["sockets"][0];
    assert!(socket["receive_queue"].is_null() && socket["send_queue"].is_null(), "{socket}");
    let tcp = socket["tcp"].as_object().unwrap();
    assert!(!tcp.is_empty() && tcp.values().all(serde_json::Value::is_null), "{socket}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let document = document(Some(1500));
    for width in [60, 80, 100, 200] {
        let text = table::table(&document, Layout { width: Some(width), netns: HOST.inode, extended: false });
        let notes = text.find("warning:").unwrap();
        for line in text[..notes].lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn every_csv_line_has_every_column_and_no_cell_is_a_formula() {
    let encoded =
        encode(&document(Some(1500)), SocketsFormat::Csv, Layout { width: None, netns: HOST.inode, extended: false });
    let encoded = encoded.unwrap();
    let mut reader = ::csv::Reader::from_reader(encoded.as_slice());
    let records: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // One for each holder, and one for what nobody holds.
    assert_eq!(records.len(), 12);
    for cell in records.iter().flatten() {
        assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
    }
}
