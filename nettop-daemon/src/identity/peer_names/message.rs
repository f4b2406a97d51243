//! One message of a name server: the name that was asked for, and the addresses that it has.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, RCODE, ResourceRecord,
    rdata::{RData, SVCB, SVCParam},
};

use crate::sys::escape::escape;

/// Addresses that are taken from one message.
const MAX_ADDRESSES: usize = 256;
/// Aliases that are followed.
const MAX_ALIASES: usize = 32;
const HEADER_BYTES: usize = 12;
/// A question has a name of one byte at least, type and class; a record time, length and data as well.
const MIN_QUESTION_BYTES: usize = 5;
const MIN_RECORD_BYTES: usize = 11;
/// Numbers of parameters in SVCB records (RFC 9460).
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

/// What is known from a message.
#[derive(PartialEq, Eq, Debug)]
pub struct Message {
    /// Escaped.
    pub name: String,
    pub addresses: Vec<(IpAddr, Duration)>,
}

impl Message {
    /// Reads a response without an error to one question; None if it is anything else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if !is_plausible(bytes) {
            return None;
        }
        let packet = Packet::parse(bytes).ok()?;
        if !packet.has_flags(PacketFlag::RESPONSE) || packet.rcode() != RCODE::NoError {
            return None;
        }
        let [question] = packet.questions.as_slice() else { return None };
        if question.qclass != QCLASS::CLASS(CLASS::IN) {
            return None;
        }
        let name = shown(&question.qname)?;
        let records =
            || packet.answers.iter().chain(&packet.additional_records).filter(|record| record.class == CLASS::IN);
        let names = aliases(key(&question.qname), &records);
        let mut addresses = Vec::new();
        for record in records().filter(|record| names.contains(&key(&record.name))) {
            let lifetime = Duration::from_secs(record.ttl.into());
            let mut add = |address: IpAddr| {
                let address = address.to_canonical();
                if addresses.len() < MAX_ADDRESSES && !address.is_unspecified() && !address.is_multicast() {
                    addresses.push((address, lifetime));
                }
            };
            match &record.rdata {
                RData::A(a) => add(IpAddr::from(a.address.to_be_bytes())),
                RData::AAAA(aaaa) => add(IpAddr::from(aaaa.address.to_be_bytes())),
                RData::HTTPS(https) => hints(&https.0).for_each(add),
                RData::SVCB(svcb) => hints(svcb).for_each(add),
                _ => {}
            }
        }
        Some(Self { name, addresses })
    }
}

/// Whether the header does not promise more than there are bytes: the parser makes room for all that it promises.
pub(super) fn is_plausible(bytes: &[u8]) -> bool {
    let number = |at: usize| bytes.get(at..at + 2).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
    let records = number(6) + number(8) + number(10);
    bytes.len() >= HEADER_BYTES
        && number(4) == 1
        && HEADER_BYTES + MIN_QUESTION_BYTES + records * MIN_RECORD_BYTES <= bytes.len()
}

/// The name and all others that it leads to.
fn aliases<'a, R: Iterator<Item = &'a ResourceRecord<'a>>>(
    asked: Vec<u8>,
    records: &impl Fn() -> R,
) -> HashSet<Vec<u8>> {
    let mut names = HashSet::from([asked]);
    loop {
        let before = names.len();
        for record in records() {
            let target = match &record.rdata {
                RData::CNAME(cname) => &cname.0,
                RData::HTTPS(https) => &https.0.target,
                RData::SVCB(svcb) => &svcb.target,
                _ => continue,
            };
            // The root stands for the record's own name.
            if names.len() <= MAX_ALIASES && !target.get_labels().is_empty() && names.contains(&key(&record.name)) {
                names.insert(key(target));
            }
        }
        if names.len() == before {
            return names;
        }
    }
}

fn hints<'a>(svcb: &'a SVCB<'_>) -> impl Iterator<Item = IpAddr> + 'a {
    let of = |number| svcb.iter_params().filter(move |parameter| parameter.key_code() == number);
    let v4 = of(IPV4_HINT).filter_map(|parameter| match parameter {
        SVCParam::Ipv4Hint(addresses) => Some(addresses),
        _ => None,
    });
    let v6 = of(IPV6_HINT).filter_map(|parameter| match parameter {
        SVCParam::Ipv6Hint(addresses) => Some(addresses),
        _ => None,
    });
    let v4 = v4.flat_map(|addresses| addresses.iter()).map(|address| IpAddr::from(address.to_be_bytes()));
    v4.chain(v6.flat_map(|addresses| addresses.iter()).map(|address| IpAddr::from(address.to_be_bytes())))
}

/// A name for comparisons: case means nothing, and a dot in a label is none between them.
fn key(name: &Name<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    for label in name.as_bytes() {
        key.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        key.extend(label.to_ascii_lowercase());
    }
    key
}

/// A name fit to be shown, without the labels of services in front of it (`_8443._https`). One that reads as an address
/// would lie, as would one with a mark of its own.
fn shown(name: &Name<'_>) -> Option<String> {
    let mut labels: Vec<&[u8]> = name.as_bytes().collect();
    let services = labels.iter().take_while(|label| label.starts_with(b"_")).count();
    labels.drain(..services);
    let is_number = |label: &&[u8]| label.iter().all(u8::is_ascii_digit);
    if labels.last().is_none_or(is_number) {
        return None;
    }
    let label = |label: &&[u8]| {
        let escaped = escape(&label.to_ascii_lowercase());
        [('.', "\\x2e"), (' ', "\\x20"), (':', "\\x3a"), ('~', "\\x7e")]
            .iter()
            .fold(escaped, |text, (letter, escape)| text.replace(*letter, escape))
    };
    Some(labels.iter().map(label).collect::<Vec<_>>().join("."))
}
