//! Questions to the file: who moved how much in a period, and what the answer is made of.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags, params};

use crate::{
    condition::Condition,
    plan::{Kept, Part, Resolution, plan},
    schema,
    slot::{Counters, Device, OTHER, Who},
};

/// What rows are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Process,
    Program,
    Unit,
    User,
    Device,
    Container,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Bytes,
    TxBytes,
    RxBytes,
    Packets,
    Peak,
    Drops,
    Retransmits,
}

/// A question for a period.
#[derive(Clone, Debug)]
pub struct Question {
    /// Seconds since 1970; `to` is not in it.
    pub from: i64,
    pub to: i64,
    pub by: By,
    pub order: Order,
    pub top: usize,
    pub when: Option<Condition>,
    /// Into how many parts each row's picture is divided.
    pub columns: usize,
}

/// What is known of the period.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// As it was widened to what is kept.
    pub from: i64,
    pub to: i64,
    pub parts: Vec<Part>,
    /// How much of it was measured.
    pub measured_ms: u64,
    /// Of that, what `when` selected.
    pub selected_ms: u64,
    /// From and to, where nothing was measured.
    pub gaps: Vec<(i64, i64)>,
    /// By cause.
    pub losses: Vec<(String, u64)>,
    pub late_ms: u64,
    pub clock_step_ms: i64,
    pub load_peak: Option<f64>,
    pub rows: Vec<AnswerRow>,
    /// What rows beyond the top had.
    pub others: Counters,
    pub others_number: usize,
}

/// One process, program, unit, user, device or container.
#[derive(Clone, Debug, Default)]
pub struct AnswerRow {
    /// Of one process; else only what all have in common.
    pub who: Who,
    /// What it is called in the grouping that was asked for.
    pub name: String,
    pub processes: usize,
    pub counters: Counters,
    /// The most that one process moved through one device in 10 s.
    pub tx_peak_bytes: u64,
    pub rx_peak_bytes: u64,
    pub drops: u64,
    pub retransmits: u64,
    /// Of a device: what no IP socket saw, both ways.
    pub unattributed_bytes: Option<i64>,
    /// Bytes by part of the period.
    pub picture: Vec<u64>,
}

/// A boot that is over.
#[derive(Clone, Debug)]
pub struct Boot {
    pub boot_id: String,
    pub kernel: String,
    /// End of the last slot that was recorded.
    pub last: i64,
    /// Whether nettopd was told to end.
    pub is_clean: bool,
}

/// The file, opened to be read.
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the file; needs no right but to read it.
    ///
    /// # Errors
    ///
    /// If it is not there, not a history, or of another version.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        fs::File::open(path).with_context(|| format!("cannot read the history {shown}"))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let cannot = || format!("cannot read the history {shown}");
        let connection = Connection::open_with_flags(path, flags).with_context(cannot)?;
        connection.busy_timeout(Duration::from_secs(2))?;
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).with_context(cannot)?;
        let version = schema::version(&connection).with_context(cannot)?;
        if id != schema::APPLICATION_ID {
            bail!("{shown} is not a history of nettopd's");
        }
        if version != schema::VERSION {
            bail!(
                "{shown} has schema {version}, this nettopd reads {}: the daemon that writes it has to be the same",
                schema::VERSION
            );
        }
        Ok(Self { connection })
    }

    /// Ends every question that is not answered by then: "interrupted" is the error.
    ///
    /// # Errors
    ///
    /// If SQLite refuses.
    pub fn answer_before(&mut self, deadline: Instant) -> anyhow::Result<()> {
        // Asked some thousand times a second.
        const STEPS: i32 = 10_000;
        self.connection.progress_handler(STEPS, Some(move || Instant::now() > deadline))?;
        Ok(())
    }

    /// The last boot before `current` that was recorded.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn last_boot(&self, current: &str) -> anyhow::Result<Option<Boot>> {
        let query = "SELECT id, boot_id, kernel FROM boot WHERE boot_id <> ?1 ORDER BY id DESC LIMIT 1";
        let found = self
            .connection
            .prepare(query)?
            .query_map([current], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?
            .next()
            .transpose()?;
        let Some((id, boot_id, kernel)) = found else { return Ok(None) };
        let next: Option<i64> =
            self.connection.query_row("SELECT min(first_seen) FROM boot WHERE id > ?1", [id], |row| row.get(0))?;
        let is_clean: bool = self.connection.query_row(
            "SELECT coalesce((SELECT ended IS NOT NULL FROM session WHERE boot = ?1 ORDER BY id DESC LIMIT 1), 0)",
            [id],
            |row| row.get(0),
        )?;
        for resolution in Resolution::ALL {
            let query = format!("SELECT max(ts) FROM tick_{} WHERE ts < ?1", resolution.suffix());
            let last: Option<i64> = self.connection.query_row(&query, [next.unwrap_or(i64::MAX)], |row| row.get(0))?;
            if let Some(last) = last {
                return Ok(Some(Boot { boot_id, kernel, last: last + resolution.seconds(), is_clean }));
            }
        }
        Ok(None)
    }

    /// Answers.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn answer(&self, question: &Question) -> anyhow::Result<Answer> {
        // All of the same moment.
        let transaction = self.connection.unchecked_transaction()?;
        let parts = plan(question.from, question.to, coarsest(question), &self.kept()?);
        let from = parts.first().map_or(question.from, |part| part.from);
        let to = parts.last().map_or(question.to, |part| part.to);
        let mut answer = Answer { from, to, parts, ..Answer::default() };
        // A part of the picture is not shorter than what it is made of.
        let step = answer.parts.iter().map(|part| part.resolution.seconds()).max().unwrap_or(1);
        let columns = usize::try_from((to - from) / step).unwrap_or(1).clamp(1, question.columns.max(1));
        let question = &Question { columns, ..question.clone() };
        self.read_ticks(question, &mut answer)?;
        let rows =
            if question.by == By::Device { self.devices(question, &answer)? } else { self.samples(question, &answer)? };
        finish(question, rows, &mut answer);
        drop(transaction);
        Ok(answer)
    }

    fn kept(&self) -> rusqlite::Result<Kept> {
        let mut kept = Kept { from: [0; 3], to: [i64::MAX; 3] };
        for resolution in Resolution::ALL {
            let (index, tick) = (resolution as usize, format!("tick_{}", resolution.suffix()));
            let query = format!(
                "SELECT coalesce((SELECT before FROM purged WHERE seconds = ?1), 0), coalesce((SELECT max(ts) FROM {tick}) + ?1, {}),
                     (SELECT min(ts) FROM open_bucket WHERE seconds = ?1)",
                // Where all were deleted, what is open is the end.
                i64::MAX
            );
            let (from, end, open): (i64, i64, Option<i64>) =
                self.connection
                    .query_row(&query, [resolution.seconds()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            kept.from[index] = from;
            if resolution != Resolution::Slot {
                // What is open in the finer ones is open here.
                let below = if index == 2 { kept.to[1] } else { i64::MAX };
                kept.to[index] = resolution.floor(end.min(open.unwrap_or(i64::MAX)).min(below));
            }
        }
        Ok(kept)
    }

    fn read_ticks(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        // Covered so far.
        let mut until = answer.from;
        let condition = question.when.as_ref().map_or("1", |condition| condition.sql.as_str());
        for part in &answer.parts {
            let query = format!(
                "SELECT ts, measured_ms, late_ms, clock_step_ms, load1, {condition} FROM tick_{} WHERE ts >= ?1 AND ts < ?2 ORDER BY ts",
                part.resolution.suffix()
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut ticks = statement.query(params![part.from, part.to])?;
            while let Some(tick) = ticks.next()? {
                let (ts, measured_ms): (i64, i64) = (tick.get(0)?, tick.get(1)?);
                let length = part.resolution.seconds();
                // One long interval is recorded where it ended.
                let begin = if measured_ms > length * 1500 { ts + length - measured_ms / 1000 } else { ts };
                if begin > until {
                    answer.gaps.push((until, begin));
                }
                while let Some((_, end)) = answer.gaps.last_mut()
                    && *end > begin
                {
                    *end = begin;
                    if answer.gaps.last().is_some_and(|(from, to)| from >= to) {
                        answer.gaps.pop();
                    }
                }
                until = until.max(ts + length);
                answer.measured_ms += measured_ms.cast_unsigned();
                answer.late_ms = answer.late_ms.max(tick.get::<_, i64>(2)?.cast_unsigned());
                answer.clock_step_ms += tick.get::<_, i64>(3)?;
                let load: Option<f64> = tick.get(4)?;
                answer.load_peak = answer.load_peak.into_iter().chain(load).reduce(f64::max);
                if tick.get::<_, Option<bool>>(5)?.unwrap_or(false) {
                    answer.selected_ms += measured_ms.cast_unsigned();
                }
            }
        }
        if until < answer.to {
            answer.gaps.push((until, answer.to));
        }
        let mut statement = self
            .connection
            .prepare("SELECT cause, sum(count) FROM loss WHERE ts >= ?1 AND ts < ?2 GROUP BY cause ORDER BY cause")?;
        let losses = statement.query_map(params![answer.from, answer.to], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        answer.losses = losses.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Rows of processes, put together as was asked.
    fn samples(&self, question: &Question, answer: &Answer) -> rusqlite::Result<Vec<AnswerRow>> {
        let mut rows = Groups::new(question);
        for part in &answer.parts {
            rows.enter_all(self.names(part)?);
            let suffix = part.resolution.suffix();
            let peaks =
                if part.resolution == Resolution::Slot { ["tx_bytes", "rx_bytes"] } else { ["tx_peak", "rx_peak"] };
            let query = format!(
                "SELECT process, (ts - ?3) * ?4 / ?5, sum(tx_bytes), sum(rx_bytes), sum(tx_packets), sum(rx_packets),
                     sum(tx_app_bytes), sum(rx_app_bytes), max({}), max({})
                 FROM sample_{suffix} WHERE ts >= ?1 AND ts < ?2 {} GROUP BY 1, 2",
                peaks[0],
                peaks[1],
                selection(question, suffix)
            );
            let mut statement = self.connection.prepare(&query)?;
            let columns = i64::try_from(question.columns.max(1)).unwrap_or(1);
            let mut found =
                statement.query(params![part.from, part.to, answer.from, columns, (answer.to - answer.from).max(1)])?;
            while let Some(sample) = found.next()? {
                let Some(row) = rows.of(sample.get(0)?) else { continue };
                let number = |index| sample.get::<_, i64>(index).map(i64::cast_unsigned);
                let counters = Counters {
                    tx_bytes: number(2)?,
                    rx_bytes: number(3)?,
                    tx_packets: number(4)?,
                    rx_packets: number(5)?,
                    tx_app_bytes: number(6)?,
                    rx_app_bytes: number(7)?,
                };
                row.counters.add(&counters);
                row.tx_peak_bytes = row.tx_peak_bytes.max(number(8)?);
                row.rx_peak_bytes = row.rx_peak_bytes.max(number(9)?);
                if let Some(column) =
                    usize::try_from(sample.get::<_, i64>(1)?).ok().and_then(|at| row.picture.get_mut(at))
                {
                    *column += counters.bytes();
                }
            }
            let query = format!(
                "SELECT s.process, sum(s.packets) FILTER (WHERE k.class <> 'tcp'),
                     sum(s.packets) FILTER (WHERE k.class = 'tcp' AND k.reason = 'retransmit')
                 FROM drop_{suffix} s JOIN drop_kind k ON k.id = s.kind WHERE ts >= ?1 AND ts < ?2 {} GROUP BY 1",
                selection(question, suffix)
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut found = statement.query(params![part.from, part.to])?;
            while let Some(drops) = found.next()? {
                let number =
                    |index| drops.get::<_, Option<i64>>(index).map(|number| number.unwrap_or(0).cast_unsigned());
                let (drops_here, retransmits) = (number(1)?, number(2)?);
                if drops_here + retransmits > 0
                    && let Some(row) = rows.of(drops.get(0)?)
                {
                    row.drops += drops_here;
                    row.retransmits += retransmits;
                }
            }
        }
        // Those that only had what TCP does at the end of a connection.
        rows.rows.retain(|row| row.counters != Counters::default() || row.drops + row.retransmits > 0);
        Ok(rows.rows)
    }

    /// Rows of devices, by their own counters.
    fn devices(&self, question: &Question, answer: &Answer) -> rusqlite::Result<Vec<AnswerRow>> {
        let mut rows: HashMap<(i64, Device), AnswerRow> = HashMap::new();
        for part in &answer.parts {
            let suffix = part.resolution.suffix();
            let peaks =
                if part.resolution == Resolution::Slot { ["tx_bytes", "rx_bytes"] } else { ["tx_peak", "rx_peak"] };
            let query = format!(
                "SELECT d.boot, d.netns, d.netns_cookie, d.ifindex, d.name, (ts - ?3) * ?4 / ?5, sum(tx_bytes), sum(rx_bytes),
                     sum(tx_packets), sum(rx_packets), sum(tx_unattributed + rx_unattributed), max({}), max({})
                 FROM device_{suffix} s JOIN device d ON d.id = s.device WHERE ts >= ?1 AND ts < ?2 {} GROUP BY d.id, 6",
                peaks[0],
                peaks[1],
                selection(question, suffix)
            );
            let mut statement = self.connection.prepare(&query)?;
            let columns = i64::try_from(question.columns.max(1)).unwrap_or(1);
            let mut found =
                statement.query(params![part.from, part.to, answer.from, columns, (answer.to - answer.from).max(1)])?;
            while let Some(row) = found.next()? {
                let device =
                    Device { netns: row.get(1)?, netns_cookie: row.get(2)?, ifindex: row.get(3)?, name: row.get(4)? };
                let group = rows.entry((row.get(0)?, device.clone())).or_insert_with(|| AnswerRow {
                    name: device.name.clone().unwrap_or_else(|| "-".into()),
                    who: Who { device, ..Who::default() },
                    picture: vec![0; question.columns],
                    ..AnswerRow::default()
                });
                let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
                let counters = Counters {
                    tx_bytes: number(6)?,
                    rx_bytes: number(7)?,
                    tx_packets: number(8)?,
                    rx_packets: number(9)?,
                    ..Counters::default()
                };
                group.counters.add(&counters);
                *group.unattributed_bytes.get_or_insert(0) += row.get::<_, i64>(10)?;
                group.tx_peak_bytes = group.tx_peak_bytes.max(number(11)?);
                group.rx_peak_bytes = group.rx_peak_bytes.max(number(12)?);
                if let Some(column) =
                    usize::try_from(row.get::<_, i64>(5)?).ok().and_then(|at| group.picture.get_mut(at))
                {
                    *column += counters.bytes();
                }
            }
        }
        Ok(rows.into_values().collect())
    }
}

/// Rows under way: one for each process, or what it belongs to.
struct Groups {
    by: By,
    columns: usize,
    rows: Vec<AnswerRow>,
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
    fn new(question: &Question) -> Self {
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
    fn of(&mut self, number: i64) -> Option<&mut AnswerRow> {
        self.rows.get_mut(*self.known.get(&number)?)
    }

    /// In the order of numbers: the last name that a process bore is the one that stays.
    fn enter_all(&mut self, names: HashMap<i64, (i64, Who)>) {
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

impl Reader {
    /// Names of all that a part has, by number: asked one by one they take longer than the sums.
    fn names(&self, part: &Part) -> rusqlite::Result<HashMap<i64, (i64, Who)>> {
        let suffix = part.resolution.suffix();
        let query = format!(
            "SELECT p.id, p.boot, p.pid, p.start_time_ns, p.uid, g.comm, g.exe, g.unit, g.cgroup, g.container, d.netns,
                 d.netns_cookie, d.ifindex, d.name
             FROM process p JOIN program g ON g.id = p.program JOIN device d ON d.id = p.device WHERE p.id IN
                 (SELECT process FROM sample_{suffix} WHERE ts >= ?1 AND ts < ?2
                  UNION SELECT process FROM drop_{suffix} WHERE ts >= ?1 AND ts < ?2)"
        );
        let mut statement = self.connection.prepare(&query)?;
        let names = statement.query_map(params![part.from, part.to], |row| {
            let who = Who {
                pid: row.get(2)?,
                start_time_ns: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                uid: row.get(4)?,
                comm: row.get(5)?,
                exe: row.get(6)?,
                unit: row.get(7)?,
                cgroup: row.get(8)?,
                container: row.get(9)?,
                device: Device {
                    netns: row.get(10)?,
                    netns_cookie: row.get(11)?,
                    ifindex: row.get(12)?,
                    name: row.get(13)?,
                },
            };
            Ok((row.get(0)?, (row.get(1)?, who)))
        })?;
        names.collect()
    }
}

/// How coarse the middle of the period may be. A condition is about moments.
fn coarsest(question: &Question) -> Resolution {
    const HOUR: i64 = 3600;
    match (question.to - question.from, &question.when) {
        (0..=7200, _) => Resolution::Slot,
        (length, Some(_)) if length <= 48 * HOUR => Resolution::Slot,
        (length, None) if length <= 48 * HOUR => Resolution::Minute,
        (_, Some(_)) => Resolution::Minute,
        _ => Resolution::Hour,
    }
}

fn selection(question: &Question, suffix: &str) -> String {
    let condition = question.when.as_ref().map(|condition| &condition.sql);
    condition
        .map(|sql| format!("AND ts IN (SELECT ts FROM tick_{suffix} WHERE ts >= ?1 AND ts < ?2 AND {sql})"))
        .unwrap_or_default()
}

/// Sorts, and adds up what is beyond the top.
fn finish(question: &Question, mut rows: Vec<AnswerRow>, answer: &mut Answer) {
    rows.sort_by_key(|row| {
        let counters = &row.counters;
        let first = match question.order {
            Order::Bytes => counters.bytes(),
            Order::TxBytes => counters.tx_bytes,
            Order::RxBytes => counters.rx_bytes,
            Order::Packets => counters.tx_packets + counters.rx_packets,
            Order::Peak => row.tx_peak_bytes + row.rx_peak_bytes,
            Order::Drops => row.drops,
            Order::Retransmits => row.retransmits,
        };
        (Reverse((first, counters.bytes())), row.who.pid, row.name.clone())
    });
    let others = rows.split_off(question.top.min(rows.len()));
    for row in &others {
        answer.others.add(&row.counters);
    }
    answer.others_number = others.len();
    answer.rows = rows;
}
