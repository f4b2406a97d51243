//! The table for people.

use std::{fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use nettop_history::local_time;
use nettop_model::{
    By, ProcessNames,
    history::{Document, Others, Quality, Row},
    snapshot::Traffic,
};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    query::history::HistoryArgs,
    render::{ancestry::ancestry, table::KIB},
};

/// Local form of a time of the document.
fn local(time: &str) -> String {
    let ts = time.parse::<Timestamp>().ok().map(Timestamp::as_second);
    ts.and_then(local_time).unwrap_or_else(|| time.to_owned())
}

/// The whole table, with what it is made of.
pub fn table(args: &HistoryArgs, document: &Document) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, args, document);
    text
}

fn write(text: &mut String, args: &HistoryArgs, document: &Document) -> std::fmt::Result {
    if let Some(boot) = &document.last_boot {
        let end = if boot.clean { "nettopd was stopped in order" } else { "nettopd did not end in order" };
        writeln!(
            text,
            "boot {} of Linux {}: the record ends at {}; {end}",
            boot.boot_id,
            boot.kernel,
            local(&document.to)
        )?;
    }
    writeln!(text, "{} to {}, by {}", local(&document.from), local(&document.to), args.query.by.name())?;
    let is_process = args.query.by == By::Process;
    let columns = document.rows.first().map_or(0, |row| row.sparkline.len());
    let users = document.rows.iter().map(user).map(|user| user.width()).max().unwrap_or(0).max(8);
    if is_process {
        write!(text, "{:>7} {:<users$} ", "PID", "USER")?;
    }
    let (transmit, receive) = ("XMIT_KB", "RECV_KB");
    write!(text, "{transmit:>9} {receive:>9} {:>9} {:>9} {:>9} ", "XMIT_PK", "RECV_PK", "PEAK_KB/S")?;
    if args.query.by == By::Device {
        write!(text, "{:>9} ", "UNATTR_KB")?;
    } else {
        write!(text, "{:>6} {:>7} ", "DROPS", "RETRANS")?;
    }
    let heading = if is_process { "COMMAND".into() } else { args.query.by.name().to_uppercase() };
    writeln!(text, "{:<columns$} {heading}", "TREND")?;
    for row in &document.rows {
        if is_process {
            let pid = row.pid.unwrap_or(0);
            write!(text, "{pid:>7} {:<users$} ", user(row))?;
        }
        let Traffic { tx, rx } = &row.sum;
        let peak = (row.tx_peak_bytes + row.rx_peak_bytes) / 10 / KIB;
        write!(text, "{:>9} {:>9} {:>9} {:>9} {peak:>9} ", tx.bytes / KIB, rx.bytes / KIB, tx.packets, rx.packets)?;
        match row.unattributed_bytes {
            Some(bytes) => write!(text, "{:>9} ", bytes / KIB)?,
            None => write!(text, "{:>6} {:>7} ", row.drops.unwrap_or(0), row.retransmits.unwrap_or(0))?,
        }
        write!(text, "{} ", sparkline(&row.sparkline))?;
        if is_process && args.ancestry {
            writeln!(text, "{}", ancestry(&row.name, &names(row)))?;
            continue;
        }
        write!(text, "{}", row.name)?;
        match (&row.unit, row.undecided_bytes) {
            (Some(unit), _) if is_process => writeln!(text, " ({unit})")?,
            (_, Some(bytes)) if bytes > 0 => writeln!(text, " ({} KB undecided)", bytes / KIB)?,
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

fn names(row: &Row) -> ProcessNames {
    ProcessNames {
        exe: row.exe.clone(),
        script: row.script.clone(),
        cgroup: row.cgroup.clone(),
        unit: row.unit.clone(),
        container: row.container.clone(),
        names: Arc::new(row.names.clone()),
        parents: row.parents.clone().into(),
        login: Arc::new(row.login.clone()),
        arguments: row.arguments.clone().map(Into::into),
    }
}

fn user(row: &Row) -> String {
    row.user.clone().or(row.uid.map(|uid| uid.to_string())).unwrap_or_else(|| "-".into())
}

/// What the answer is made of.
fn write_quality(text: &mut String, args: &HistoryArgs, quality: &Quality) -> std::fmt::Result {
    let mut resolutions: Vec<&str> = quality.resolution.iter().map(|part| part.resolution.as_ref()).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let period_s = quality.period_ms / 1000;
    let resolutions = resolutions.join(", ");
    writeln!(text, "measured {} of {period_s} s, in steps of {resolutions}", quality.measured_ms / 1000)?;
    if args.query.when.is_some() {
        writeln!(text, "the condition held for {} s", quality.selected_ms / 1000)?;
    }
    let gaps: Vec<String> =
        quality.gaps.iter().take(5).map(|gap| format!("{} to {}", local(&gap.from), local(&gap.to))).collect();
    let more = if quality.gaps.len() > 5 { format!(", and {} more", quality.gaps.len() - 5) } else { String::new() };
    writeln!(text, "gaps: {}{more}", if gaps.is_empty() { "none".into() } else { gaps.join(", ") })?;
    let losses: Vec<String> = quality.losses.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    writeln!(text, "loss: {}", if losses.is_empty() { "none".into() } else { losses.join(", ") })?;
    if let Some(number) = quality.namespaces_unread.filter(|number| *number > 0) {
        writeln!(text, "namespaces whose devices could not be read: {number} at most")?;
    }
    if quality.clock_step_ms != 0 {
        writeln!(text, "the clock was set by {} ms", quality.clock_step_ms)?;
    }
    if let Some(load) = quality.load_peak {
        writeln!(text, "load: {load:.2} at most; readings up to {} ms late", quality.late_ms)?;
    }
    Ok(())
}

/// A bar for each part, against the highest; `?` where nothing was measured.
fn sparkline(parts: &[Option<u64>]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_distinguishes_zero_from_not_measured() {
        assert_eq!(sparkline(&[Some(0), Some(1), None, Some(700), Some(350)]), " ▁?█▄");
        assert_eq!(sparkline(&[Some(u64::MAX), Some(0)]), "█ ");
        assert_eq!(sparkline(&[]), "");
    }
}
