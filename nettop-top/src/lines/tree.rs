//! Processes below those that started them. An ancestor that moved nothing has a line without numbers.

use std::collections::HashMap;

use super::line::{Line, Value, process_key};
use crate::{
    frame::Frame,
    text::safe,
    views::{View, What},
};

/// Deeper is not shown as deeper.
const MAX_DEPTH: usize = 8;

/// Keeps the order of lines among those of the same parent.
pub(super) fn as_tree(frame: &Frame, view: &View, lines: Vec<Line>) -> Vec<Line> {
    let mut nodes = Nodes::default();
    for line in lines {
        let row = line.rows.first().and_then(|at| frame.rows.get(*at));
        let mut above = None;
        for parent in row.map_or(&[][..], |row| &row.who.parents).iter().rev() {
            let key = process_key(parent.pid, Some(parent.start_time_ns));
            let make = || ancestor(view, &key, parent.pid, &parent.comm);
            above = Some(nodes.find_or_add(&key, above, make));
        }
        nodes.put(line, above);
    }
    nodes.in_order()
}

#[derive(Default)]
struct Nodes {
    lines: Vec<Option<Line>>,
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    places: HashMap<String, usize>,
}

impl Nodes {
    /// The node of an ancestor, made if it is missing.
    fn find_or_add(&mut self, key: &str, above: Option<usize>, make: impl FnOnce() -> Line) -> usize {
        match self.places.get(key) {
            Some(place) => *place,
            None => self.add(make(), above),
        }
    }

    /// A process with numbers: it may be there already, as another's ancestor.
    fn put(&mut self, line: Line, above: Option<usize>) {
        match self.places.get(&line.key) {
            Some(place) => self.lines[*place] = Some(line),
            None => {
                self.add(line, above);
            }
        }
    }

    fn add(&mut self, line: Line, above: Option<usize>) -> usize {
        let place = self.lines.len();
        self.places.insert(line.key.clone(), place);
        self.lines.push(Some(line));
        self.children.push(Vec::new());
        match above {
            Some(above) => self.children[above].push(place),
            None => self.roots.push(place),
        }
        place
    }

    fn in_order(mut self) -> Vec<Line> {
        let mut ordered = Vec::with_capacity(self.lines.len());
        let mut next: Vec<(usize, usize)> = self.roots.iter().rev().map(|root| (*root, 0)).collect();
        while let Some((place, depth)) = next.pop() {
            if let Some(line) = self.lines[place].take() {
                ordered.push(Line { depth: depth.min(MAX_DEPTH), ..line });
            }
            next.extend(self.children[place].iter().rev().map(|child| (*child, depth + 1)));
        }
        ordered
    }
}

fn ancestor(view: &View, key: &str, pid: u32, comm: &str) -> Line {
    let value = |what: What| match what {
        What::Pid => Value::Id(pid.into()),
        What::Name => Value::Text(safe(comm)),
        _ => Value::None,
    };
    Line {
        key: key.to_owned(),
        values: view.columns.iter().map(|column| value(column.what)).collect(),
        has_ended: false,
        is_bad: false,
        depth: 0,
        rows: Vec::new(),
        item: None,
        weight: 0,
    }
}
