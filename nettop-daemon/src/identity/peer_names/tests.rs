//! What is learned from messages, whoever wrote them.

use std::net::{Ipv4Addr, Ipv6Addr};

use nettop_common::abi::IPPROTO_UDP;
use proptest::prelude::*;
use simple_dns::{
    CLASS, Label, Name as DnsName, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, HTTPS, RData, SVCB, TXT},
};

use super::*;

const ASKER: Process = Process { pid: 7, start_time_ns: 70 };
const OTHER: Process = Process { pid: 8, start_time_ns: 80 };

fn name(text: &'static str) -> DnsName<'static> {
    DnsName::new(text).unwrap()
}

fn record(of: &'static str, ttl: u32, data: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(name(of), CLASS::IN, ttl, data)
}

fn a(address: [u8; 4]) -> RData<'static> {
    RData::A(A { address: u32::from_be_bytes(address) })
}

fn aaaa(address: &str) -> RData<'static> {
    RData::AAAA(AAAA { address: address.parse::<Ipv6Addr>().unwrap().into() })
}

fn cname(to: &'static str) -> RData<'static> {
    RData::CNAME(CNAME(name(to)))
}

fn https(to: &'static str, v4: [u8; 4], v6: &str) -> RData<'static> {
    let mut svcb = SVCB::new(1, name(to));
    svcb.set_port(443);
    svcb.set_ipv4hint(&[u32::from_be_bytes(v4)]);
    svcb.set_ipv6hint(&[v6.parse::<Ipv6Addr>().unwrap().into()]);
    RData::HTTPS(HTTPS(svcb))
}

fn response(asked: DnsName<'static>, answers: Vec<ResourceRecord<'static>>) -> Packet<'static> {
    let mut packet = Packet::new_reply(1);
    packet.set_flags(PacketFlag::RESPONSE);
    packet.questions.push(Question::new(asked, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.answers = answers;
    packet
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    packet.build_bytes_vec_compressed().unwrap()
}

/// Name and addresses of a message.
fn read(packet: &Packet<'_>) -> Option<(String, Vec<String>)> {
    let message = Message::parse(&bytes(packet))?;
    Some((message.name, message.addresses.iter().map(|(address, _)| address.to_string()).collect()))
}

fn learn(names: &PeerNames, process: Process, message: &[u8], now: Instant) {
    let owner = OwnerKey { start_time_ns: process.start_time_ns, tgid: process.pid, uid: 1000 };
    let length = u32::try_from(message.len()).unwrap();
    let protocol = IPPROTO_UDP.into();
    let head = AnswerHead { owner, protocol, bytes: length, whole_bytes: length, ..AnswerHead::default() };
    names.learn_at(&Answer { head, payload: message }, now);
}

/// The name of an address, as it is shown.
fn known(names: &PeerNames, process: Process, address: impl Into<IpAddr>, now: Instant) -> Option<String> {
    names.name_at(process, address.into(), now).map(|name| name.to_string())
}

#[test]
fn all_addresses_that_a_question_leads_to_have_its_name() {
    let answers = vec![
        // In no order.
        record("edge.example.net", 60, a([10, 0, 0, 1])),
        record("WWW.example.org", 60, cname("alias.example.net")),
        record("alias.example.net", 60, cname("edge.EXAMPLE.net")),
        record("edge.example.net", 60, aaaa("fd00::1")),
        record("edge.example.net", 60, aaaa("::ffff:10.0.0.2")),
        record("unasked.example", 60, a([10, 0, 0, 66])),
        record("edge.example.net", 60, a([0, 0, 0, 0])),
    ];
    let www = Some(("www.example.org".into(), ["10.0.0.1", "fd00::1", "10.0.0.2"].map(Into::into).to_vec()));
    assert_eq!(read(&response(name("www.Example.org"), answers)), www);
    let mut service = response(
        name("_8443._https.www.example.org"),
        vec![record("_8443._https.www.example.org", 60, https("svc.example.net", [10, 0, 0, 3], "fd00::3"))],
    );
    service.additional_records =
        vec![record("svc.example.net", 60, a([10, 0, 0, 4])), record("other.example.net", 60, a([10, 0, 0, 66]))];
    let www = Some(("www.example.org".into(), ["10.0.0.3", "fd00::3", "10.0.0.4"].map(Into::into).to_vec()));
    assert_eq!(read(&service), www);
}

#[test]
fn an_alias_of_itself_ends() {
    let answers = vec![
        record("a.example", 60, cname("b.example")),
        record("b.example", 60, cname("a.example")),
        record("b.example", 60, a([10, 0, 0, 1])),
    ];
    assert_eq!(read(&response(name("a.example"), answers)), Some(("a.example".into(), vec!["10.0.0.1".into()])));
}

#[test]
fn hostile_names_are_escaped_once_and_cannot_lie() {
    let of = |labels: &[&'static [u8]]| {
        let labels: Vec<_> = labels.iter().map(|label| Label::new_unchecked(*label)).collect();
        read(&response(DnsName::new_with_labels(&labels), vec![])).map(|(name, _)| name)
    };
    assert_eq!(of(&[b"\x1b[2J\xff", b"x y:1~z", b"example"]).unwrap(), "\\x1b[2j\\xff.x\\x20y\\x3a1\\x7ez.example");
    assert_eq!(of(&[b"www.bank.example", b"evil"]).unwrap(), "www\\x2ebank\\x2eexample.evil");
    assert_eq!(of(&["a\u{202e}b".as_bytes(), b"example"]).unwrap(), "a\\xe2\\x80\\xaeb.example");
    assert_eq!(of(&[b"10", b"0", b"0", b"1"]), None, "an address is no name");
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[b"_dns", b"_tcp"]), None);
}

#[test]
fn only_a_response_without_an_error_to_one_question_is_read() {
    let good = response(name("a.example"), vec![record("a.example", 60, a([10, 0, 0, 1]))]);
    assert!(read(&good).is_some());
    let mut query = good.clone();
    query.remove_flags(PacketFlag::RESPONSE);
    let mut failed = good.clone();
    *failed.rcode_mut() = RCODE::NameError;
    let mut twice = good.clone();
    twice.questions.push(twice.questions[0].clone());
    let mut chaos = good.clone();
    chaos.questions[0].qclass = QCLASS::CLASS(CLASS::CH);
    for packet in [query, failed, twice, chaos] {
        assert_eq!(read(&packet), None, "{packet:?}");
    }
    let mut promising = bytes(&good);
    promising[10..12].copy_from_slice(&[0xff, 0xff]);
    assert!(!message::is_plausible(&promising));
    for end in 0..bytes(&good).len() {
        assert_eq!(Message::parse(&bytes(&good)[..end]), None, "{end}");
    }
}

#[test]
fn a_name_is_its_askers_and_anothers_with_a_mark() {
    let (names, now) = (PeerNames::default(), Instant::now());
    let address = Ipv4Addr::new(10, 0, 0, 1);
    let asked = |of: &'static str| bytes(&response(name(of), vec![record(of, 60, a(address.octets()))]));
    learn(&names, ASKER, &asked("one.example"), now);
    assert_eq!(known(&names, ASKER, address, now).as_deref(), Some("one.example"));
    assert_eq!(known(&names, OTHER, address, now).as_deref(), Some("~one.example"));
    learn(&names, OTHER, &asked("two.example"), now);
    assert_eq!(known(&names, ASKER, address, now).as_deref(), Some("one.example"));
    assert_eq!(known(&names, OTHER, address, now).as_deref(), Some("two.example"));
    assert_eq!(known(&names, ASKER, address.to_ipv6_mapped(), now).as_deref(), Some("one.example"));
    let again = Process { start_time_ns: 71, ..ASKER };
    assert_eq!(known(&names, again, address, now).as_deref(), Some("~two.example"), "a pid is no identity");
    assert_eq!(known(&names, ASKER, Ipv4Addr::new(10, 0, 0, 2), now), None);
    let loopback = bytes(&response(name("evil.example"), vec![record("evil.example", 60, a([127, 0, 0, 1]))]));
    learn(&names, ASKER, &loopback, now);
    assert_eq!(known(&names, ASKER, Ipv4Addr::LOCALHOST, now).as_deref(), Some("evil.example"));
    assert_eq!(known(&names, OTHER, Ipv4Addr::LOCALHOST, now), None);
    let kernel = Process { pid: 0, start_time_ns: 0 };
    learn(&names, kernel, &asked("three.example"), now);
    assert_eq!(known(&names, kernel, address, now).as_deref(), Some("~three.example"), "it is no process");
    assert_eq!(names.lost(), 0);
}

#[test]
fn a_name_is_forgotten_after_its_time_within_bounds() {
    let (names, now) = (PeerNames::default(), Instant::now());
    for (last, ttl) in [(1, 0), (2, 3600), (3, u32::MAX)] {
        let answers = vec![record("a.example", ttl, a([10, 0, 0, last]))];
        learn(&names, ASKER, &bytes(&response(name("a.example"), answers)), now);
    }
    let at = |seconds: u64| {
        let then = now + Duration::from_secs(seconds);
        [1, 2, 3].map(|last| known(&names, ASKER, Ipv4Addr::new(10, 0, 0, last), then).is_some())
    };
    assert_eq!(at(599), [true; 3]);
    assert_eq!(at(600), [false, true, true]);
    assert_eq!(at(3600), [false, false, true]);
    assert_eq!(at(86_399), [false, false, true]);
    assert_eq!(at(86_400), [false; 3]);
}

#[test]
fn names_are_bounded_in_number_and_bytes_and_what_goes_early_is_counted() {
    let (mut names, now) = (Names::<usize>::default(), Instant::now());
    let known = |length: usize| Known { name: "x".repeat(length).into(), until: now + MIN_LIFETIME };
    let lost: u64 = (0..MAX_NAMES + 10).map(|number| names.put(number, known(3), now)).sum();
    assert_eq!((names.names.len(), names.bytes, lost), (MAX_NAMES, 3 * MAX_NAMES, 10));
    assert!(names.get(&9, now).is_none() && names.get(&10, now).is_some(), "the oldest went");
    assert_eq!(names.put(10, known(1000), now), 0, "it was there");
    let lost = names.put(0, known(MAX_NAME_BYTES - 3000), now);
    assert!(names.bytes <= MAX_NAME_BYTES && lost > 0, "{lost}");
    assert!(names.get(&10, now).is_some(), "it was noted again");
    let later = now + MIN_LIFETIME;
    assert_eq!(names.put(1, known(MAX_NAME_BYTES), later), 0, "those had had their time");
    assert_eq!((names.names.len(), names.bytes), (1, MAX_NAME_BYTES));
}

#[test]
fn what_is_cut_is_counted() {
    let names = PeerNames::default();
    let head = AnswerHead { bytes: 4, whole_bytes: 5, ..AnswerHead::default() };
    names.learn(&Answer { head, payload: b"four" });
    names.learn(&Answer { head: AnswerHead { protocol: IPPROTO_TCP.into(), ..head }, payload: b"four" });
    assert_eq!(names.lost(), 2);
}

/// Messages of all kinds of records that the parser knows, to begin from.
fn valid() -> Vec<u8> {
    let mut packet = response(
        name("a.example"),
        vec![
            record("a.example", 60, cname("b.example")),
            record("b.example", 60, a([10, 0, 0, 1])),
            record("b.example", 60, aaaa("fd00::1")),
            record("a.example", 60, https("b.example", [10, 0, 0, 3], "fd00::3")),
            record("a.example", 60, RData::TXT(TXT::new().with_string("text").unwrap())),
        ],
    );
    packet.additional_records = vec![record("b.example", 60, a([10, 0, 0, 4]))];
    bytes(&packet)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// The parser checks overflows in this build.
    #[test]
    fn no_message_does_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        (kind, at) in (any::<u16>(), any::<prop::sample::Index>()),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut message = valid();
        for (at, byte) in &changes {
            let at = at.index(message.len());
            message[at] = *byte;
        }
        // Of one record the kind: those that the parser knows are below 70.
        let at = 12 + at.index(message.len() - 14);
        message[at..at + 2].copy_from_slice(&(kind % 70).to_be_bytes());
        harmless(&message);
        harmless(&message[..cut.index(message.len())]);
        message.truncate(cut.index(message.len()).max(12));
        message.extend(noise);
        harmless(&message);
    }

    #[test]
    fn no_bytes_do_harm(message in prop::collection::vec(any::<u8>(), 0..600)) {
        harmless(&message);
    }
}

fn harmless(message: &[u8]) {
    let names = PeerNames::default();
    learn(&names, ASKER, message, Instant::now());
    if let Some(read) = Message::parse(message) {
        assert!(read.name.len() <= 4 * 255 && read.addresses.len() <= 256);
        assert!(read.name.chars().all(|letter| !letter.is_control() && !" :~".contains(letter)), "{}", read.name);
    }
}
