//! Each format of some connections with hostile names, compared with what is kept.

use bytemuck::Zeroable as _;
use nettop_common::{ConnectionEvent, Netns, OwnerKey, connection::kind, offsets::UNKNOWN};

use super::{GOES_ON, Names, record, text};
use crate::{
    golden::hold_output,
    identity::{address::Address, processes::Processes},
    render::csv::push_event_header,
    sys::clock::fixed,
};

const HOST: Netns = Netns { inode: 4_026_531_833, cookie: 1 };
const SECOND_NS: u64 = 1_000_000_000;

fn event(kind: u32, comm: &[u8], ends: [(&str, u16); 2]) -> ConnectionEvent {
    let [(local, local_port), (remote, remote_port)] = ends;
    let address = |text: &str| Address(text.parse().unwrap()).into();
    let mut event = ConnectionEvent {
        time_ns: 61 * SECOND_NS,
        begun_ns: 60 * SECOND_NS,
        owner: OwnerKey { start_time_ns: 5 * SECOND_NS, tgid: 5_000_001, uid: 1000 },
        netns: HOST,
        local: address(local),
        remote: address(remote),
        local_port,
        remote_port,
        family: if local.contains(':') { 10 } else { 2 },
        protocol: 6,
        kind,
        sent_segments: 9,
        ..ConnectionEvent::zeroed()
    };
    event.comm[..comm.len()].copy_from_slice(comm);
    event
}

fn events() -> Vec<(ConnectionEvent, [u64; 2])> {
    let v4 = [("10.0.0.1", 80), ("10.0.0.66", 40_000)];
    let v6 = [("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", 65_535), ("2001:db8::1", 443)];
    let closed =
        ConnectionEvent { sent_bytes: 1 << 40, received_bytes: 77, retransmits: 3, ..event(kind::CLOSED, b"web", v4) };
    let elsewhere = Netns { inode: 4_026_532_000, cookie: 9 };
    let udp = |event: ConnectionEvent| ConnectionEvent { protocol: 17, ..event };
    let tcp = [
        event(kind::ACCEPTED, b"\x1b[2J\x07,\"", v4),
        ConnectionEvent { netns: elsewhere, ..event(kind::OPENED, b"=cmd()|' /C'!A0", v6) },
        ConnectionEvent { old_state: 9, ..closed },
        ConnectionEvent { old_state: 1, begun_ns: 0, ..closed },
        ConnectionEvent { error: 104, ..closed },
        ConnectionEvent { owner: OwnerKey::zeroed(), comm: [0; 16], error: 110, ..closed },
        ConnectionEvent { error: 111, ..event(kind::FAILED, b"a\nb\tc\r\xff", v4) },
        ConnectionEvent { error: 113, ..event(kind::FAILED, b"x\xe2\x80\xaeexe.txt", v6) },
        ConnectionEvent { sent_segments: 0, ..event(kind::FAILED, b"port-hungry", v4) },
    ];
    let said = udp(ConnectionEvent { sent_bytes: 31, received_bytes: 62, ..event(kind::CLOSED, b"resolver", v4) });
    let tcp = tcp.into_iter().map(|event| (event, [0; 2]));
    tcp.chain([
        (udp(event(kind::SENT, b"resolver", v4)), [0; 2]),
        (said, [1, 2]),
        (ConnectionEvent { error: GOES_ON, ..said }, [1, 2]),
    ])
    .collect()
}

fn names() -> Names {
    Names { users: None, processes: Processes::new("/nonexistent"), host: HOST, devices: None, ancestry: false }
}

#[test]
fn what_the_kernel_does_not_have_is_null() {
    let mut documents = String::new();
    let closed = event(kind::CLOSED, b"web", [("10.0.0.1", 80), ("10.0.0.66", 40_000)]);
    for retransmits in [3, UNKNOWN] {
        record::line(&mut documents, &ConnectionEvent { retransmits, ..closed }, [0; 2], &fixed::clock(), &mut names());
    }
    let said: Vec<serde_json::Value> = documents.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&said[0]["retransmits"], &said[1]["retransmits"]), (&3.into(), &serde_json::Value::Null));
}

#[test]
fn each_format_is_as_kept_and_hostile_names_do_no_harm() {
    let (clock, mut names) = (fixed::clock(), names());
    let mut shown = [const { String::new() }; 4];
    let [lines, documents, csv, accepted] = &mut shown;
    text::header(lines, false);
    text::header(accepted, true);
    push_event_header::<record::Columns<'_>>(csv);
    for (event, packets) in events() {
        text::line(lines, &event, packets, &clock, &mut names);
        record::line(documents, &event, packets, &clock, &mut names);
        record::csv_line(csv, &event, packets, &clock, &mut names);
    }
    // As tcp_connections.stp prints: `%6d %16s %6d %6d %16s`.
    text::accepted(accepted, &events()[0].0, &mut names);
    for (file, text) in ["connections.txt", "connections.ndjson", "connections.csv", "accepted.txt"].iter().zip(shown) {
        hold_output(&format!("golden/connections/{file}"), &text);
    }
}
