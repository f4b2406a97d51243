//! What documents of all streams have in common: one that comes first, and those that report losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Word;

/// The first line of a stream of documents.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Head {
    /// `nettop.connections/1`, `nettop.packets/1` or `nettop.trace/1`.
    pub schema: Word,
    /// Of nettopd.
    pub version: Word,
    /// Name of this machine, as `uname -n` has it, escaped.
    pub host: String,
    /// Release of the running kernel, as `uname -r` has it.
    pub kernel: String,
    /// RFC 3339, UTC: nettopd is listening from then on.
    pub time: String,
    pub hooks: Vec<HeadHook>,
}

/// By which hook something is seen.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct HeadHook {
    /// What it is for, as in `nettopd check`.
    pub purpose: Word,
    /// Program types and targets, as `tp_btf/kfree_skb`.
    pub kind: String,
}

/// Events that were not shown since the line before.
#[derive(Serialize, Deserialize, JsonSchema, Debug)]
pub struct Lost {
    /// lost
    pub event: Word,
    /// When it was noticed, RFC 3339, UTC.
    pub time: String,
    /// Events for which there was no room, in the kernel's ring or in its table of UDP conversations.
    pub events_lost: u64,
    /// Runs of hooks that the kernel skipped, of any process. Each may have been an event that was asked for.
    pub runs_skipped: u64,
}
