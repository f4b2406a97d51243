//! What a filter is made of, and whether it holds.

use regex::Regex;

/// What a word may be asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Program,
    Unit,
    Container,
    User,
    Pid,
    Dev,
    Peer,
    Port,
    State,
    Reason,
}

/// Their names, as they are typed in front of a colon.
pub const FIELDS: [(&str, Field); 10] = [
    ("program", Field::Program),
    ("unit", Field::Unit),
    ("container", Field::Container),
    ("user", Field::User),
    ("pid", Field::Pid),
    ("dev", Field::Dev),
    ("peer", Field::Peer),
    ("port", Field::Port),
    ("state", Field::State),
    ("reason", Field::Reason),
];

/// What a number may be asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Tx,
    Rx,
    Both,
    Drops,
    Retransmits,
}

/// Their names, as they are typed in front of `>` or `<`.
pub const AMOUNTS: [(&str, Amount); 5] = [
    ("tx", Amount::Tx),
    ("rx", Amount::Rx),
    ("all", Amount::Both),
    ("drops", Amount::Drops),
    ("retr", Amount::Retransmits),
];

/// Numbers of a line: bytes each second, packets of the interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    pub tx: u64,
    pub rx: u64,
    pub drops: u64,
    pub retransmits: u64,
}

impl Numbers {
    const fn of(&self, amount: Amount) -> u64 {
        match amount {
            Amount::Tx => self.tx,
            Amount::Rx => self.rx,
            Amount::Both => self.tx.saturating_add(self.rx),
            Amount::Drops => self.drops,
            Amount::Retransmits => self.retransmits,
        }
    }
}

/// The texts of a row.
pub trait Subject {
    /// Hands out each text of a field, until one is wanted: then true.
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool;
}

#[derive(Clone, Debug)]
pub enum Node {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    /// Of one field, or of any.
    Text(Option<Field>, Pattern),
    /// More than so much, else less.
    Number(Amount, bool, u64),
}

#[derive(Clone, Debug)]
pub enum Pattern {
    /// In lower case.
    Part(String),
    Whole(String),
    Regex(Regex),
}

impl Pattern {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Part(part) => text.to_lowercase().contains(part.as_str()),
            Self::Whole(whole) => text == whole,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl Node {
    /// None: that depends on numbers that are not known.
    pub(super) fn holds(&self, subject: &dyn Subject, numbers: Option<&Numbers>) -> Option<bool> {
        match self {
            Self::Or(nodes) => decide(nodes, true, |node| node.holds(subject, numbers)),
            Self::And(nodes) => decide(nodes, false, |node| node.holds(subject, numbers)),
            Self::Not(node) => node.holds(subject, numbers).map(|holds| !holds),
            Self::Text(field, pattern) => {
                let mut is_wanted = |text: &str| pattern.is_in(text);
                Some(match field {
                    Some(field) => subject.any(*field, &mut is_wanted),
                    None => FIELDS.iter().any(|(_, field)| subject.any(*field, &mut is_wanted)),
                })
            }
            Self::Number(amount, is_more, limit) => numbers.map(|numbers| {
                let has = numbers.of(*amount);
                if *is_more { has > *limit } else { has < *limit }
            }),
        }
    }
}

/// One that is `deciding` decides; else one that is not known leaves it open.
fn decide(nodes: &[Node], deciding: bool, holds: impl Fn(&Node) -> Option<bool>) -> Option<bool> {
    let mut all = Some(!deciding);
    for node in nodes {
        match holds(node) {
            Some(holds) if holds == deciding => return Some(deciding),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}
