//! Questions to the file: who moved how much in a period, and what the answer is made of.

mod boots;
mod columns;
mod coverage;
mod names;
mod reader;
mod recorded;
mod select;
mod sums;

pub use boots::Boot;
pub use reader::Reader;
pub use recorded::{Bucket, Recorded};

use nettop_model::{By, ContainerNames, Names};

use crate::{
    condition::Condition,
    plan::{HOUR_S, Part, Resolution, plan},
    slot::{Counters, Who},
    usage::{Disk, DiskUsage, HostUsage, Usage},
};

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
    Cpu,
    Memory,
    Disk,
    Load,
    /// Processes that the kernel ended to free memory.
    OomKills,
    /// Those that ended by a signal, then those with a code that is not 0.
    Exits,
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
    /// Not by device, which counts for all.
    pub names: Names,
    /// Only rows of this boot: another's clock may have shown the same times.
    pub boot: Option<i64>,
    /// Number of parts in each row's sparkline.
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
    /// Namespaces with traffic whose devices could not be read, at most.
    pub namespaces_unread: Option<u64>,
    pub late_ms: u64,
    pub clock_step_ms: i64,
    pub load_peak: Option<f64>,
    /// Of the selected moments; if what processes used was recorded.
    pub host: Option<HostUsage>,
    /// Those with the most requests in flight first.
    pub disks: Vec<(Disk, DiskUsage)>,
    pub rows: Vec<AnswerRow>,
    /// What rows beyond the top had.
    pub others: Counters,
    pub others_usage: Usage,
    pub others_number: usize,
}

/// One process, program, unit, user, device or container.
#[derive(Clone, Debug, Default)]
pub struct AnswerRow {
    /// Of one process; else only what all have in common.
    pub who: Who,
    /// Of its container, if all are in the same.
    pub container: ContainerNames,
    /// Its name in the grouping that was asked for.
    pub name: String,
    pub processes: usize,
    pub counters: Counters,
    pub usage: Usage,
    /// The most that one process moved through one device in 10 s.
    pub tx_peak_bytes: u64,
    pub rx_peak_bytes: u64,
    pub drops: u64,
    pub retransmits: u64,
    /// Of a device.
    pub rest: Option<Rest>,
    /// Bytes by part of the period, or what the order is by.
    pub sparkline: Vec<u64>,
}

/// What no row of a device explains, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// No IP socket saw it.
    pub unattributed_bytes: u64,
    /// Rows have it; the device had not counted it at the end of the period.
    pub pending_bytes: u64,
    /// The difference, whichever is more, while it was not known how the device counts.
    pub undecided_bytes: u64,
}

impl Rest {
    /// Of both directions, by what was unattributed less what was pending. One does not make up for the other.
    fn new(unattributed_bytes: [i64; 2], undecided_bytes: [i64; 2]) -> Self {
        let sum = |sign: i64| unattributed_bytes.iter().map(|bytes| (sign * bytes).max(0).unsigned_abs()).sum();
        let undecided_bytes = undecided_bytes.iter().map(|bytes| bytes.unsigned_abs()).sum();
        Self { unattributed_bytes: sum(1), pending_bytes: sum(-1), undecided_bytes }
    }
}

impl Reader {
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
        // A part of the sparkline is not shorter than its data.
        let step = answer.parts.iter().map(|part| part.resolution.seconds()).max().unwrap_or(1);
        let columns = usize::try_from((to - from) / step).unwrap_or(1).clamp(1, question.columns.max(1));
        let question = &Question { columns, ..question.clone() };
        self.read_ticks(question, &mut answer)?;
        self.sums(question, &mut answer)?;
        // With its tables.
        transaction.rollback()?;
        Ok(answer)
    }
}

/// How coarse the middle of the period may be. A condition is about moments.
fn coarsest(question: &Question) -> Resolution {
    // Periods are widened to whole slots.
    const MAX_WIDENING_S: i64 = 60;
    match (question.to - question.from - MAX_WIDENING_S, &question.when) {
        (..=7200, _) => Resolution::Slot,
        (length, Some(_)) if length <= 48 * HOUR_S => Resolution::Slot,
        (length, None) if length <= 48 * HOUR_S => Resolution::Minute,
        (_, Some(_)) => Resolution::Minute,
        _ => Resolution::Hour,
    }
}

fn selection(question: &Question, suffix: &str) -> String {
    let condition = question.when.as_ref().map(|condition| &condition.sql);
    condition
        .map(|sql| format!("AND ts IN (SELECT ts FROM tick_{suffix} LEFT JOIN host_{suffix} USING (ts) WHERE ts >= ?1 AND ts < ?2 AND {sql})"))
        .unwrap_or_default()
}
