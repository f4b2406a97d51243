//! Answers of the history: a table with a picture for people, the document `nettop.history/1`, and CSV.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use nettop_history::{Answer, AnswerRow, Boot, Counters, Part, local_time};
use serde::{Deserialize, Serialize};

use super::args::{ByArg, HistoryArgs};
use crate::{
    cli::Format,
    identity::users::Users,
    report::{
        Amount, Traffic,
        csv::{number, text as safe},
    },
};

/// Name and major version of the document.
const SCHEMA: &str = "nettop.history/1";
const KIB: u64 = 1024;

/// What was asked for. A client reads it back.
#[derive(Serialize, Deserialize)]
pub struct Document {
    schema: Cow<'static, str>,
    version: Cow<'static, str>,
    /// RFC 3339, as widened to what is kept; `to` is not in it.
    from: String,
    to: String,
    by: Cow<'static, str>,
    /// Only with --last-boot.
    last_boot: Option<LastBoot>,
    quality: Quality,
    rows: Vec<Row>,
    /// Rows beyond --top.
    others: Others,
}

#[derive(Serialize, Deserialize)]
struct LastBoot {
    boot_id: String,
    kernel: String,
    /// End of what was recorded.
    last: String,
    /// Whether nettopd was told to end.
    clean: bool,
}

/// What the answer is made of.
#[derive(Serialize, Deserialize)]
struct Quality {
    resolution: Vec<Resolution>,
    period_ms: i64,
    measured_ms: u64,
    /// Of that, what --when selected.
    selected_ms: u64,
    gaps: Vec<Gap>,
    losses: BTreeMap<String, u64>,
    late_ms: u64,
    clock_step_ms: i64,
    load_peak: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct Resolution {
    resolution: Cow<'static, str>,
    from: String,
    to: String,
}

#[derive(Serialize, Deserialize)]
struct Gap {
    from: String,
    to: String,
}

#[derive(Serialize, Deserialize)]
struct Row {
    name: String,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    user: Option<String>,
    comm: Option<String>,
    exe: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    device: Option<String>,
    processes: Option<usize>,
    sum: Traffic,
    /// The most that one process moved through one device in 10 s.
    tx_peak_bytes: u64,
    rx_peak_bytes: u64,
    drops: Option<u64>,
    retransmits: Option<u64>,
    unattributed_bytes: Option<i64>,
    /// Bytes by equal parts of the period; null where nothing was measured.
    picture: Vec<Option<u64>>,
}

#[derive(Serialize, Deserialize)]
struct Others {
    number: usize,
    sum: Traffic,
}

/// Writes the answer.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn encode(args: &HistoryArgs, document: &Document) -> anyhow::Result<Vec<u8>> {
    Ok(match args.format {
        Format::Table => table(args, document).into_bytes(),
        Format::Json => [serde_json::to_vec_pretty(document)?, vec![b'\n']].concat(),
        Format::Ndjson => [serde_json::to_vec(document)?, vec![b'\n']].concat(),
        Format::Csv => csv(document)?,
    })
}

/// The document of an answer.
pub fn document(args: &HistoryArgs, answer: &Answer, boot: Option<&Boot>) -> Document {
    let mut users = (!args.numeric).then(Users::default);
    let part = |part: &Part| Resolution {
        resolution: part.resolution.suffix().into(),
        from: utc(part.from),
        to: utc(part.to),
    };
    Document {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        from: utc(answer.from),
        to: utc(answer.to),
        by: args.by.name().into(),
        last_boot: boot.map(|boot| LastBoot {
            boot_id: boot.boot_id.clone(),
            kernel: boot.kernel.clone(),
            last: utc(boot.last),
            clean: boot.is_clean,
        }),
        quality: Quality {
            resolution: answer.parts.iter().map(part).collect(),
            period_ms: (answer.to - answer.from) * 1000,
            measured_ms: answer.measured_ms,
            selected_ms: answer.selected_ms,
            gaps: answer.gaps.iter().map(|(from, to)| Gap { from: utc(*from), to: utc(*to) }).collect(),
            losses: answer.losses.iter().map(|(cause, count)| (cause.clone(), *count)).collect(),
            late_ms: answer.late_ms,
            clock_step_ms: answer.clock_step_ms,
            load_peak: answer.load_peak,
        },
        rows: answer.rows.iter().map(|row| of_row(args.by, row, answer, &mut users)).collect(),
        others: Others { number: answer.others_number, sum: traffic(&answer.others) },
    }
}

fn of_row(by: ByArg, row: &AnswerRow, answer: &Answer, users: &mut Option<Users>) -> Row {
    let who = &row.who;
    let is_process = by == ByArg::Process;
    let user = who.uid.and_then(|uid| users.as_mut().and_then(|users| users.name(uid)));
    let name = match (by, &user) {
        (ByArg::User, Some(user)) => user.clone(),
        _ => row.name.clone(),
    };
    Row {
        name,
        pid: is_process.then_some(who.pid),
        start_time_ns: who.start_time_ns.filter(|_| is_process),
        uid: who.uid,
        user,
        comm: is_process.then(|| who.comm.clone()),
        exe: who.exe.clone(),
        unit: who.unit.clone(),
        container: who.container.clone(),
        device: who.device.name.clone(),
        processes: (by != ByArg::Device).then_some(row.processes),
        sum: traffic(&row.counters),
        tx_peak_bytes: row.tx_peak_bytes,
        rx_peak_bytes: row.rx_peak_bytes,
        drops: (by != ByArg::Device).then_some(row.drops),
        retransmits: (by != ByArg::Device).then_some(row.retransmits),
        unattributed_bytes: row.unattributed_bytes,
        picture: (0..).zip(&row.picture).map(|(at, bytes)| is_measured(at, row, answer).then_some(*bytes)).collect(),
    }
}

/// Whether any of a part of the picture was measured.
fn is_measured(at: i64, row: &AnswerRow, answer: &Answer) -> bool {
    let columns = i64::try_from(row.picture.len()).unwrap_or(1).max(1);
    let edge = |at: i64| answer.from + (answer.to - answer.from) * at / columns;
    let (from, to) = (edge(at), edge(at + 1));
    !answer.gaps.iter().any(|(gap_from, gap_to)| *gap_from <= from && to <= *gap_to)
}

const fn traffic(counters: &Counters) -> Traffic {
    Traffic {
        tx: Amount { bytes: counters.tx_bytes, packets: counters.tx_packets, app_bytes: counters.tx_app_bytes },
        rx: Amount { bytes: counters.rx_bytes, packets: counters.rx_packets, app_bytes: counters.rx_app_bytes },
    }
}

pub fn utc(ts: i64) -> String {
    Timestamp::from_second(ts).map(|time| time.to_string()).unwrap_or_default()
}

/// As people have it, of a time of the document.
fn local(time: &str) -> String {
    let ts = time.parse::<Timestamp>().ok().map(Timestamp::as_second);
    ts.and_then(local_time).unwrap_or_else(|| time.to_owned())
}

fn table(args: &HistoryArgs, document: &Document) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, args, document);
    text
}

fn write(text: &mut String, args: &HistoryArgs, document: &Document) -> std::fmt::Result {
    if let Some(boot) = &document.last_boot {
        let end = if boot.clean { "nettopd was told to end" } else { "nettopd was not told to end" };
        writeln!(
            text,
            "boot {} of Linux {}: the record ends at {}; {end}",
            boot.boot_id,
            boot.kernel,
            local(&document.to)
        )?;
    }
    writeln!(text, "{} to {}, by {}", local(&document.from), local(&document.to), args.by.name())?;
    let is_process = args.by == ByArg::Process;
    let columns = document.rows.first().map_or(0, |row| row.picture.len());
    if is_process {
        write!(text, "{:>7} {:<8} ", "PID", "USER")?;
    }
    let (transmit, receive) = ("XMIT_KB", "RECV_KB");
    write!(text, "{transmit:>9} {receive:>9} {:>9} {:>9} {:>9} ", "XMIT_PK", "RECV_PK", "PEAK_KB/S")?;
    if args.by == ByArg::Device {
        write!(text, "{:>9} ", "UNATTR_KB")?;
    } else {
        write!(text, "{:>6} {:>7} ", "DROPS", "RETRANS")?;
    }
    let heading = if is_process { "COMMAND".into() } else { args.by.name().to_uppercase() };
    writeln!(text, "{:<columns$} {heading}", "PICTURE")?;
    for row in &document.rows {
        if is_process {
            let pid = row.pid.unwrap_or(0);
            let user = row.user.clone().or(row.uid.map(|uid| uid.to_string())).unwrap_or_else(|| "-".into());
            write!(text, "{pid:>7} {user:<8} ")?;
        }
        let Traffic { tx, rx } = &row.sum;
        let peak = (row.tx_peak_bytes + row.rx_peak_bytes) / 10 / KIB;
        write!(text, "{:>9} {:>9} {:>9} {:>9} {peak:>9} ", tx.bytes / KIB, rx.bytes / KIB, tx.packets, rx.packets)?;
        match row.unattributed_bytes {
            Some(bytes) => write!(text, "{:>9} ", bytes / KIB.cast_signed())?,
            None => write!(text, "{:>6} {:>7} ", row.drops.unwrap_or(0), row.retransmits.unwrap_or(0))?,
        }
        write!(text, "{} {}", picture(&row.picture), row.name)?;
        match &row.unit {
            Some(unit) if is_process => writeln!(text, " ({unit})")?,
            _ => writeln!(text)?,
        }
    }
    let Others { number, sum } = &document.others;
    if *number > 0 {
        let kib = (sum.tx.bytes + sum.rx.bytes) / KIB;
        writeln!(text, "{number} more moved {kib} KB")?;
    }
    writeln!(text)?;
    write_quality(text, args, &document.quality)
}

/// What the answer is made of.
fn write_quality(text: &mut String, args: &HistoryArgs, quality: &Quality) -> std::fmt::Result {
    let mut resolutions: Vec<&str> = quality.resolution.iter().map(|part| part.resolution.as_ref()).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let period_s = quality.period_ms / 1000;
    let resolutions = resolutions.join(", ");
    writeln!(text, "measured {} of {period_s} s, in steps of {resolutions}", quality.measured_ms / 1000)?;
    if args.when.is_some() {
        writeln!(text, "the condition held for {} s", quality.selected_ms / 1000)?;
    }
    let gaps: Vec<String> =
        quality.gaps.iter().take(5).map(|gap| format!("{} to {}", local(&gap.from), local(&gap.to))).collect();
    let more = if quality.gaps.len() > 5 { format!(", and {} more", quality.gaps.len() - 5) } else { String::new() };
    writeln!(text, "gaps: {}{more}", if gaps.is_empty() { "none".into() } else { gaps.join(", ") })?;
    let losses: Vec<String> = quality.losses.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    writeln!(text, "loss: {}", if losses.is_empty() { "none".into() } else { losses.join(", ") })?;
    if quality.clock_step_ms != 0 {
        writeln!(text, "the clock was set by {} ms", quality.clock_step_ms)?;
    }
    if let Some(load) = quality.load_peak {
        writeln!(text, "load: {load:.2} at most; readings up to {} ms late", quality.late_ms)?;
    }
    Ok(())
}

/// A bar for each part, against the highest; `?` where nothing was measured.
fn picture(parts: &[Option<u64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = parts.iter().flatten().max().copied().unwrap_or(0).max(1);
    let bar = |bytes: u64| {
        let eighth = u128::from(bytes) * 7 / u128::from(highest);
        BARS[usize::try_from(eighth).unwrap_or(7)]
    };
    let shown = parts.iter().map(|part| match part {
        None => '?',
        Some(0) => ' ',
        Some(bytes) => bar(*bytes),
    });
    shown.collect()
}

const HEADER: [&str; 21] = [
    "from",
    "to",
    "name",
    "pid",
    "start_time_ns",
    "uid",
    "user",
    "exe",
    "unit",
    "container",
    "device",
    "tx_bytes",
    "rx_bytes",
    "tx_packets",
    "rx_packets",
    "tx_app_bytes",
    "rx_app_bytes",
    "tx_peak_bytes",
    "rx_peak_bytes",
    "drops",
    "retransmits",
];

/// A line for each row; those beyond the top are one, without a name.
fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    let amounts = |sum: &Traffic| {
        let Traffic { tx, rx } = sum;
        [tx.bytes, rx.bytes, tx.packets, rx.packets, tx.app_bytes, rx.app_bytes].map(|number| number.to_string())
    };
    for row in &document.rows {
        let names = [
            document.from.clone(),
            document.to.clone(),
            safe(Some(&row.name)),
            number(row.pid),
            number(row.start_time_ns),
            number(row.uid),
            safe(row.user.as_deref()),
            safe(row.exe.as_deref()),
            safe(row.unit.as_deref()),
            safe(row.container.as_deref()),
            safe(row.device.as_deref()),
        ];
        let rest =
            [row.tx_peak_bytes.to_string(), row.rx_peak_bytes.to_string(), number(row.drops), number(row.retransmits)];
        writer.write_record(names.iter().chain(&amounts(&row.sum)).chain(&rest))?;
    }
    if document.others.number > 0 {
        let mut names = vec![String::new(); 11];
        (names[0], names[1]) = (document.from.clone(), document.to.clone());
        writer.write_record(names.into_iter().chain(amounts(&document.others.sum)).chain(vec![String::new(); 4]))?;
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_tells_nothing_moved_from_not_measured() {
        assert_eq!(picture(&[Some(0), Some(1), None, Some(700), Some(350)]), " ▁?█▄");
        assert_eq!(picture(&[Some(u64::MAX), Some(0)]), "█ ");
        assert_eq!(picture(&[]), "");
    }
}
