//! The history: what nettopd measured, in one SQLite file that any client reads.
//!
//! A [`Slot`] is 10 s of measuring. [`Writer`] takes slots and never makes anybody wait: what the file cannot take is kept
//! for a while, then given up and counted. [`Reader`] answers for a period.

#![forbid(unsafe_code)]

mod condition;
mod gaps;
mod guard;
mod limits;
mod measures;
mod moment;
mod names;
mod plan;
mod query;
mod retention;
mod rollup;
mod schema;
mod slot;
mod store;
mod trouble;
mod usage;
mod writer;

pub use condition::Condition;
pub use limits::{Keep, Limits};
pub use moment::{local_time, moment, unix_now_s};
/// What a question and an answer have in common with documents.
pub use nettop_model::{By, ContainerNames, Names};
pub use plan::{HOUR_S, MINUTE_S, Part, Resolution};
pub use query::{Answer, AnswerRow, Boot, Bucket, Order, Question, Reader, Recorded, Rest};
pub use slot::{
    Ancestor, Counters, Device, DeviceBalance, DirectionBalance, DropKind, Dropped, Login, SLOT_S, Slot, Tick, Who,
};
pub use store::{Origin, Store};
pub use trouble::Trouble;
pub use usage::{
    CROWDS_PER_RANK, Disk, DiskUsage, HostUsage, LEADERS_PER_RANK, MAX_DISKS, Usage, add_disk, keep_busiest,
    keep_leaders,
};
pub use writer::Writer;

#[cfg(test)]
mod tests;
