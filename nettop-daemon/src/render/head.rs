//! What documents of all streams have in common: one that comes first, and those that report losses.

use std::fmt::Write as _;

use nettop_kernel::events::Loss;
use nettop_model::stream::{Head, HeadHook, Lost};
use serde::Serialize;

use crate::{
    identity::host::{host_name, kernel_release},
    query::format::StreamFormat,
    sys::clock::now,
};

/// Appends what comes first.
pub fn push_head(text: &mut String, schema: &'static str, hooks: &[(&'static str, String)]) {
    let hook = |(purpose, kind): &(&'static str, String)| HeadHook { purpose: (*purpose).into(), kind: kind.clone() };
    let head = Head {
        schema: schema.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        host: host_name(),
        kernel: kernel_release(),
        time: now(),
        hooks: hooks.iter().map(hook).collect(),
    };
    push_json(text, &head);
}

/// How a stream is written, and what appends its losses in CSV.
pub type Form = (StreamFormat, fn(&mut String, Loss));

/// Appends what was lost.
pub fn push_loss(text: &mut String, (format, csv_loss): Form, loss: Loss) {
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
            push_json(text, &Lost { event: "lost".into(), time: now(), events_lost: events, runs_skipped });
        }
        StreamFormat::Csv => csv_loss(text, loss),
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
