//! One line per row, device and loss counter, all under one header; and what every CSV writer has in common.

use csv::{Writer, WriterBuilder};
use nettop_kernel::events::Loss;
use nettop_model::{
    Resources, Snapshot,
    snapshot::{Count, DeviceReport, GroupReport, RowReport, Traffic},
};
use serde::Serialize;

pub use super::cells::Text;
use super::process_columns::ProcessColumns;
use crate::sys::clock::now;

/// Columns of whose and where it is, of its process, and of what was counted.
type Line<'a> = (Subject<'a>, ProcessColumns<'a>, Counted<'a>);

#[derive(Serialize, Default)]
struct Subject<'a> {
    time: &'a str,
    interval_ms: u64,
    record: &'a str,
    netns: Option<u32>,
    netns_cookie: Option<u32>,
    device: Text<'a>,
    ifindex: Option<u32>,
    pid: Option<u32>,
    start_time_ns: Option<u64>,
    uid: Option<u32>,
    user: Text<'a>,
    comm: Text<'a>,
}

#[derive(Serialize, Default)]
struct Counted<'a> {
    name: Text<'a>,
    processes: Option<u64>,
    owner: &'a str,
    tx_bytes: Option<u64>,
    tx_packets: Option<u64>,
    tx_app_bytes: Option<u64>,
    rx_bytes: Option<u64>,
    rx_packets: Option<u64>,
    rx_app_bytes: Option<u64>,
    tx_attributed_bytes: Option<u64>,
    tx_kernel_bytes: Option<u64>,
    tx_forwarded_bytes: Option<u64>,
    tx_upper_bytes: Option<u64>,
    tx_offload_bytes: Option<u64>,
    tx_pending_bytes: Option<u64>,
    tx_unattributed_bytes: Option<u64>,
    rx_attributed_bytes: Option<u64>,
    rx_kernel_bytes: Option<u64>,
    rx_forwarded_bytes: Option<u64>,
    rx_upper_bytes: Option<u64>,
    rx_offload_bytes: Option<u64>,
    rx_pending_bytes: Option<u64>,
    rx_unattributed_bytes: Option<u64>,
    total_tx_bytes: Option<u64>,
    total_rx_bytes: Option<u64>,
    drops: Option<u64>,
    retransmits: Option<u64>,
    total_drops: Option<u64>,
    total_retransmits: Option<u64>,
    value: Option<u64>,
    user_us: Option<u64>,
    system_us: Option<u64>,
    rss_mean_bytes: Option<u64>,
    read_bytes: Option<u64>,
    write_bytes: Option<u64>,
    runnable_mean: Option<f64>,
    blocked_mean: Option<f64>,
}

/// The lines of one report, with the header where it is the first.
///
/// # Errors
///
/// If the csv writer fails, which it does not in memory.
pub(super) fn csv(snapshot: &Snapshot, with_header: bool) -> anyhow::Result<Vec<u8>> {
    let subject =
        |record| Subject { time: &snapshot.time, interval_ms: snapshot.interval_ms, record, ..Subject::default() };
    let rows = snapshot.rows.iter().map(|row| of_row(row, subject("row")));
    let groups = snapshot.groups.iter().map(|group| of_group(group, subject("group")));
    let devices = snapshot.devices.iter().map(|device| of_device(device, subject("device")));
    let loss = snapshot.loss.entries().into_iter();
    let loss = loss.map(|(name, value)| {
        let subject = Subject { comm: Text(Some(name)), ..subject("loss") };
        (subject, ProcessColumns::default(), Counted { value: Some(value), ..Counted::default() })
    });
    records(rows.chain(groups).chain(devices).chain(loss), with_header)
}

fn of_row<'a>(row: &'a RowReport, subject: Subject<'a>) -> Line<'a> {
    let subject = Subject {
        netns: Some(row.netns),
        netns_cookie: Some(row.netns_cookie),
        device: Text(row.device.as_deref()),
        ifindex: row.ifindex,
        pid: Some(row.pid),
        start_time_ns: row.start_time_ns,
        uid: row.uid,
        user: Text(row.user.as_deref()),
        comm: Text(Some(&row.comm)),
        ..subject
    };
    let counted = counted(&row.interval, &row.total, [row.drops, row.retransmits]);
    let counted = Counted { owner: &row.owner, ..with_used(counted, row.resources.as_deref()) };
    (subject, ProcessColumns::from(&row.process), counted)
}

fn of_group<'a>(group: &'a GroupReport, subject: Subject<'a>) -> Line<'a> {
    let subject = Subject {
        netns: Some(group.netns),
        netns_cookie: Some(group.netns_cookie),
        device: Text(group.device.as_deref()),
        ifindex: group.ifindex,
        ..subject
    };
    let counted = Counted {
        name: Text(Some(&group.name)),
        processes: Some(group.processes),
        ..with_used(counted(&group.interval, &group.total, [group.drops, group.retransmits]), group.resources.as_ref())
    };
    (subject, ProcessColumns::default(), counted)
}

fn with_used<'a>(counted: Counted<'a>, used: Option<&Resources>) -> Counted<'a> {
    let Some(used) = used else { return counted };
    Counted {
        user_us: Some(used.user_us),
        system_us: Some(used.system_us),
        rss_mean_bytes: used.rss_mean_bytes,
        read_bytes: used.read_bytes,
        write_bytes: used.write_bytes,
        runnable_mean: Some(used.runnable_mean),
        blocked_mean: Some(used.blocked_mean),
        ..counted
    }
}

fn counted<'a>(interval: &Traffic, total: &Traffic, [drops, retransmits]: [Count; 2]) -> Counted<'a> {
    let (tx, rx) = (&interval.tx, &interval.rx);
    Counted {
        tx_bytes: Some(tx.bytes),
        tx_packets: Some(tx.packets),
        tx_app_bytes: Some(tx.app_bytes),
        rx_bytes: Some(rx.bytes),
        rx_packets: Some(rx.packets),
        rx_app_bytes: Some(rx.app_bytes),
        total_tx_bytes: Some(total.tx.bytes),
        total_rx_bytes: Some(total.rx.bytes),
        drops: Some(drops.interval),
        retransmits: Some(retransmits.interval),
        total_drops: Some(drops.total),
        total_retransmits: Some(retransmits.total),
        ..Counted::default()
    }
}

fn of_device<'a>(device: &'a DeviceReport, subject: Subject<'a>) -> Line<'a> {
    let (tx, rx) = (&device.interval.tx, &device.interval.rx);
    let of_tx = |bytes: u64| device.tx_basis.is_decided().then_some(bytes);
    let of_rx = |bytes: u64| device.rx_basis.is_decided().then_some(bytes);
    let subject = Subject {
        netns: Some(device.netns),
        netns_cookie: Some(device.netns_cookie),
        device: Text(Some(&device.device)),
        ifindex: Some(device.ifindex),
        ..subject
    };
    let counted = Counted {
        tx_bytes: Some(tx.bytes),
        tx_packets: Some(tx.packets),
        rx_bytes: Some(rx.bytes),
        rx_packets: Some(rx.packets),
        tx_attributed_bytes: Some(tx.attributed_bytes),
        tx_kernel_bytes: Some(tx.kernel_bytes),
        tx_forwarded_bytes: Some(tx.forwarded_bytes),
        tx_upper_bytes: Some(tx.upper_bytes),
        tx_offload_bytes: of_tx(tx.offload_bytes),
        tx_pending_bytes: of_tx(tx.pending_bytes),
        tx_unattributed_bytes: of_tx(tx.unattributed_bytes),
        rx_attributed_bytes: Some(rx.attributed_bytes),
        rx_kernel_bytes: Some(rx.kernel_bytes),
        rx_forwarded_bytes: Some(rx.forwarded_bytes),
        rx_upper_bytes: Some(rx.upper_bytes),
        rx_offload_bytes: of_rx(rx.offload_bytes),
        rx_pending_bytes: of_rx(rx.pending_bytes),
        rx_unattributed_bytes: of_rx(rx.unattributed_bytes),
        total_tx_bytes: Some(device.total.tx.bytes),
        total_rx_bytes: Some(device.total.rx.bytes),
        ..Counted::default()
    };
    (subject, ProcessColumns::default(), counted)
}

/// Lines whose columns are named as the members of their struct, below the header where that is wanted.
///
/// # Errors
///
/// If the csv writer fails, which it does not in memory.
pub fn records<L: Serialize + Default>(
    lines: impl IntoIterator<Item = L>,
    with_header: bool,
) -> anyhow::Result<Vec<u8>> {
    let header = if with_header { header::<L>()? } else { String::new() };
    let mut writer = WriterBuilder::new().has_headers(false).from_writer(header.into_bytes());
    for line in lines {
        writer.serialize(line)?;
    }
    Ok(writer.into_inner()?)
}

/// The csv writer has a header only for a line: where there is none, this is all.
fn header<L: Serialize + Default>() -> anyhow::Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.serialize(L::default())?;
    let mut header = String::from_utf8(writer.into_inner()?)?;
    header.truncate(header.find('\n').map_or(0, |end| end + 1));
    Ok(header)
}

/// First columns of every stream of events.
#[derive(Serialize, Default)]
struct FirstColumns<'a> {
    time: &'a str,
    event: &'a str,
}

/// Last columns of every stream of events: empty except in lines of losses.
#[derive(Serialize, Default)]
struct LossColumns {
    events_lost: Option<u64>,
    runs_skipped: Option<u64>,
}

/// A line of a stream of events; `C` has the columns that only this stream has.
type EventLine<'a, C> = (FirstColumns<'a>, C, LossColumns);

/// Appends the header of a stream of events.
pub fn push_event_header<C: Serialize + Default>(text: &mut String) {
    push(text, records::<EventLine<'_, C>>([], true));
}

/// Appends one event.
pub fn push_event<C: Serialize + Default>(text: &mut String, [time, event]: [&str; 2], columns: C) {
    push(text, records([(FirstColumns { time, event }, columns, LossColumns::default())], false));
}

/// Appends what was lost.
pub fn push_loss<C: Serialize + Default>(text: &mut String, loss: Loss) {
    let first = FirstColumns { time: &now(), event: "lost" };
    let last = LossColumns { events_lost: Some(loss.events), runs_skipped: Some(loss.runs_skipped) };
    push(text, records([(first, C::default(), last)], false));
}

fn push(text: &mut String, encoded: anyhow::Result<Vec<u8>>) {
    match encoded.and_then(|encoded| Ok(String::from_utf8(encoded)?)) {
        Ok(encoded) => text.push_str(&encoded),
        Err(error) => tracing::warn!("cannot encode an event: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use nettop_model::snapshot::Parent;

    use super::{super::cells::Parents, *};

    #[derive(Serialize, Default)]
    struct Line<'a> {
        name: Text<'a>,
        number: Option<u64>,
    }

    fn written<const N: usize>(lines: [Line<'_>; N], with_header: bool) -> String {
        String::from_utf8(records(lines, with_header).unwrap()).unwrap()
    }

    #[test]
    fn no_name_forges_an_ancestor() {
        let parent = |pid, comm: &str| Parent { pid, comm: comm.into(), ..Parent::default() };
        let parents = [parent(99, "a[1] > init"), parent(1, "systemd")];
        let mut writer = WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        writer.serialize((Parents(&parents), Parents(&[]))).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        assert_eq!(text, "systemd[1] > a[1] \\x3e init[99],\n");
    }

    #[test]
    fn the_header_is_there_once_and_without_lines_too() {
        assert_eq!((written([], true), written([], false)), ("name,number\n".to_owned(), String::new()));
        let lines = || [Line { name: Text(Some("a,b")), number: Some(1) }, Line::default()];
        assert_eq!(written(lines(), true), "name,number\n\"a,b\",1\n,\n");
        assert_eq!(written(lines(), false), "\"a,b\",1\n,\n");
    }

    #[test]
    fn a_loss_is_a_line_below_the_header_of_the_events() {
        let mut text = String::new();
        push_event_header::<Line<'_>>(&mut text);
        push_event(&mut text, ["now", "packet"], Line { name: Text(Some("a")), number: Some(1) });
        push_loss::<Line<'_>>(&mut text, Loss { events: 2, runs_skipped: 3 });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["time,event,name,number,events_lost,runs_skipped", "now,packet,a,1,,"]);
        assert!(lines[2].ends_with(",lost,,,2,3"), "{text}");
    }

    #[test]
    fn no_name_is_a_formula() {
        for name in ["=1", "+1", "-1", "@1"] {
            assert_eq!(written([Line { name: Text(Some(name)), number: None }], false), format!("'{name},\n"));
        }
    }
}
