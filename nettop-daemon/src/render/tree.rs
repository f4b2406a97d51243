//! Rows below the processes that started theirs.

use std::collections::{HashMap, HashSet};

use nettop_model::snapshot::{Parent, RowReport};

/// One line, and how many ancestors it is below.
pub struct Line<'a> {
    pub depth: usize,
    pub what: What<'a>,
}

pub enum What<'a> {
    Row(&'a RowReport),
    /// Without a row of its own.
    Ancestor(&'a Parent),
}

/// Pid and start time.
type Id = (u32, Option<u64>);

#[derive(Default)]
struct Node<'a> {
    ancestor: Option<&'a Parent>,
    rows: Vec<&'a RowReport>,
    above: Option<Id>,
    below: Vec<Id>,
}

/// All of them: what comes first stays before what comes later below the same process.
pub fn lines<'a>(rows: impl Iterator<Item = &'a RowReport>) -> Vec<Line<'a>> {
    let mut nodes: HashMap<Id, Node<'a>> = HashMap::new();
    let mut order = Vec::new();
    for row in rows {
        let mut above = None;
        for parent in row.process.parents.iter().rev() {
            let id = (parent.pid, Some(parent.start_time_ns));
            add(&mut nodes, &mut order, id, above).ancestor.get_or_insert(parent);
            above = Some(id);
        }
        add(&mut nodes, &mut order, (row.pid, row.start_time_ns), above).rows.push(row);
    }
    for id in &order {
        if let Some(above) = nodes.get(id).and_then(|node| node.above)
            && let Some(above) = nodes.get_mut(&above)
        {
            above.below.push(*id);
        }
    }
    let mut lines = Vec::new();
    let mut left: Vec<(Id, usize)> =
        order.iter().rev().filter(|id| nodes[id].above.is_none()).map(|id| (*id, 0)).collect();
    while let Some((id, depth)) = left.pop() {
        let node = &nodes[&id];
        match node.ancestor.filter(|_| node.rows.is_empty()) {
            Some(ancestor) => lines.push(Line { depth, what: What::Ancestor(ancestor) }),
            None => lines.extend(node.rows.iter().map(|row| Line { depth, what: What::Row(row) })),
        }
        left.extend(node.below.iter().rev().map(|id| (*id, depth + 1)));
    }
    lines
}

/// The node of a process. Records of different times may contradict each other: the first above it stays, and never one that
/// is below it.
fn add<'n, 'a>(
    nodes: &'n mut HashMap<Id, Node<'a>>,
    order: &mut Vec<Id>,
    id: Id,
    above: Option<Id>,
) -> &'n mut Node<'a> {
    let mut seen = HashSet::from([id]);
    let mut next = above;
    let is_circle = loop {
        let Some(at) = next else { break false };
        if !seen.insert(at) {
            break true;
        }
        next = nodes.get(&at).and_then(|node| node.above);
    };
    let node = nodes.entry(id).or_insert_with(|| {
        order.push(id);
        Node::default()
    });
    if node.above.is_none() && !is_circle {
        node.above = above;
    }
    node
}

#[cfg(test)]
mod tests {
    use nettop_model::ProcessNames;

    use super::*;

    fn row(pid: u32, comm: &str, parents: &[(u32, &str)]) -> RowReport {
        let parent = |(pid, comm): &(u32, &str)| Parent { pid: *pid, comm: (*comm).into(), ..Parent::default() };
        let process = ProcessNames { parents: parents.iter().map(parent).collect(), ..ProcessNames::default() };
        RowReport { pid, start_time_ns: Some(0), comm: comm.into(), process, ..RowReport::default() }
    }

    fn shown(rows: &[RowReport]) -> Vec<String> {
        let line = |line: Line<'_>| match line.what {
            What::Row(row) => format!("{}{} {}", " ".repeat(line.depth), row.comm, row.pid),
            What::Ancestor(parent) => format!("{}({})", " ".repeat(line.depth), parent.comm),
        };
        lines(rows.iter()).into_iter().map(line).collect()
    }

    #[test]
    fn rows_stand_below_those_that_started_them() {
        let rows = [
            row(9, "curl", &[(5, "sh"), (3, "cron")]),
            row(7, "sshd", &[(1, "systemd")]),
            row(9, "curl", &[(5, "sh"), (3, "cron")]),
            row(3, "cron", &[(1, "systemd")]),
            row(8, "wget", &[(5, "sh"), (3, "cron")]),
        ];
        let expected =
            ["(systemd)", " cron 3", "  (sh)", "   curl 9", "   curl 9", "   wget 8", " sshd 7"].map(str::to_owned);
        assert_eq!(shown(&rows), expected);
    }

    #[test]
    fn records_that_contradict_each_other_make_no_circle() {
        let rows = [row(2, "a", &[(3, "b")]), row(3, "b", &[(2, "a")]), row(4, "c", &[(4, "c")])];
        assert_eq!(shown(&rows), ["b 3", " a 2", "c 4"].map(str::to_owned));
    }
}
