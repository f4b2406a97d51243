//! Bounds of flags that are keys of the configuration as well, and their help.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;

/// Rows, and kinds of drops.
pub const TABLE_SIZE: RangeInclusive<u32> = 64..=1_000_000;
pub const HISTORY_SIZE_MB: RangeInclusive<u32> = 1..=1 << 20;

pub const ROWS_HELP: &str = "Most rows for processes; what does not fit is counted in overflow rows";
pub const DROP_KINDS_HELP: &str = "Most kinds of drops that are counted each; what does not fit is counted as others";
pub const HISTORY_SIZE_HELP: &str = "Most megabytes (MiB) that the history takes; its log comes on top";
pub const HISTORY_KEEP_HELP: &str = "Days for which rows of 10 s, 1 min and 1 h are kept";

pub fn table_size() -> RangedI64ValueParser<u32> {
    parser(&TABLE_SIZE)
}

pub fn history_size_mb() -> RangedI64ValueParser<u32> {
    parser(&HISTORY_SIZE_MB)
}

fn parser(range: &RangeInclusive<u32>) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(i64::from(*range.start())..=i64::from(*range.end()))
}
