//! What a device counts by observation, next to its driver's source.

use std::collections::BTreeSet;

use super::basis::{Basis, Known};

/// Why no observation shows what LRO merges.
pub const UNMARKED: &str = "LRO is on, and leaves no mark";

/// Every basis that explains what was observed; at least one. They agree on all traffic so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measured(Vec<Basis>);

impl Measured {
    /// None where nothing explains it.
    pub fn new(explaining: Vec<Basis>) -> Option<Self> {
        (!explaining.is_empty()).then_some(Self(explaining))
    }

    /// One of them.
    pub fn basis(&self) -> Basis {
        Basis { known: Known::Measured, ..self.0.first().copied().unwrap_or_default() }
    }

    /// For people: each that explains it, if they differ.
    pub fn words(&self) -> String {
        let each = |word: &dyn Fn(&Basis) -> String| {
            let words: BTreeSet<String> = self.0.iter().map(word).collect();
            Vec::from_iter(words).join(" or ")
        };
        let header = each(&|basis| format!("{:+} B", basis.link_header_bytes));
        format!("{}, {header} each", each(&|basis| basis.packets.word().into_owned()))
    }

    /// The device's basis: its source's if that explains what was observed, else what does.
    pub fn or_source(&self, source: Basis) -> Basis {
        if source.known == Known::Undecided(UNMARKED) {
            // What passed may have been none of it.
            source
        } else if !source.is_decided() {
            self.basis()
        } else if self.0.iter().any(|basis| basis.counts_as(&source)) {
            source
        } else {
            Basis { known: Known::Conflict, ..self.basis() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::basis::Counts, *};

    #[test]
    fn the_source_holds_unless_what_was_observed_contradicts_it() {
        let [once, segments] = [Counts::Once, Counts::Segments].map(|counts| Basis::new(counts, 14));
        let measured = Measured::new(vec![once]).unwrap();
        assert_eq!(measured.or_source(once), once);
        assert_eq!(measured.or_source(segments), Basis { known: Known::Conflict, ..once });
        assert_eq!(measured.or_source(Basis::undecided("x")), Basis { known: Known::Measured, ..once });
        let unmarked = Basis::undecided(UNMARKED);
        assert_eq!(measured.or_source(unmarked), unmarked);
        let either = Measured::new(vec![once, segments]).unwrap();
        assert_eq!(either.or_source(segments), segments);
        assert_eq!(Measured::new(Vec::new()), None);
        assert_eq!(either.words(), "once or segments, +14 B each");
    }
}
