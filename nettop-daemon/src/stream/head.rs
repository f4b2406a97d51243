//! What documents of all streams have in common: one that comes first, and those that tell of losses.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::filter::StreamFormat;
use crate::{
    clock::now,
    kernel::telling::Loss,
    report::{csv, host_name, kernel_release},
};

/// The first line of a stream of documents.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Head {
    pub schema: &'static str,
    pub version: &'static str,
    pub host: String,
    pub kernel: String,
    /// nettopd is listening from then on.
    pub time: String,
    pub hooks: Vec<HeadHook>,
}

/// By which hook something is seen.
#[derive(Serialize, JsonSchema, Debug)]
pub struct HeadHook {
    pub purpose: &'static str,
    pub kind: String,
}

/// Events that could not be told since the line before.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Lost {
    pub event: &'static str,
    pub time: String,
    pub events_lost: u64,
    /// Runs of hooks that the kernel skipped, of whatever process. Each may have been an event that was asked for.
    pub runs_skipped: u64,
}

impl Head {
    pub fn new(schema: &'static str, hooks: &[(&'static str, String)]) -> Self {
        let hooks = hooks.iter().map(|(purpose, kind)| HeadHook { purpose, kind: kind.clone() }).collect();
        let version = env!("CARGO_PKG_VERSION");
        Self { schema, version, host: host_name(), kernel: kernel_release(), time: now(), hooks }
    }

    pub fn write(&self, text: &mut String) {
        push_json(text, self);
    }
}

/// Appends what was lost.
pub fn push_loss(text: &mut String, (format, columns): (StreamFormat, &[&str]), loss: Loss) {
    let Loss { events, runs_skipped } = loss;
    match format {
        StreamFormat::Text => {
            // Writing to a String does not fail.
            if events > 0 {
                let _ = writeln!(text, "[{events} events lost]");
            }
            if runs_skipped > 0 {
                let _ = writeln!(text, "[{runs_skipped} runs of hooks skipped by the kernel]");
            }
        }
        StreamFormat::Ndjson => {
            push_json(text, &Lost { event: "lost", time: now(), events_lost: events, runs_skipped });
        }
        StreamFormat::Csv => csv::push(
            text,
            columns.iter().map(|column| match *column {
                "time" => now(),
                "event" => "lost".to_owned(),
                "events_lost" => events.to_string(),
                "runs_skipped" => runs_skipped.to_string(),
                _ => String::new(),
            }),
        ),
    }
}

/// Appends a line.
pub fn push_json(text: &mut String, document: &impl Serialize) {
    match serde_json::to_string(document) {
        Ok(line) => {
            text.push_str(&line);
            text.push('\n');
        }
        Err(error) => tracing::warn!("cannot encode an event: {error}"),
    }
}
