//! The worst of each measure in a period, and a sentence about each.

use nettop_history::{Order, Question, Reader, local_time};
use nettop_model::{
    By,
    history::{Disk, Document, Hog, Resources, Row},
};

use super::document::document;
use crate::{error::Usage, query::history::HistoryQuery, render::history::of_disk, sys::signals::signal_name};

/// By name.
const MEASURES: [(&str, Order); 7] = [
    ("cpu", Order::Cpu),
    ("mem", Order::Memory),
    ("disk", Order::Disk),
    ("load", Order::Load),
    ("bytes", Order::Bytes),
    ("oom", Order::OomKills),
    ("exits", Order::Exits),
];
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// What is not told apart is nobody; so are the kernel's own packets. They have no pid, but any process may have such a name,
/// and those of one name that are added up have no pid.
const NOBODY: [&str; 4] = ["[other]", "[kernel]", "[overflow]", "-"];

/// Asks for each measure. One that nobody used is left out.
///
/// # Errors
///
/// [`Usage`] if they are to be devices, else if the file cannot be read.
pub fn hogs(query: &HistoryQuery, reader: &Reader, question: &Question) -> anyhow::Result<Vec<Hog>> {
    if question.by == By::Device {
        return Err(Usage::new("devices use nothing but the network: leave out --hogs, or --by device").into());
    }
    let mut hogs = Vec::new();
    for (measure, order) in MEASURES {
        // Some of the first may be nobody.
        let top = 1 + NOBODY.len();
        let answer = reader.answer(&Question { order, top, ..question.clone() })?;
        let document = document(query, &answer, None);
        let all: f64 =
            document.rows.iter().map(|row| amount(measure, row)).sum::<f64>() + of_others(measure, &document);
        let first = document.rows.iter().find(|row| !is_nobody(question.by, row));
        if let Some(row) = first.filter(|row| amount(measure, row) > 0.0) {
            let since_ts = since(row, answer.from, answer.to);
            let since = since_ts.and_then(local_time);
            let mut sentence = sentence(measure, row, all, since.as_deref());
            if is_about_disks(measure, row)
                && let Some(disk) = waited_for(&document.quality.disks).and_then(of_disk)
            {
                sentence += &format!("; in the whole period {disk}");
            }
            hogs.push(Hog {
                measure: measure.into(),
                since: since_ts.map(super::document::utc),
                sentence,
                row: row.clone(),
            });
        }
    }
    Ok(hogs)
}

fn is_nobody(by: By, row: &Row) -> bool {
    match by {
        By::Process => row.pid.unwrap_or(0) == 0 && NOBODY.contains(&row.name.as_str()),
        _ => NOBODY.contains(&row.name.as_str()),
    }
}

/// Whether it moved bytes of disks, or waited as one does for them.
fn is_about_disks(measure: &str, row: &Row) -> bool {
    let blocked = row.resources.is_some_and(|used| used.blocked_mean >= used.runnable_mean);
    measure == "disk" || measure == "load" && blocked
}

/// The disk with the most requests in flight: the kernel does not tell for which one a thread waits. Of a disk and its only busy
/// partition, that which is mounted.
fn waited_for(disks: &[Disk]) -> Option<&Disk> {
    let most = disks.first()?;
    let is_the_same = |disk: &&Disk| {
        disk.mounted_on.is_some()
            && disk.in_flight_mean >= 0.9 * most.in_flight_mean
            && disk.busy_percent >= 0.9 * most.busy_percent
    };
    disks.iter().find(is_the_same).or(Some(most))
}

/// How much of a measure a row has.
fn amount(measure: &str, row: &Row) -> f64 {
    if measure == "bytes" { float(row.sum.tx.bytes + row.sum.rx.bytes) } else { used(measure, row.resources.as_ref()) }
}

fn of_others(measure: &str, document: &Document) -> f64 {
    let others = &document.others;
    match measure {
        "bytes" => float(others.sum.tx.bytes + others.sum.rx.bytes),
        _ => used(measure, others.resources.as_ref()),
    }
}

fn used(measure: &str, resources: Option<&Resources>) -> f64 {
    let Some(used) = resources else { return 0.0 };
    match measure {
        "cpu" => float(used.user_us + used.system_us),
        "mem" => float(used.rss_mean_bytes.unwrap_or(0)),
        "disk" => float(used.read_bytes.unwrap_or(0) + used.write_bytes.unwrap_or(0)),
        "oom" => float(used.oom_kills.unwrap_or(0)),
        "exits" => float(used.exits_signaled.unwrap_or(0) + used.exits_failed.unwrap_or(0)),
        _ => used.load(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
const fn float(number: u64) -> f64 {
    number as f64
}

/// When it had half of the highest part for the first time.
fn since(row: &Row, from: i64, to: i64) -> Option<i64> {
    let highest = row.sparkline.iter().flatten().max().copied()?;
    let at = row.sparkline.iter().position(|part| part.is_some_and(|part| part >= highest.div_ceil(2)))?;
    let (at, parts) = (i64::try_from(at).ok()?, i64::try_from(row.sparkline.len()).ok()?);
    Some(from + (to - from) * at / parts)
}

fn sentence(measure: &str, row: &Row, all: f64, since: Option<&str>) -> String {
    let unit = row.process.unit.as_ref().filter(|unit| **unit != row.name);
    let name = unit.map_or_else(|| row.name.clone(), |unit| format!("{} ({unit})", row.name));
    let share = amount(measure, row) / all * 100.0;
    let since = since.map_or_else(String::new, |since| format!(", from {since}"));
    let Some(used) = row.resources.filter(|_| measure != "bytes") else {
        let kib = (row.sum.tx.bytes + row.sum.rx.bytes) / KIB;
        return format!("{name} moved {kib} KB, {share:.0} % of all{since}");
    };
    let mib = |bytes: Option<u64>| bytes.unwrap_or(0) / MIB;
    let kib = |bytes: Option<u64>| bytes.unwrap_or(0) / KIB;
    match measure {
        "cpu" => format!("{name} used {:.0} % of a CPU, {share:.0} % of what all used{since}", used.cpu_percent),
        "mem" => {
            let end = if used.oom_kills > Some(0) { "; the kernel ended it to free memory" } else { "" };
            let (mean, peak) = (mib(used.rss_mean_bytes), mib(used.rss_peak_bytes));
            format!("{name} had {mean} MB resident, {peak} MB at most{since}{end}")
        }
        "disk" => {
            let (read, written) = (kib(used.read_bytes), kib(used.write_bytes));
            format!("{name} read {read} KB and wrote {written} KB, {share:.0} % of what all did{since}")
        }
        "oom" => {
            let processes = processes(used.oom_kills.unwrap_or(0));
            let peak = mib(used.rss_peak_bytes);
            format!("{processes} of {name} ended by the kernel to free memory, with {peak} MB at most{since}")
        }
        "exits" => exits(&name, &used, &since),
        _ => {
            let load = used.load();
            let blocked = used.blocked_mean;
            format!(
                "{name} had {load:.1} of {all:.1} threads in the load, {blocked:.1} in uninterruptible waits{since}"
            )
        }
    }
}

fn processes(number: u64) -> String {
    if number == 1 { "1 process".into() } else { format!("{number} processes") }
}

/// The status of one is known, and of more how many there were.
fn exits(name: &str, used: &Resources, since: &str) -> String {
    match (used.exit_signal, used.exit_code) {
        (Some(signal), _) => format!("{name} ended by {}{since}", signal_name(signal)),
        (None, Some(code)) => format!("{name} ended with code {code}{since}"),
        (None, None) => {
            let (signaled, failed) = (used.exits_signaled.unwrap_or(0), used.exits_failed.unwrap_or(0));
            format!("{} of {name} ended by a signal, {failed} with a code that is not 0{since}", processes(signaled))
        }
    }
}

#[cfg(test)]
mod tests {
    use nettop_model::ProcessNames;

    use super::*;

    #[test]
    fn a_hog_begins_where_it_had_half_of_its_most() {
        let row = |parts: &[Option<u64>]| Row { sparkline: parts.to_vec(), ..Row::default() };
        assert_eq!(since(&row(&[Some(0), None, Some(4), Some(9), Some(8)]), 1000, 1050), Some(1030));
        assert_eq!(since(&row(&[Some(4), Some(5), Some(9)]), 1000, 1030), Some(1010), "half, rounded up");
        assert_eq!(since(&row(&[None, None]), 0, 20), None);
        assert_eq!(since(&row(&[]), 0, 20), None);
    }

    #[test]
    fn no_process_hides_behind_a_name() {
        let row = |pid, name: &str| Row { pid, name: name.into(), ..Row::default() };
        for name in NOBODY {
            assert!(!is_nobody(By::Process, &row(Some(7), name)), "{name}");
            assert!(is_nobody(By::Process, &row(Some(0), name)) && is_nobody(By::Unit, &row(None, name)), "{name}");
        }
        assert!(!is_nobody(By::Process, &row(Some(0), "cc1")), "many of one name");
        assert!(!is_nobody(By::Unit, &row(None, "cron.service")));
    }

    #[test]
    fn the_disk_that_is_named_is_mounted_if_that_is_the_same() {
        let disk = |name: &str, mounted_on: Option<&str>, in_flight_mean, busy_percent| Disk {
            name: name.into(),
            mounted_on: mounted_on.map(Into::into),
            in_flight_mean,
            busy_percent,
            ..Disk::default()
        };
        let root = disk("sdb1", Some("/"), 2.0, 10.0);
        let disks = [disk("sda", None, 31.0, 98.0), disk("sda2", Some("/srv"), 30.5, 97.0), root.clone()];
        assert_eq!(waited_for(&disks).unwrap().name, "sda2");
        let disks = [disk("sda", None, 31.0, 98.0), root.clone()];
        assert_eq!(waited_for(&disks).unwrap().name, "sda", "swap, or what a machine is in");
        let disks = [disk("nvme0n1", None, 0.0, 80.0), disk("sdb1", Some("/"), 0.0, 1.0)];
        assert_eq!(waited_for(&disks).unwrap().name, "nvme0n1", "a fast one has no requests at a reading");
        assert_eq!(waited_for(&[]), None);
        assert_eq!(
            of_disk(&disk("sda2", Some("/srv"), 30.5, 98.4)).unwrap(),
            "sda2 (/srv) was busy for 98 % of the time, with 30.5 requests in flight"
        );
        assert_eq!(of_disk(&disk("sdb1", Some("/"), 0.05, 0.9)), None);
    }

    #[test]
    fn a_sentence_has_the_amount_the_share_and_the_time() {
        let used =
            Resources { blocked_mean: 38.0, runnable_mean: 0.5, cpu_percent: 12.4, user_us: 3, ..Resources::default() };
        let process = ProcessNames { unit: Some("nfs.service".into()), ..ProcessNames::default() };
        let row = Row { name: "nfsd".into(), process, resources: Some(used), ..Row::default() };
        assert_eq!(
            sentence("load", &row, 41.0, Some("22:08:10")),
            "nfsd (nfs.service) had 38.5 of 41.0 threads in the load, 38.0 in uninterruptible waits, from 22:08:10"
        );
        let ended = |used| Row { resources: Some(used), ..row.clone() };
        let oom = ended(Resources { oom_kills: Some(1), rss_peak_bytes: Some(48 * MIB), ..used });
        assert_eq!(
            sentence("oom", &oom, 1.0, Some("22:08:10")),
            "1 process of nfsd (nfs.service) ended by the kernel to free memory, with 48 MB at most, from 22:08:10"
        );
        let one = ended(Resources { exits_signaled: Some(1), exit_signal: Some(11), ..used });
        assert_eq!(sentence("exits", &one, 1.0, None), "nfsd (nfs.service) ended by SIGSEGV");
        let more = ended(Resources { exits_signaled: Some(2), exits_failed: Some(3), ..used });
        assert_eq!(
            sentence("exits", &more, 5.0, None),
            "2 processes of nfsd (nfs.service) ended by a signal, 3 with a code that is not 0"
        );
        assert_eq!(sentence("cpu", &row, 4.0, None), "nfsd (nfs.service) used 12 % of a CPU, 75 % of what all used");
    }
}
