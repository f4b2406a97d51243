//! `--when`: which of the host's moments count.

use std::{fmt, str::FromStr};

/// As `load > 4`, or several joined by `and`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// As it was given.
    text: String,
    /// On the columns of the ticks; made of known words and numbers only.
    pub(crate) sql: String,
}

/// Names for people, and the columns; of the last five those of the host's own counters.
const FIELDS: [(&str, &str); 15] = [
    ("load", "load1"),
    ("load5", "load5"),
    ("load15", "load15"),
    ("cpu", "cpu_some"),
    ("memory", "memory_some"),
    ("memory_full", "memory_full"),
    ("io", "io_some"),
    ("io_full", "io_full"),
    ("late", "late_ms"),
    ("lost", "lost"),
    // Where usage was not recorded, these are null, and no condition holds.
    (
        "cpu_busy",
        "100.0 * (user_ms + system_ms + irq_ms) / nullif(user_ms + system_ms + irq_ms + iowait_ms + idle_ms + steal_ms, 0)",
    ),
    ("mem_free", "100.0 * (memory_total_kib - memory_used_kib) / nullif(memory_total_kib, 0)"),
    ("swap_used", "100.0 * swap_used_kib / nullif(swap_total_kib, 0)"),
    ("disk", "(disk_read_bytes + disk_write_bytes) / 1.024 / nullif(usage_ms, 0)"),
    ("oom_kills", "oom_kills"),
];

/// Shares, which may be given as `5%`.
const PERCENTAGES: [&str; 8] = ["cpu", "memory", "memory_full", "io", "io_full", "cpu_busy", "mem_free", "swap_used"];

/// More than anybody types. Each is checked for every moment, and SQLite refuses a thousand.
const MAX_TERMS: usize = 16;

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.split(" and ").nth(MAX_TERMS).is_some() {
            return Err(format!("a condition has {MAX_TERMS} parts at most"));
        }
        let terms: Result<Vec<String>, String> = text.split(" and ").map(term).collect();
        Ok(Self { text: text.to_owned(), sql: terms?.join(" AND ") })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn term(text: &str) -> Result<String, String> {
    let known = || FIELDS.map(|(name, _)| name).join(", ");
    let at = text.find(['<', '>', '=']).ok_or_else(|| "a condition is like 'load > 4'".to_owned())?;
    let (name, rest) = text.split_at(at);
    let name = name.trim();
    let (_, column) =
        FIELDS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("'{name}' is none of {}", known()))?;
    let operator = ["<=", ">=", "<", ">", "="].into_iter().find(|operator| rest.starts_with(operator)).unwrap_or("=");
    let number = rest[operator.len()..].trim();
    let number = number.strip_suffix('%').filter(|_| PERCENTAGES.contains(&name)).unwrap_or(number);
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    if !number.is_finite() {
        return Err(format!("'{number}' is not a number"));
    }
    Ok(format!("{column} {operator} {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_words_that_are_known_and_numbers() {
        let sql = |text: &str| Condition::from_str(text).map(|condition| condition.sql);
        assert_eq!(sql("load > 4").unwrap(), "load1 > 4");
        assert_eq!(sql("io>=12.5 and memory_full<1").unwrap(), "io_some >= 12.5 AND memory_full < 1");
        assert!(sql("mem_free < 5%").unwrap().ends_with(" < 5"));
        for bad in [
            "",
            "load",
            "load > x",
            "load > inf",
            "1 > 1",
            "load > 4; DROP TABLE boot",
            "ts > 4",
            "load > 4 and",
            "load > 4%",
            "mem_free < %",
        ] {
            assert!(sql(bad).is_err(), "{bad}");
        }
        assert!(sql(&["load > 4"; MAX_TERMS].join(" and ")).is_ok());
        assert!(sql(&["load > 4"; MAX_TERMS + 1].join(" and ")).unwrap_err().contains("16 parts"));
    }
}
