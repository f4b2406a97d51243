//! Steps in lines, as socket-trace.stp has them: what SystemTap's `thread_indent` gives, an arrow, a name.

use std::fmt::Write as _;

use nettop_common::trace::{CallStep, Step, kind};

use super::{decode, name};
use crate::sys::escape::escape_c;

/// One step. A call whose beginning was not reported is shown as begun when it ended: each `<-` has its `->`.
pub fn step(text: &mut String, step: &Step, call: Option<&CallStep>) {
    let name = name(step.what);
    match step.kind {
        kind::ENTER => line(text, step, "->", name),
        kind => {
            if kind != kind::LEAVE {
                line(text, step, "->", name);
            }
            match call {
                None => line(text, step, "<-", name),
                Some(call) => {
                    let (arguments, result) = (decode::arguments(call), decode::result(step));
                    line(text, step, "<-", &format!("{name}({arguments}) = {result}"));
                }
            }
        }
    }
}

fn line(text: &mut String, step: &Step, arrow: &str, what: &str) {
    let (elapsed_us, depth) = (step.elapsed_ns / 1000, step.depth as usize);
    // Writing to a String does not fail.
    let _ = writeln!(text, "{elapsed_us:>6} {}({}):{:depth$} {arrow} {what}", escape_c(&step.comm), step.tid, "");
}
