//! Steps in lines, as socket-trace.stp has them: what SystemTap's `thread_indent` gives, an arrow, a name.

use std::fmt::Write as _;

use nettop_common::trace::{CallStep, Step, kind};
use nettop_model::snapshot::Parent;

use super::{decode, name};
use crate::{
    render::ancestry::{link, started_by},
    sys::escape::escape_c,
};

/// One step, behind those that started its process if they are wanted. A call whose beginning was not reported is shown as
/// begun when it ended: each `<-` has its `->`.
pub fn step(text: &mut String, step: &Step, call: Option<&CallStep>, parents: &[Parent]) {
    let name = name(step.what);
    match step.kind {
        kind::ENTER => line(text, step, parents, "->", name),
        kind => {
            if kind != kind::LEAVE {
                line(text, step, parents, "->", name);
            }
            match call {
                None => line(text, step, parents, "<-", name),
                Some(call) => {
                    let (arguments, result) = (decode::arguments(call), decode::result(step));
                    line(text, step, parents, "<-", &format!("{name}({arguments}) = {result}"));
                }
            }
        }
    }
}

fn line(text: &mut String, step: &Step, parents: &[Parent], arrow: &str, what: &str) {
    let (elapsed_us, depth) = (step.elapsed_ns / 1000, step.depth as usize);
    // Writing to a String does not fail.
    let who = started_by(parents) + &link(&escape_c(&step.comm));
    let _ = writeln!(text, "{elapsed_us:>6} {who}({}):{:depth$} {arrow} {what}", step.tid, "");
}
