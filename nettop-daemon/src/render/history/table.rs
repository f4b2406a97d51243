//! The table for people.

use std::fmt::Write as _;

use jiff::Timestamp;
use nettop_history::local_time;
use nettop_model::{
    By,
    history::{Disk, Document, Hog, Host, Others, Quality, Resources, Row},
    snapshot::Traffic,
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{
    query::history::{HistoryArgs, OrderArg},
    render::{
        ancestry::ancestry,
        table::{KIB, amounts_used},
    },
    sys::signals::signal_name,
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
    if let Some(hogs) = &document.hogs {
        for Hog { measure, sentence, row, .. } in hogs {
            writeln!(text, "{measure:<6} {} {sentence}", sparkline(&row.sparkline))?;
        }
        writeln!(text)?;
        return write_quality(text, args, &document.quality);
    }
    let is_process = args.query.by == By::Process;
    let columns = document.rows.first().map_or(0, |row| row.sparkline.len());
    let users = document.rows.iter().map(user).map(|user| user.width()).max().unwrap_or(0).max(8);
    let shows_resources = shows_resources(args, document);
    if is_process {
        write!(text, "{:>7} {:<users$} ", "PID", "USER")?;
    }
    let heading = if is_process { "COMMAND".into() } else { args.query.by.name().to_uppercase() };
    if shows_resources {
        let columns = columns.min(MAX_TREND);
        write!(
            text,
            "{:>6} {:>7} {:>9} {:>6} {:>9} {:>9} ",
            "CPU%", "MEM_MB", "DISK_KB", "LOAD", "XMIT_KB", "RECV_KB"
        )?;
        writeln!(text, "{:<columns$} {heading}", "TREND")?;
        write_used(text, args, document, users)?;
        writeln!(text)?;
        return write_quality(text, args, &document.quality);
    }
    let (transmit, receive) = ("XMIT_KB", "RECV_KB");
    write!(text, "{transmit:>9} {receive:>9} {:>9} {:>9} {:>9} ", "XMIT_PK", "RECV_PK", "PEAK_KB/S")?;
    if args.query.by == By::Device {
        write!(text, "{:>9} ", "UNATTR_KB")?;
    } else {
        write!(text, "{:>6} {:>7} ", "DROPS", "RETRANS")?;
    }
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
            writeln!(text, "{}", ancestry(&row.name, &row.process))?;
            continue;
        }
        write!(text, "{}", row.name)?;
        match (&row.process.unit, row.undecided_bytes) {
            (Some(unit), _) if is_process => writeln!(text, " ({unit})")?,
            (_, Some(bytes)) if bytes > 0 => writeln!(text, " ({} KB undecided)", bytes / KIB)?,
            _ => writeln!(text)?,
        }
    }
    let Others { number, sum, .. } = &document.others;
    if *number > 0 {
        let kib = (sum.tx.bytes + sum.rx.bytes) / KIB;
        writeln!(text, "{number} more moved {kib} KB")?;
    }
    writeln!(text)?;
    write_quality(text, args, &document.quality)
}

/// A trend in the table of resources is not wider, so that a line has 100 columns.
const MAX_TREND: usize = 12;

/// Of a line of that table, unless a name alone is too long.
const MAX_WIDTH: usize = 100;
/// A unit of which less is left is left out.
const MIN_UNIT: usize = 4;

/// As much of a unit as there is room for, with an ellipsis if that is not all.
fn cut(unit: &str, room: usize) -> Option<String> {
    if unit.width() <= room {
        return Some(unit.into());
    }
    let mut width = 1;
    let fits = |letter: &char| {
        width += letter.width().unwrap_or(0);
        width <= room
    };
    let kept: String = unit.chars().take_while(fits).collect();
    (room >= MIN_UNIT).then(|| kept + "…")
}

/// Those, unless the order is by a column of the other table, or they were not recorded.
fn shows_resources(args: &HistoryArgs, document: &Document) -> bool {
    let is_of_traffic =
        matches!(args.query.sort, OrderArg::Packets | OrderArg::Peak | OrderArg::Drops | OrderArg::Retrans);
    !is_of_traffic && document.rows.iter().any(|row| row.resources.is_some())
}

fn write_used(text: &mut String, args: &HistoryArgs, document: &Document, users: usize) -> std::fmt::Result {
    let is_process = args.query.by == By::Process;
    for row in &document.rows {
        if is_process {
            let pid = row.pid.unwrap_or(0);
            write!(text, "{pid:>7} {:<users$} ", user(row))?;
        }
        let trend = sparkline(&narrowed(&row.sparkline));
        let before = format!("{} {trend} ", amounts(row.resources.as_ref(), &row.sum));
        if is_process && args.ancestry {
            writeln!(text, "{before}{}", ancestry(&row.name, &row.process))?;
            continue;
        }
        let ending = row.resources.as_ref().and_then(ending).map_or_else(String::new, |how| format!(" {how}"));
        let used = before.width() + row.name.width() + ending.width() + if is_process { 7 + 1 + users + 1 } else { 0 };
        let unit = row.process.unit.as_deref().filter(|_| is_process);
        let unit = unit.and_then(|unit| cut(unit, MAX_WIDTH.saturating_sub(used + " ()".len())));
        let unit = unit.map_or_else(String::new, |unit| format!(" ({unit})"));
        writeln!(text, "{before}{}{unit}{ending}", row.name)?;
    }
    let Others { number, sum, resources } = &document.others;
    if *number > 0 {
        let before = if is_process { 7 + 1 + users + 1 } else { 0 };
        writeln!(text, "{:before$}{} {number} more", "", amounts(resources.as_ref(), sum))?;
    }
    Ok(())
}

fn amounts(used: Option<&Resources>, sum: &Traffic) -> String {
    let [cpu, memory, disk, load] = amounts_used(used);
    format!("{cpu:>6} {memory:>7} {disk:>9} {load:>6} {:>9} {:>9}", sum.tx.bytes / KIB, sum.rx.bytes / KIB)
}

/// How it ended, unless that was in order; or how many of it did.
fn ending(used: &Resources) -> Option<String> {
    let signal = used.exit_signal.map(signal_name);
    let to_free = if used.oom_kills > Some(0) { ", to free memory" } else { "" };
    match (signal, used.exit_code, used.exits_signaled.unwrap_or(0), used.exits_failed.unwrap_or(0)) {
        (Some(signal), ..) => Some(format!("ended by {signal}{to_free}")),
        (_, Some(0), ..) | (.., 0, 0) => None,
        (_, Some(code), ..) => Some(format!("ended with code {code}")),
        (.., 0, failed) => Some(format!("{failed} ended with a code")),
        (.., signaled, 0) => Some(format!("{signaled} ended by a signal{to_free}")),
        (.., signaled, failed) => Some(format!("{signaled} ended by a signal{to_free}, {failed} with a code")),
    }
}

/// Fewer parts, of which each has all of some.
fn narrowed(parts: &[Option<u64>]) -> Vec<Option<u64>> {
    let number = parts.len().div_ceil(MAX_TREND).max(1);
    parts.chunks(number).map(|some| some.iter().flatten().copied().reduce(u64::saturating_add)).collect()
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
    if let Some(host) = &quality.host {
        writeln!(text, "{}", of_host(host))?;
    }
    let disks: Vec<String> = quality.disks.iter().take(MAX_SHOWN_DISKS).filter_map(of_disk).collect();
    if disks.is_empty() { Ok(()) } else { writeln!(text, "disks: {}", disks.join("; ")) }
}

const MAX_SHOWN_DISKS: usize = 4;

/// Unless it had hardly anything to do.
pub fn of_disk(disk: &Disk) -> Option<String> {
    let Disk { name, mounted_on, busy_percent, in_flight_mean, .. } = disk;
    let mounted = mounted_on.as_ref().map_or_else(String::new, |path| format!(" ({path})"));
    (*busy_percent >= 1.0 || *in_flight_mean >= 0.1).then(|| {
        format!(
            "{name}{mounted} was busy for {busy_percent:.0} % of the time, with {in_flight_mean:.1} requests in flight"
        )
    })
}

/// In one line.
fn of_host(host: &Host) -> String {
    let Host { user_ms, system_ms, irq_ms, iowait_ms, idle_ms, steal_ms, .. } = *host;
    let all_ms = (user_ms + system_ms + irq_ms + iowait_ms + idle_ms + steal_ms).max(1);
    let percent = |ms: u64| ms * 100 / all_ms;
    let mib = |bytes: u64| bytes / KIB / KIB;
    let mut line = format!(
        "host: CPU {} % user, {} % system, {} % interrupts, {} % waiting for I/O; memory {} of {} MB used at most, swap {} MB; disk {} KB read, {} KB written",
        percent(user_ms),
        percent(system_ms),
        percent(irq_ms),
        percent(iowait_ms),
        mib(host.memory_used_bytes),
        mib(host.memory_bytes),
        mib(host.swap_used_bytes),
        host.disk_read_bytes / KIB,
        host.disk_write_bytes / KIB
    );
    if host.oom_kills > 0 {
        line += &format!("; {} processes ended to free memory", host.oom_kills);
    }
    line
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
    fn a_unit_takes_the_room_that_is_left() {
        assert_eq!(cut("backup.service", 14).as_deref(), Some("backup.service"));
        assert_eq!(cut("backup.service", 8).as_deref(), Some("backup.…"));
        assert_eq!((cut("backup.service", 3), cut("a", 0), cut("é", 1).as_deref()), (None, None, Some("é")));
        assert_eq!(cut("服務服務", 6).as_deref(), Some("服務…"), "letters of two columns");
    }

    #[test]
    fn an_end_is_told_unless_it_was_in_order() {
        let one = |code, signal, oom_kills| {
            let used = Resources {
                exits: Some(1),
                exits_failed: Some(u64::from(code > Some(0))),
                exits_signaled: Some(u64::from(signal > Some(0))),
                exit_code: code,
                exit_signal: signal,
                oom_kills: Some(oom_kills),
                ..Resources::default()
            };
            ending(&used)
        };
        assert_eq!((one(None, None, 0), one(Some(0), None, 0)), (None, None));
        assert_eq!(one(Some(3), None, 0).as_deref(), Some("ended with code 3"));
        assert_eq!(one(None, Some(9), 1).as_deref(), Some("ended by SIGKILL, to free memory"));
        assert_eq!(one(None, Some(40), 0).as_deref(), Some("ended by signal 40"));
        let more = |signaled, failed| {
            ending(&Resources { exits_signaled: Some(signaled), exits_failed: Some(failed), ..Resources::default() })
        };
        assert_eq!(more(0, 0), None);
        assert_eq!(more(2, 3).as_deref(), Some("2 ended by a signal, 3 with a code"));
        assert_eq!(more(0, 3).as_deref(), Some("3 ended with a code"));
    }

    #[test]
    fn a_trend_is_narrowed_without_losing_anything() {
        let wide: Vec<Option<u64>> = (0..24).map(Some).chain([None, None, None]).collect();
        let narrow = narrowed(&wide);
        assert_eq!(narrow.len(), 9);
        assert_eq!((narrow[0], narrow[8]), (Some(3), None));
        assert_eq!(narrow.iter().flatten().sum::<u64>(), 23 * 12);
        assert_eq!(narrowed(&wide[..6]), wide[..6]);
    }

    #[test]
    fn a_sparkline_distinguishes_zero_from_not_measured() {
        assert_eq!(sparkline(&[Some(0), Some(1), None, Some(700), Some(350)]), " ▁?█▄");
        assert_eq!(sparkline(&[Some(u64::MAX), Some(0)]), "█ ");
        assert_eq!(sparkline(&[]), "");
    }
}
