//! One line per row, device and loss counter, all under one header.

use super::model::{Amount, Side, Snapshot};

const HEADER: [&str; 35] = [
    "time",
    "interval_ms",
    "record",
    "netns",
    "netns_cookie",
    "device",
    "ifindex",
    "pid",
    "start_time_ns",
    "uid",
    "user",
    "comm",
    "exe",
    "unit",
    "container",
    "owner",
    "tx_bytes",
    "tx_packets",
    "tx_app_bytes",
    "rx_bytes",
    "rx_packets",
    "rx_app_bytes",
    "tx_attributed_bytes",
    "tx_kernel_bytes",
    "tx_unattributed_bytes",
    "rx_attributed_bytes",
    "rx_kernel_bytes",
    "rx_unattributed_bytes",
    "total_tx_bytes",
    "total_rx_bytes",
    "drops",
    "retransmits",
    "total_drops",
    "total_retransmits",
    "value",
];

/// The lines of one report, with the header where it is the first.
///
/// # Errors
///
/// If the csv writer fails, which it does not in memory.
pub(super) fn csv(snapshot: &Snapshot, with_header: bool) -> anyhow::Result<Vec<u8>> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    if with_header {
        writer.write_record(HEADER)?;
    }
    let line = |record, fields: &[(&str, String)]| line(&HEADER, snapshot, record, fields);
    for row in &snapshot.rows {
        let mut fields = vec![
            ("netns", row.netns.to_string()),
            ("netns_cookie", row.netns_cookie.to_string()),
            ("device", text(row.device.as_deref())),
            ("ifindex", number(row.ifindex)),
            ("pid", row.pid.to_string()),
            ("start_time_ns", number(row.start_time_ns)),
            ("uid", number(row.uid)),
            ("user", text(row.user.as_deref())),
            ("comm", text(Some(&row.comm))),
            ("exe", text(row.exe.as_deref())),
            ("unit", text(row.unit.as_deref())),
            ("container", text(row.container.as_deref())),
            ("owner", row.owner.to_string()),
            ("total_tx_bytes", row.total.tx.bytes.to_string()),
            ("total_rx_bytes", row.total.rx.bytes.to_string()),
            ("drops", row.drops.interval.to_string()),
            ("retransmits", row.retransmits.interval.to_string()),
            ("total_drops", row.drops.total.to_string()),
            ("total_retransmits", row.retransmits.total.to_string()),
        ];
        fields.extend(amount(["tx_bytes", "tx_packets", "tx_app_bytes"], &row.interval.tx));
        fields.extend(amount(["rx_bytes", "rx_packets", "rx_app_bytes"], &row.interval.rx));
        writer.write_record(line("row", &fields))?;
    }
    for device in &snapshot.devices {
        let (tx, rx) = (&device.interval.tx, &device.interval.rx);
        let mut fields = vec![
            ("netns", device.netns.to_string()),
            ("netns_cookie", device.netns_cookie.to_string()),
            ("device", text(Some(&device.device))),
            ("ifindex", device.ifindex.to_string()),
            ("tx_bytes", tx.bytes.to_string()),
            ("tx_packets", tx.packets.to_string()),
            ("rx_bytes", rx.bytes.to_string()),
            ("rx_packets", rx.packets.to_string()),
            ("total_tx_bytes", device.total.tx.bytes.to_string()),
            ("total_rx_bytes", device.total.rx.bytes.to_string()),
        ];
        fields.extend(side(["tx_attributed_bytes", "tx_kernel_bytes", "tx_unattributed_bytes"], tx));
        fields.extend(side(["rx_attributed_bytes", "rx_kernel_bytes", "rx_unattributed_bytes"], rx));
        writer.write_record(line("device", &fields))?;
    }
    for (name, value) in snapshot.loss.entries() {
        writer.write_record(line("loss", &[("comm", name.to_owned()), ("value", value.to_string())]))?;
    }
    Ok(writer.into_inner()?)
}

fn amount(names: [&'static str; 3], amount: &Amount) -> [(&'static str, String); 3] {
    let [bytes, packets, app_bytes] = names;
    [
        (bytes, amount.bytes.to_string()),
        (packets, amount.packets.to_string()),
        (app_bytes, amount.app_bytes.to_string()),
    ]
}

fn side(names: [&'static str; 3], side: &Side) -> [(&'static str, String); 3] {
    let [attributed, kernel, unattributed] = names;
    [
        (attributed, side.attributed_bytes.to_string()),
        (kernel, side.kernel_bytes.to_string()),
        (unattributed, side.unattributed_bytes.to_string()),
    ]
}

/// A record with these fields; columns that are not named stay empty.
pub(super) fn line<const N: usize>(
    header: &[&str; N],
    snapshot: &Snapshot,
    record: &str,
    fields: &[(&str, String)],
) -> [String; N] {
    header.map(|column| match column {
        "time" => snapshot.time.clone(),
        "interval_ms" => snapshot.interval_ms.to_string(),
        "record" => record.to_owned(),
        _ => fields.iter().find(|(name, _)| *name == column).map(|(_, value)| value.clone()).unwrap_or_default(),
    })
}

/// Empty where there is none.
pub fn number(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A spreadsheet takes a leading `=`, `+`, `-` or `@` for a formula; a name never is one.
pub fn text(value: Option<&str>) -> String {
    let value = value.unwrap_or_default();
    if value.starts_with(['=', '+', '-', '@']) { format!("'{value}") } else { value.to_owned() }
}

/// Appends a record.
pub fn push(text: &mut String, record: impl IntoIterator<Item: AsRef<[u8]>>) {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(record).map_err(anyhow::Error::from);
    match written.and_then(|()| Ok(String::from_utf8(writer.into_inner()?)?)) {
        Ok(line) => text.push_str(&line),
        Err(error) => tracing::warn!("cannot encode an event: {error}"),
    }
}
