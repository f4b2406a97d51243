//! Lines of what processes use besides the network, whether they talk or not.

use std::collections::HashMap;

use nettop_model::{ProcessResources, Resources};

use super::line::{Input, Line, Lines, Value, process_key, text, trends};
use crate::{
    filter::{Field, Numbers, Subject},
    frame::Frame,
    units::per_second,
    views::{Kind, What},
};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

pub(super) fn lines(input: &Input<'_>) -> Lines {
    let all = processes(input.frame).iter().enumerate().filter(|(_, of)| is_in_scope(input, of));
    let mut found: Vec<(usize, &ProcessResources)> = all.collect();
    let of = found.len();
    found.retain(|(_, of)| input.filter.admits(*of, &Numbers::default()));
    let places: HashMap<String, usize> = found.iter().enumerate().map(|(place, (_, of))| (key(of), place)).collect();
    let trends = trends(input, found.len(), |frame, add| {
        for of in processes(frame) {
            if let Some(place) = places.get(&key(of)) {
                add(*place, hundredths(of.resources.cpu_percent));
            }
        }
    });
    let lines = found.into_iter().zip(trends).map(|((at, of), trend)| line(input, at, of, trend)).collect();
    Lines { lines, of }
}

fn processes(frame: &Frame) -> &[ProcessResources] {
    frame.resources.as_ref().map_or(&[], |resources| &resources.processes)
}

/// Several of one name, user and cgroup have no pid.
fn key(of: &ProcessResources) -> String {
    if of.pid != 0 {
        return process_key(of.pid, of.start_time_ns);
    }
    format!("{}|{}|{}", of.comm, of.uid.unwrap_or(0), of.cgroup.as_deref().unwrap_or_default())
}

/// As rows of the network are: devices have nothing of it.
fn is_in_scope(input: &Input<'_>, of: &ProcessResources) -> bool {
    input.scope.iter().all(|crumb| match crumb.kind {
        Kind::Program => of.exe.as_deref().unwrap_or(&of.comm) == crumb.key,
        Kind::Unit => unit(of) == crumb.key,
        Kind::Process | Kind::Hogs => key(of) == crumb.key,
        Kind::Device | Kind::Drops | Kind::Sockets => true,
    })
}

fn unit(of: &ProcessResources) -> &str {
    let container = of.names.pod.as_ref().or(of.names.container_name.as_ref()).or(of.container.as_ref());
    container.or(of.unit.as_ref()).map_or("-", String::as_str)
}

fn line(input: &Input<'_>, at: usize, of: &ProcessResources, trend: Vec<u64>) -> Line {
    let used = &of.resources;
    let host_ms = input.frame.resources.as_ref().map_or(0, |resources| resources.host.usage_ms);
    let number = |number: Option<u64>| number.map_or(Value::None, Value::Number);
    let user = || of.user.clone().or_else(|| of.uid.map(|uid| uid.to_string()));
    let name = match (&of.script, &of.exe) {
        (Some(path), _) | (None, Some(path)) if input.is_long => path,
        _ => &of.comm,
    };
    let mut trend = Some(trend);
    let mut value = |what: What| match what {
        What::Pid if of.pid != 0 => Value::Id(of.pid.into()),
        What::Name => text(Some(name)),
        What::User => text(user().as_deref()),
        What::Unit => text(Some(unit(of))),
        What::Cpu => Value::Hundredths(hundredths(used.cpu_percent)),
        What::Memory => number(used.rss_mean_bytes.map(|bytes| bytes / MIB)),
        What::Swap => number(used.swap_mean_bytes.map(|bytes| bytes / MIB)),
        What::Disk => number(used.disk_bytes().map(|bytes| per_second(bytes, host_ms) / KIB)),
        What::Load => Value::Hundredths(hundredths(used.load())),
        What::Blocked => Value::Hundredths(hundredths(used.blocked_mean)),
        What::Threads => Value::Number(used.threads),
        What::Ended => text(ending(used).as_deref()),
        What::Trend => trend.take().map_or(Value::None, Value::Trend),
        _ => Value::None,
    };
    Line {
        key: key(of),
        values: input.view.columns.iter().map(|column| value(column.what)).collect(),
        has_ended: of.pid != 0 && used.exits > Some(0),
        is_bad: used.oom_kills > Some(0) || used.exits_signaled > Some(0),
        depth: 0,
        rows: Vec::new(),
        item: Some(at),
        weight: used.cpu_us(),
    }
}

/// How it ended, in a word; or how many of several did.
fn ending(used: &Resources) -> Option<String> {
    match (used.oom_kills, used.exit_signal, used.exit_code, used.exits) {
        (Some(1..), ..) => Some("memory".into()),
        (_, Some(signal), ..) => Some(format!("signal {signal}")),
        (_, _, Some(code), _) => Some(format!("code {code}")),
        (.., Some(exits @ 1..)) => Some(exits.to_string()),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not below zero")]
fn hundredths(number: f64) -> u64 {
    (number * 100.0).round() as u64
}

impl Subject for ProcessResources {
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        let mut one = |text: Option<&String>| text.is_some_and(|text| is_wanted(text));
        let names = &self.names;
        match field {
            Field::Program => one(Some(&self.comm)) || one(self.exe.as_ref()) || one(self.script.as_ref()),
            Field::Unit => one(self.unit.as_ref()) || one(names.pod.as_ref()) || one(names.container_name.as_ref()),
            Field::Container => {
                one(names.container_name.as_ref())
                    || one(self.container.as_ref())
                    || one(names.pod.as_ref())
                    || one(names.image.as_ref())
            }
            Field::User => one(self.user.as_ref()) || one(self.uid.map(|uid| uid.to_string()).as_ref()),
            Field::Pid => self.pid != 0 && one(Some(&self.pid.to_string())),
            Field::Dev | Field::Peer | Field::Port | Field::State | Field::Reason => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_word() {
        let one = Resources { exits: Some(1), exits_signaled: Some(1), exit_signal: Some(9), ..Resources::default() };
        assert_eq!(ending(&one).as_deref(), Some("signal 9"));
        assert_eq!(ending(&Resources { oom_kills: Some(1), ..one }).as_deref(), Some("memory"));
        let code = Resources { exit_signal: None, exit_code: Some(0), ..one };
        assert_eq!(ending(&code).as_deref(), Some("code 0"));
        assert_eq!(ending(&Resources { exits: Some(30), ..Resources::default() }).as_deref(), Some("30"));
        assert_eq!(ending(&Resources { exits: Some(0), ..Resources::default() }), None);
    }
}
