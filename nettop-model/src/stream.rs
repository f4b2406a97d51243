//! What documents of all streams have in common: one that comes first, and those that report losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Word;

/// The first line of a stream of documents.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Head {
    pub schema: Word,
    pub version: Word,
    pub host: String,
    pub kernel: String,
    /// nettopd is listening from then on.
    pub time: String,
    pub hooks: Vec<HeadHook>,
}

/// By which hook something is seen.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct HeadHook {
    pub purpose: Word,
    pub kind: String,
}

/// Events that were not shown since the line before.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Lost {
    pub event: Word,
    pub time: String,
    pub events_lost: u64,
    /// Runs of hooks that the kernel skipped, of any process. Each may have been an event that was asked for.
    pub runs_skipped: u64,
}
