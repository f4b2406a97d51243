//! Steps as documents and as CSV.

use nettop_common::trace::{CallStep, FIRST_FUNCTION, Step, kind};
use nettop_model::{
    ProcessNames,
    trace::{Record, SCHEMA},
};
use serde::Serialize;

use super::{decode, name};
use crate::{
    render::{
        csv::{self, Text},
        head::{push_head, push_json},
        process_columns::ProcessColumns,
    },
    sys::{clock::Clock, escape::escape_c},
};

fn record(step: &Step, call: Option<&CallStep>, process: ProcessNames, clock: &Clock) -> Record {
    let is_left = step.kind != kind::ENTER;
    let has_result = is_left && step.what < FIRST_FUNCTION;
    let error = has_result.then(|| decode::error(step.result)).flatten();
    let result = match &error {
        Some(error) => error.is_answer.then_some(-1),
        None => has_result.then_some(step.result),
    };
    Record {
        event: if is_left { "leave" } else { "enter" }.into(),
        time: clock.rfc3339(step.time_ns),
        pid: step.owner.tgid,
        tid: step.tid,
        start_time_ns: step.owner.start_time_ns,
        uid: step.owner.uid,
        comm: escape_c(&step.comm),
        call: name(step.what).into(),
        depth: step.depth,
        elapsed_us: (step.kind != kind::LEAVE_UNENTERED).then_some(step.elapsed_ns / 1000),
        result,
        error: error.map(|error| error.name),
        arguments: call.filter(|_| is_left).map(decode::arguments),
        process,
    }
}

/// Appends the head.
pub fn header(text: &mut String, hooks: &[(&'static str, String)]) {
    push_head(text, SCHEMA, hooks);
}

pub fn line(text: &mut String, step: &Step, call: Option<&CallStep>, process: ProcessNames, clock: &Clock) {
    push_json(text, &record(step, call, process, clock));
}

/// Columns of an event's own, and those of its process.
pub type Columns<'a> = (StepColumns<'a>, ProcessColumns<'a>);

#[derive(Serialize, Default)]
pub struct StepColumns<'a> {
    pid: Option<u32>,
    tid: Option<u32>,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    comm: Text<'a>,
    call: &'a str,
    depth: Option<u32>,
    elapsed_us: Option<u64>,
    result: Option<i64>,
    error: Text<'a>,
    arguments: Text<'a>,
}

/// Appends one event.
pub fn csv_line(text: &mut String, step: &Step, call: Option<&CallStep>, process: ProcessNames, clock: &Clock) {
    let record = record(step, call, process, clock);
    csv::push_event(
        text,
        [&record.time, &record.event],
        (
            StepColumns {
                pid: Some(record.pid),
                tid: Some(record.tid),
                start_time_ns: Some(record.start_time_ns),
                uid: Some(record.uid),
                comm: Text(Some(&record.comm)),
                call: &record.call,
                depth: Some(record.depth),
                elapsed_us: record.elapsed_us,
                result: record.result,
                error: Text(record.error.as_deref()),
                arguments: Text(record.arguments.as_deref()),
            },
            ProcessColumns::from(&record.process),
        ),
    );
}
