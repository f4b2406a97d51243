//! Which row a process is in.

use std::collections::HashMap;

use super::{AnswerRow, By, Question};
use crate::slot::{Device, OTHER, Who};

/// Rows under way: one for each process, or what it belongs to.
pub struct Groups {
    by: By,
    columns: usize,
    pub rows: Vec<AnswerRow>,
    /// Which row a number of a process is in.
    known: HashMap<i64, usize>,
    keys: HashMap<Key, usize>,
    /// Processes by row: one has a number for each device and name.
    processes: HashMap<(usize, Process), ()>,
}

/// Boot, pid, start time.
type Process = (i64, u32, Option<i64>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Process(Process, Option<u32>),
    Name(String),
}

impl Groups {
    pub fn new(question: &Question) -> Self {
        Self {
            by: question.by,
            columns: question.columns,
            rows: Vec::new(),
            known: HashMap::new(),
            keys: HashMap::new(),
            processes: HashMap::new(),
        }
    }

    /// The row of a number; none where the file does not know whose it is.
    pub fn of(&mut self, number: i64) -> Option<&mut AnswerRow> {
        self.rows.get_mut(*self.known.get(&number)?)
    }

    /// In the order of numbers: the last name that a process bore is the one that stays.
    pub fn enter_all(&mut self, names: HashMap<i64, (i64, Who)>) {
        let mut names: Vec<_> = names.into_iter().filter(|(number, _)| !self.known.contains_key(number)).collect();
        names.sort_unstable_by_key(|(number, _)| *number);
        for (number, (boot, who)) in names {
            self.enter(number, boot, who);
        }
    }

    fn enter(&mut self, number: i64, boot: i64, who: Who) {
        let process = (boot, who.pid, who.start_time_ns.map(u64::cast_signed));
        let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
        let name = match self.by {
            // Drops that are nobody's.
            _ if who.comm.is_empty() => "-".into(),
            // What did not fit in a slot is of no unit in particular.
            _ if who.pid == 0 && who.comm == OTHER => OTHER.into(),
            By::Process | By::Device => who.comm.clone(),
            By::Program => who.exe.clone().unwrap_or_else(|| who.comm.clone()),
            By::Unit => or_none(&who.unit),
            By::User => who.uid.map_or_else(|| "-".into(), |uid| uid.to_string()),
            By::Container => or_none(&who.container),
        };
        let key = match self.by {
            By::Process if who.pid != 0 => Key::Process(process, who.uid),
            _ => Key::Name(name.clone()),
        };
        let index = *self.keys.entry(key).or_insert(self.rows.len());
        if index == self.rows.len() {
            self.rows.push(AnswerRow { name, picture: vec![0; self.columns], who, ..AnswerRow::default() });
        } else {
            if self.by == By::Process && who.pid != 0 {
                // The last name it bore.
                self.rows[index].name = name;
                self.rows[index].who.learn(who);
            } else {
                self.rows[index].who.keep_common(&who);
            }
        }
        if self.processes.insert((index, process), ()).is_none() {
            self.rows[index].processes += 1;
        }
        self.known.insert(number, index);
    }
}

impl Who {
    /// Takes what is known of the same process later.
    fn learn(&mut self, later: Self) {
        self.comm = later.comm;
        self.exe = later.exe.or(self.exe.take());
        self.unit = later.unit.or(self.unit.take());
        self.cgroup = later.cgroup.or(self.cgroup.take());
        self.container = later.container.or(self.container.take());
        self.keep_common_device(&later.device);
    }

    fn keep_common_device(&mut self, other: &Device) {
        if self.device != *other {
            let name = self.device.name.take().filter(|name| other.name.as_ref() == Some(name));
            self.device = Device { name, ..Device::default() };
        }
    }

    /// Leaves what another has as well.
    fn keep_common(&mut self, other: &Self) {
        fn common<T: PartialEq>(mine: &mut Option<T>, theirs: Option<&T>) {
            if mine.as_ref() != theirs {
                *mine = None;
            }
        }
        if (self.pid, self.start_time_ns) != (other.pid, other.start_time_ns) {
            (self.pid, self.start_time_ns) = (0, None);
        }
        common(&mut self.uid, other.uid.as_ref());
        common(&mut self.exe, other.exe.as_ref());
        common(&mut self.unit, other.unit.as_ref());
        common(&mut self.cgroup, other.cgroup.as_ref());
        common(&mut self.container, other.container.as_ref());
        self.keep_common_device(&other.device);
    }
}
