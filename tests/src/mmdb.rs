//! Writes small databases of networks, in MaxMind's form.

use std::net::IpAddr;

/// A value of the data section.
pub enum Value {
    Text(&'static str),
    Number(u32),
    Short(u16),
    Long(u64),
    Map(Vec<(&'static str, Self)>),
    Texts(Vec<&'static str>),
}

const TEXT: u8 = 2;
const SHORT: u8 = 5;
const NUMBER: u8 = 6;
const MAP: u8 = 7;
/// Their numbers, less 7, follow.
const EXTENDED_LONG: u8 = 9 - 7;
const EXTENDED_ARRAY: u8 = 11 - 7;
/// Between tree and data.
const SEPARATOR: [u8; 16] = [0; 16];
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

impl Value {
    fn encode(&self, to: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(TEXT, text.len(), to);
                to.extend_from_slice(text.as_bytes());
            }
            Self::Number(number) => {
                head(NUMBER, 4, to);
                to.extend_from_slice(&number.to_be_bytes());
            }
            Self::Short(number) => {
                head(SHORT, 2, to);
                to.extend_from_slice(&number.to_be_bytes());
            }
            Self::Long(number) => {
                to.extend_from_slice(&[8, EXTENDED_LONG]);
                to.extend_from_slice(&number.to_be_bytes());
            }
            Self::Map(entries) => {
                head(MAP, entries.len(), to);
                for (key, value) in entries {
                    Self::Text(key).encode(to);
                    value.encode(to);
                }
            }
            Self::Texts(texts) => {
                assert!(texts.len() < 29);
                to.extend_from_slice(&[u8::try_from(texts.len()).unwrap(), EXTENDED_ARRAY]);
                texts.iter().for_each(|text| Self::Text(text).encode(to));
            }
        }
    }
}

fn head(kind: u8, size: usize, to: &mut Vec<u8>) {
    match u8::try_from(size).unwrap() {
        small @ 0..29 => to.push(kind << 5 | small),
        large => to.extend_from_slice(&[kind << 5 | 29, large - 29]),
    }
}

/// A child of the tree: nothing, another node, or an entry by its place in the data.
#[derive(Clone, Copy)]
enum Child {
    None,
    Node(usize),
    Entry(usize),
}

/// A database of these networks, which do not overlap.
pub fn database(networks: &[(IpAddr, u8, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Child::None; 2]];
    let mut data = Vec::new();
    for (address, length, value) in networks {
        // Those of IPv4 lie in ::/96.
        let (bits, length) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(*v4)), length + 96),
            IpAddr::V6(v6) => (u128::from(*v6), *length),
        };
        let mut at = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[at][side] = Child::Entry(data.len());
            } else if let Child::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Child::None; 2]);
                let next = nodes.len() - 1;
                nodes[at][side] = Child::Node(next);
                at = next;
            }
        }
        value.encode(&mut data);
    }
    let mut file = Vec::new();
    for child in nodes.iter().flatten() {
        let number = match child {
            Child::None => nodes.len(),
            Child::Node(node) => *node,
            Child::Entry(at) => nodes.len() + SEPARATOR.len() + at,
        };
        file.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
    }
    file.extend_from_slice(&SEPARATOR);
    file.extend_from_slice(&data);
    file.extend_from_slice(MARKER);
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1)),
        ("database_type", Value::Text("Test-ASN")),
        ("description", Value::Map(Vec::new())),
        ("ip_version", Value::Short(6)),
        ("languages", Value::Texts(vec!["en"])),
        ("node_count", Value::Number(u32::try_from(nodes.len()).unwrap())),
        ("record_size", Value::Short(24)),
    ]);
    metadata.encode(&mut file);
    file
}
