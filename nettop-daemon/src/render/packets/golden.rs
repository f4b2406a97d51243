//! Each format of some packets with hostile names, compared with what is kept.

use std::sync::Arc;

use bytemuck::Zeroable as _;
use nettop_common::{Netns, OwnerKey, PacketEvent, packet::unowned, tag::attribution};
use nettop_model::{Login, ProcessNames, Session, snapshot::Parent};

use super::{record, text};
use crate::{
    golden::hold_output,
    identity::address::Address,
    render::csv::push_event_header,
    sys::{clock::fixed, escape::escape},
};

fn event(protocol: u8, comm: &[u8], ends: [(&str, u16); 2]) -> PacketEvent {
    let [(source, source_port), (destination, destination_port)] = ends;
    let address = |text: &str| Address(text.parse().unwrap()).into();
    let mut event = PacketEvent {
        time_ns: 61_000_000_000,
        owner: OwnerKey { start_time_ns: 5_000_000_000, tgid: 5_000_001, uid: 1000 },
        source: address(source),
        destination: address(destination),
        netns: Netns { inode: 4_026_531_833, cookie: 1 },
        ifindex: 2,
        bytes: 60,
        source_port,
        destination_port,
        segments: 1,
        protocol,
        family: source.contains(':').into(),
        attribution: attribution::USER as u8,
        ..PacketEvent::zeroed()
    };
    event.comm[..comm.len()].copy_from_slice(comm);
    event
}

fn events() -> [PacketEvent; 6] {
    let v4 = [("10.0.0.1", 80), ("10.0.0.66", 40_000)];
    let v6 = [("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65_535), ("2001:db8::1", 443)];
    let nobody = PacketEvent { owner: OwnerKey::zeroed(), comm: [0; 16], ..event(6, b"", v4) };
    [
        PacketEvent { tcp_flags: 0x02, ..event(6, b"\x1b[2J\x07,\"", v4) },
        PacketEvent { tcp_flags: 0x18, bytes: 65_226, segments: 45, direction: 1, ..event(6, b"=cmd()|' /C'!A0", v6) },
        PacketEvent { tcp_flags: 0x25, ..event(6, b"x\xe2\x80\xaeexe.txt", v4) },
        event(17, b"a\nb\tc\r\xff", v4),
        PacketEvent { tcp_flags: 0x14, attribution: unowned::KERNEL, ..nobody },
        PacketEvent { protocol: 1, source_port: 0, destination_port: 0, attribution: unowned::NOBODY, ..nobody },
    ]
}

/// As escaped already.
fn process() -> ProcessNames {
    let parent = |pid, comm: &str| Parent { pid, comm: comm.into(), ..Parent::default() };
    let session = Some(Session { pid: 7, start_time_ns: None, comm: None });
    ProcessNames {
        exe: Some("/usr/bin/python3.11".into()),
        script: Some(escape(b"=cmd() \x1b[2J\xff")),
        cgroup: Some("/system.slice/x.service".into()),
        unit: Some("x.service".into()),
        parents: [parent(8, &escape(b"a > b")), parent(1, "init")].into(),
        login: Arc::new(Login { login_uid: Some(1000), session }),
        arguments: Some([b"python3", &b"@x\ny"[..]].map(escape).into()),
        ..ProcessNames::default()
    }
}

#[test]
fn each_format_is_as_kept_and_hostile_names_do_no_harm() {
    let clock = fixed::clock();
    let device = escape(b"eth\x1b0");
    let mut shown = [const { String::new() }; 4];
    let [lines, documents, csv, extended] = &mut shown;
    text::header(lines);
    text::header(extended);
    push_event_header::<record::Columns<'_>>(csv);
    for event in events() {
        let process = record::is_of_process(&event).then(process).unwrap_or_default();
        text::line(lines, &event, &device, None, &clock);
        text::line(extended, &event, &device, Some(&process), &clock);
        record::line(documents, &event, device.clone(), process.clone(), &clock);
        record::csv_line(csv, &event, device.clone(), process, &clock);
    }
    for (file, text) in ["packets.txt", "packets.ndjson", "packets.csv", "extended.txt"].iter().zip(shown) {
        hold_output(&format!("golden/packets/{file}"), &text);
    }
}

#[test]
fn the_first_columns_are_those_of_tcpdumplike() {
    let mut line = String::new();
    text::line(&mut line, &events()[0], "eth0", None, &fixed::clock());
    assert!(line.starts_with("        10.0.0.1       10.0.0.66     80  40000  0  0  0  0  1  0  "), "{line}");
}
