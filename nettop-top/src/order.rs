//! The order of lines: by a column, calm, or held as it was.

use std::collections::HashMap;

use crate::lines::{Line, Value};

/// A line moves at most once in so many intervals, unless its amount doubles or halves.
const CALM_INTERVALS: u64 = 3;

/// What a view is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Place among the view's columns.
    pub column: usize,
    pub is_reversed: bool,
}

/// What lines stood by in the interval before.
#[derive(Clone, Debug, Default)]
pub struct Calm {
    /// By key: the amount that a line is sorted by, and since which interval.
    amounts: HashMap<String, (u64, u64)>,
    interval: u64,
}

impl Calm {
    /// Another interval begins.
    pub const fn advance(&mut self) {
        self.interval += 1;
    }

    /// The next order is by the amounts themselves.
    pub fn forget(&mut self) {
        self.amounts.clear();
    }

    /// The amount that a line stands by.
    fn amount(&mut self, key: &str, now: u64) -> u64 {
        match self.amounts.get_mut(key) {
            Some((amount, since)) => {
                let has_jumped = now / 2 >= *amount || now <= *amount / 2;
                if self.interval >= *since + CALM_INTERVALS || has_jumped && now != *amount {
                    (*amount, *since) = (now, self.interval);
                }
                *amount
            }
            None => {
                self.amounts.insert(key.to_owned(), (now, self.interval));
                now
            }
        }
    }
}

/// Puts lines in order. Those in `held` stay as they are there; new ones come behind them.
pub fn arrange(lines: &mut Vec<Line>, sort: Sort, calm: &mut Calm, held: Option<&[String]>) {
    let mut ranked: Vec<(Value, Line)> = std::mem::take(lines)
        .into_iter()
        .map(|line| {
            let value = line.values.get(sort.column).cloned().unwrap_or(Value::None);
            let amount = match (&value, value.number()) {
                (Value::Trend(_), _) | (_, None) => value,
                (_, Some(number)) => Value::Number(calm.amount(&line.key, number)),
            };
            (amount, line)
        })
        .collect();
    ranked.sort_by(|(one, one_line), (other, other_line)| {
        let by_column = one.compare(other);
        let by_column = if sort.is_reversed { by_column.reverse() } else { by_column };
        by_column.then_with(|| other_line.weight.cmp(&one_line.weight)).then_with(|| one_line.key.cmp(&other_line.key))
    });
    let keys: std::collections::HashSet<&str> = ranked.iter().map(|(_, line)| line.key.as_str()).collect();
    calm.amounts.retain(|key, _| keys.contains(key.as_str()));
    if let Some(held) = held {
        let places: HashMap<&str, usize> = held.iter().enumerate().map(|(at, key)| (key.as_str(), at)).collect();
        ranked.sort_by_key(|(_, line)| places.get(line.key.as_str()).copied().unwrap_or(usize::MAX));
    }
    *lines = ranked.into_iter().map(|(_, line)| line).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_AMOUNT: Sort = Sort { column: 0, is_reversed: false };

    fn lines(amounts: &[(&str, u64)]) -> Vec<Line> {
        let line = |(key, amount): &(&str, u64)| Line {
            key: (*key).into(),
            values: vec![Value::Bytes(*amount)],
            has_ended: false,
            is_bad: false,
            depth: 0,
            rows: Vec::new(),
            item: None,
            weight: 0,
        };
        amounts.iter().map(line).collect()
    }

    fn order(calm: &mut Calm, amounts: &[(&str, u64)], held: Option<&[String]>) -> String {
        calm.advance();
        let mut lines = lines(amounts);
        arrange(&mut lines, BY_AMOUNT, calm, held);
        lines.into_iter().map(|line| line.key).collect()
    }

    #[test]
    fn a_line_that_changes_a_little_stays_for_three_intervals() {
        let mut calm = Calm::default();
        assert_eq!(order(&mut calm, &[("a", 100), ("b", 90)], None), "ab");
        assert_eq!(order(&mut calm, &[("a", 100), ("b", 110)], None), "ab");
        assert_eq!(order(&mut calm, &[("a", 100), ("b", 110)], None), "ab");
        assert_eq!(order(&mut calm, &[("a", 100), ("b", 110)], None), "ba");
        assert_eq!(order(&mut calm, &[("a", 230), ("b", 110)], None), "ab", "it has doubled");
        assert_eq!(order(&mut calm, &[("a", 1), ("b", 110)], None), "ba", "it is less than half");
    }

    #[test]
    fn a_held_order_stays_and_new_lines_come_last() {
        let mut calm = Calm::default();
        let held = ["b".to_owned(), "a".to_owned()];
        assert_eq!(order(&mut calm, &[("a", 9), ("b", 1), ("c", 99)], Some(&held)), "bac");
        assert_eq!(
            order(&mut Calm::default(), &[("a", 5), ("b", 5)], None),
            "ab",
            "equal lines are in order of their keys"
        );
    }
}
