//! The history: what nettopd measured, in one SQLite file that any client reads.
//!
//! A [`Slot`] is 10 s of measuring. [`Writer`] takes slots and never makes anybody wait: what the file cannot take is kept
//! for a while, then given up and counted. [`Reader`] answers for a period.

mod condition;
mod gaps;
mod guard;
mod moment;
mod names;
mod plan;
mod query;
mod retention;
mod rollup;
mod schema;
mod slot;
mod store;
mod writer;

pub use condition::Condition;
pub use moment::{local_time, moment};
pub use plan::{Part, Resolution};
pub use query::{Answer, AnswerRow, Boot, By, Order, Question, Reader};
pub use slot::{Books, Counters, Device, DropKind, Dropped, SLOT_S, Side, Slot, Tick, Who};
pub use store::{Keep, Limits, Origin, Store, Trouble};
pub use writer::Writer;

#[cfg(test)]
mod tests;
