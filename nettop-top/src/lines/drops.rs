//! Lines of drops, and of what TCP did about losses: by reason, place, owner and device.

use std::collections::HashMap;

use nettop_model::{
    drops::{DropReport, TcpReport},
    snapshot::Count,
};

use super::line::{Amounts, Input, Line, Lines, Value, key, process_key, text, trends};
use crate::{
    books::key_of,
    filter::{Field, Numbers, Subject},
    frame::Frame,
    units::per_second,
    views::{Kind, What},
};

/// What both kinds of lines have.
struct Item<'a> {
    reason: &'a str,
    class: &'a str,
    place: &'a str,
    protocol: Option<&'a str>,
    comm: Option<&'a str>,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    device: Option<&'a str>,
    device_key: Option<String>,
    packets: Count,
    is_lost: bool,
}

pub(super) fn lines(input: &Input<'_>) -> Lines {
    let all = items(input.frame).into_iter().enumerate().filter(|(_, item)| is_in_scope(input, item));
    let mut items: Vec<(usize, Item<'_>)> = all.collect();
    let of = items.len();
    items
        .retain(|(_, item)| input.filter.admits(item, &Numbers { drops: item.packets.interval, ..Numbers::default() }));
    let keys = items.iter().enumerate().map(|(place, (_, item))| (item.key(), place));
    let places: HashMap<String, usize> = keys.collect();
    let trends = trends(input, items.len(), |frame, add| {
        for item in self::items(frame).iter().filter(|item| item.packets.interval > 0) {
            if let Some(place) = places.get(&item.key()) {
                add(*place, per_second(item.packets.interval, frame.interval_ms));
            }
        }
    });
    let lines = items.iter().zip(trends).map(|((at, item), trend)| line(input, *at, item, trend)).collect();
    Lines { lines, of }
}

fn line(input: &Input<'_>, at: usize, item: &Item<'_>, trend: Vec<u64>) -> Line {
    let rate = || per_second(item.packets.interval, input.frame.interval_ms);
    let packets = if input.amounts == Amounts::Rate { rate() } else { item.packets.total };
    let owner = match (item.comm, item.pid) {
        (Some(comm), Some(pid)) => Some(format!("{comm} {pid}")),
        (comm, _) => comm.map(ToOwned::to_owned),
    };
    let mut trend = Some(trend);
    let mut value = |what: What| match what {
        What::Name => text(Some(item.reason)),
        What::Class => text(Some(item.class)),
        What::Place => text(Some(item.place)),
        What::Protocol => text(item.protocol),
        What::Owner => text(owner.as_deref()),
        What::Device => text(item.device),
        What::Packets => Value::Number(packets),
        What::PacketsSum => Value::Number(item.packets.total),
        What::Trend => trend.take().map_or(Value::None, Value::Trend),
        _ => Value::None,
    };
    Line {
        key: item.key(),
        values: input.view.columns.iter().map(|column| value(column.what)).collect(),
        has_ended: false,
        is_bad: item.is_lost && item.packets.interval > 0,
        depth: 0,
        rows: Vec::new(),
        item: Some(at),
        weight: item.packets.interval,
    }
}

fn is_in_scope(input: &Input<'_>, item: &Item<'_>) -> bool {
    input.scope.iter().all(|crumb| match crumb.kind {
        Kind::Device => item.device_key.as_ref() == Some(&crumb.key),
        Kind::Drops => item.key() == crumb.key,
        // Whose it is shows in the rows of that process.
        kind => input.frame.rows.iter().map(|row| &row.who).any(|who| {
            item.pid == Some(who.pid) && item.start_time_ns == who.start_time_ns && key(kind, who) == crumb.key
        }),
    })
}

/// Drops, then events of TCP.
fn items(frame: &Frame) -> Vec<Item<'_>> {
    frame.drops.iter().map(of_drop).chain(frame.tcp.iter().map(of_tcp)).collect()
}

fn of_drop(drop: &DropReport) -> Item<'_> {
    Item {
        reason: &drop.reason,
        class: drop.class.name(),
        place: &drop.location,
        protocol: drop.protocol.as_deref(),
        comm: drop.comm.as_deref(),
        pid: drop.pid,
        start_time_ns: drop.start_time_ns,
        device: drop.device.as_deref(),
        device_key: device_key(drop.netns, drop.netns_cookie, drop.ifindex),
        packets: Count { interval: drop.interval.packets, total: drop.total.packets },
        is_lost: drop.class.is_lost(),
    }
}

fn of_tcp(event: &TcpReport) -> Item<'_> {
    Item {
        reason: &event.event,
        class: "tcp",
        place: "",
        protocol: Some("TCP"),
        comm: event.comm.as_deref(),
        pid: event.pid,
        start_time_ns: event.start_time_ns,
        device: event.device.as_deref(),
        device_key: device_key(event.netns, event.netns_cookie, event.ifindex),
        packets: event.count,
        is_lost: false,
    }
}

fn device_key(netns: Option<u32>, netns_cookie: Option<u32>, ifindex: Option<u32>) -> Option<String> {
    Some(key_of(netns?, netns_cookie?, ifindex?))
}

impl Item<'_> {
    fn key(&self) -> String {
        let owner = match self.pid {
            Some(pid) => process_key(pid, self.start_time_ns),
            None => self.comm.unwrap_or_default().to_owned(),
        };
        let (protocol, device) = (self.protocol.unwrap_or_default(), self.device_key.as_deref().unwrap_or_default());
        format!("{}|{}|{}|{protocol}|{owner}|{device}", self.class, self.reason, self.place)
    }
}

impl Subject for Item<'_> {
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            Field::Program => self.comm.is_some_and(is_wanted),
            Field::Pid => self.pid.is_some_and(|pid| is_wanted(&pid.to_string())),
            Field::Dev => self.device.is_some_and(is_wanted),
            Field::Reason => is_wanted(self.reason) || is_wanted(self.class) || is_wanted(self.place),
            _ => false,
        }
    }
}
