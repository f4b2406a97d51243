//! Steps as documents and as CSV.

use nettop_common::trace::{CallStep, FIRST_FUNCTION, Step, kind};
use schemars::JsonSchema;
use serde::Serialize;

use super::{decode, name};
use crate::{
    clock::Clock,
    identity::escape::escape_c,
    report::csv,
    stream::head::{Head, push_json},
};

const SCHEMA: &str = "nettop.trace/1";

/// A line of the stream: one of the first kind, then any of the others.
#[cfg(test)]
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is made of it")]
pub enum Line {
    Head(Head),
    Step(Record),
    Lost(crate::stream::head::Lost),
}

/// One step. Null: not known, or it means nothing here.
#[derive(Serialize, JsonSchema, Debug)]
pub struct Record {
    /// enter or leave
    event: &'static str,
    /// RFC 3339, UTC, from the kernel's clock.
    time: String,
    pid: u32,
    tid: u32,
    start_time_ns: u64,
    uid: u32,
    /// Of the thread.
    comm: String,
    call: &'static str,
    /// Calls around it.
    depth: u32,
    /// Since the thread's outermost call was entered. Of one whose beginning was not told, null.
    elapsed_us: Option<u64>,
    /// What a system call returned, -1 with `error`; what is to be restarted returns nothing.
    result: Option<i64>,
    /// Name of the error number.
    error: Option<String>,
    /// In strace's manner, with `--decode`.
    arguments: Option<String>,
}

fn record(step: &Step, call: Option<&CallStep>, clock: &Clock) -> Record {
    let is_left = step.kind != kind::ENTER;
    let has_result = is_left && step.what < FIRST_FUNCTION;
    let error = has_result.then(|| decode::error(step.result)).flatten();
    let result = match &error {
        Some(error) => error.is_answer.then_some(-1),
        None => has_result.then_some(step.result),
    };
    Record {
        event: if is_left { "leave" } else { "enter" },
        time: clock.rfc3339(step.time_ns),
        pid: step.owner.tgid,
        tid: step.tid,
        start_time_ns: step.owner.start_time_ns,
        uid: step.owner.uid,
        comm: escape_c(&step.comm),
        call: name(step.what),
        depth: step.depth,
        elapsed_us: (step.kind != kind::LEAVE_UNENTERED).then_some(step.elapsed_ns / 1000),
        result,
        error: error.map(|error| error.name),
        arguments: call.filter(|_| is_left).map(decode::arguments),
    }
}

/// Says what follows.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    Head::new(SCHEMA, hooks).write(text);
}

pub fn line(text: &mut String, step: &Step, call: Option<&CallStep>, clock: &Clock) {
    push_json(text, &record(step, call, clock));
}

pub const COLUMNS: [&str; 15] = [
    "time",
    "event",
    "pid",
    "tid",
    "start_time_ns",
    "uid",
    "comm",
    "call",
    "depth",
    "elapsed_us",
    "result",
    "error",
    "arguments",
    "events_lost",
    "runs_skipped",
];

pub fn csv_header(text: &mut String) {
    csv::push(text, COLUMNS);
}

pub fn csv_line(text: &mut String, step: &Step, call: Option<&CallStep>, clock: &Clock) {
    let record = record(step, call, clock);
    csv::push(
        text,
        [
            record.time,
            record.event.into(),
            record.pid.to_string(),
            record.tid.to_string(),
            record.start_time_ns.to_string(),
            record.uid.to_string(),
            csv::text(Some(&record.comm)),
            record.call.into(),
            record.depth.to_string(),
            csv::number(record.elapsed_us),
            csv::number(record.result),
            csv::text(record.error.as_deref()),
            csv::text(record.arguments.as_deref()),
            String::new(),
            String::new(),
        ],
    );
}
