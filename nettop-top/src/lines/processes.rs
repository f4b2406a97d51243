//! Lines of programs, units and processes: rows with the same key, added up.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::line::{Input, Line, Lines, Value, is_in_scope, key, text, trends};
use crate::{
    filter::{Field, Numbers, Subject},
    frame::{Frame, Row, Who},
    text::{base_name, safe},
    units::per_second,
    views::{Kind, What},
};

/// Rows of one key.
struct Group {
    key: String,
    rows: Vec<usize>,
    /// As amounts are shown.
    amount: [u64; 2],
    interval: [u64; 2],
    total: [u64; 2],
    drops: u64,
    retransmits: u64,
    processes: HashSet<(u32, Option<u64>)>,
    has_ended: bool,
}

pub(super) fn lines(input: &Input<'_>) -> Lines {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut all: HashSet<String> = HashSet::new();
    for (at, row) in input.frame.rows.iter().enumerate() {
        if !is_in_scope(input.scope, &row.who) {
            continue;
        }
        let key = key(input.view.kind, &row.who);
        if !input.filter.is_empty() {
            all.insert(key.clone());
        }
        if input.filter.admits_names(&*row.who) == Some(false) {
            continue;
        }
        let place = *places.entry(key).or_insert_with_key(|key| {
            groups.push(Group::new(key.clone()));
            groups.len() - 1
        });
        groups[place].add(at, row, input.amount(row));
    }
    if !input.filter.is_empty() {
        groups.retain(|group| {
            let numbers = group.numbers(input.frame.interval_ms);
            group.rows.iter().any(|at| input.filter.admits(&*input.frame.rows[*at].who, &numbers))
        });
    }
    let of = if input.filter.is_empty() { groups.len() } else { all.len() };
    let trends = of_groups(input, &groups);
    let lines = groups.into_iter().zip(trends).map(|(group, trend)| line(input, group, trend)).collect();
    Lines { lines, of }
}

/// Trends of all groups: each process is looked up once, however many frames it is in.
fn of_groups(input: &Input<'_>, groups: &[Group]) -> Vec<Vec<u64>> {
    let places: HashMap<&str, usize> = groups.iter().enumerate().map(|(at, group)| (group.key.as_str(), at)).collect();
    let known: RefCell<HashMap<*const Who, Option<usize>>> = RefCell::default();
    let place = |who: &Who| {
        let is_in = is_in_scope(input.scope, who) && input.filter.admits_names(who) != Some(false);
        if is_in { places.get(key(input.view.kind, who).as_str()).copied() } else { None }
    };
    trends(input, groups.len(), |frame: &Frame, add| {
        let mut known = known.borrow_mut();
        for row in &frame.rows {
            let moved = row.interval.tx.bytes.saturating_add(row.interval.rx.bytes);
            if moved == 0 {
                continue;
            }
            if let Some(place) = known.entry(Arc::as_ptr(&row.who)).or_insert_with(|| place(&row.who)) {
                add(*place, per_second(moved, frame.interval_ms));
            }
        }
    })
}

fn line(input: &Input<'_>, group: Group, trend: Vec<u64>) -> Line {
    let rows: Vec<&Row> = group.rows.iter().map(|at| &input.frame.rows[*at]).collect();
    let mut trend = Some(trend);
    let mut value = |what: What| match what {
        What::Name => rows.first().map_or(Value::None, |row| Value::Text(safe(name(input, &row.who)))),
        What::Pid => match rows.first() {
            Some(row) if row.who.pid != 0 => Value::Id(row.who.pid.into()),
            _ => Value::None,
        },
        What::Processes => Value::Number(group.processes.len() as u64),
        What::User => same(&rows, Who::user),
        What::Unit => same(&rows, |who| who.unit().to_owned()),
        What::Up => Value::Bytes(group.amount[0]),
        What::Down => Value::Bytes(group.amount[1]),
        What::UpSum => Value::Bytes(group.total[0]),
        What::DownSum => Value::Bytes(group.total[1]),
        What::Retransmits => Value::Number(group.retransmits),
        What::Drops => Value::Number(group.drops),
        What::Trend => trend.take().map_or(Value::None, Value::Trend),
        _ => Value::None,
    };
    Line {
        values: input.view.columns.iter().map(|column| value(column.what)).collect(),
        key: group.key,
        has_ended: group.has_ended,
        is_bad: group.drops > 0,
        depth: 0,
        rows: group.rows,
        item: None,
        weight: group.interval[0].saturating_add(group.interval[1]),
    }
}

/// What all rows have, if it is the same.
fn same(rows: &[&Row], of: impl Fn(&Who) -> String) -> Value {
    let mut texts = rows.iter().map(|row| of(&row.who));
    let first = texts.next().unwrap_or_default();
    if texts.all(|text| text == first) { text(Some(&first)) } else { Value::Text("(several)".into()) }
}

/// What the line is called.
fn name<'a>(input: &Input<'_>, who: &'a Who) -> &'a str {
    match input.view.kind {
        Kind::Program if input.is_long => who.program(),
        Kind::Program => base_name(who.program()),
        Kind::Unit => who.unit(),
        _ if input.is_long => who.script.as_deref().unwrap_or_else(|| who.program()),
        _ => &who.comm,
    }
}

impl Group {
    fn new(key: String) -> Self {
        Self {
            key,
            rows: Vec::new(),
            amount: [0; 2],
            interval: [0; 2],
            total: [0; 2],
            drops: 0,
            retransmits: 0,
            processes: HashSet::new(),
            has_ended: true,
        }
    }

    fn add(&mut self, at: usize, row: &Row, amount: [u64; 2]) {
        let pairs = [
            (&mut self.amount, amount),
            (&mut self.interval, [row.interval.tx.bytes, row.interval.rx.bytes]),
            (&mut self.total, [row.total.tx.bytes, row.total.rx.bytes]),
        ];
        for (sum, more) in pairs {
            *sum = [sum[0].saturating_add(more[0]), sum[1].saturating_add(more[1])];
        }
        self.rows.push(at);
        self.drops = self.drops.saturating_add(row.drops.interval);
        self.retransmits = self.retransmits.saturating_add(row.retransmits.interval);
        if row.who.pid != 0 {
            self.processes.insert((row.who.pid, row.who.start_time_ns));
        }
        self.has_ended &= row.ended_ms.is_some();
    }

    fn numbers(&self, interval_ms: u64) -> Numbers {
        let [tx, rx] = self.interval.map(|bytes| per_second(bytes, interval_ms));
        Numbers { tx, rx, drops: self.drops, retransmits: self.retransmits }
    }
}

impl Subject for Who {
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        let names = &self.names;
        let mut one = |text: Option<&String>| text.is_some_and(|text| is_wanted(text));
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
            Field::Dev => one(self.device.as_ref()),
            Field::Peer | Field::Port | Field::State | Field::Reason => false,
        }
    }
}
