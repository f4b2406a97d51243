//! The answer as CSV.

use super::document::Document;
use crate::report::{
    Traffic,
    csv::{number, text as safe},
};

const HEADER: [&str; 22] = [
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
    "unattributed_bytes",
];

/// A line for each row; those beyond the top are one, without a name.
///
/// # Errors
///
/// If it cannot be encoded.
pub fn csv(document: &Document) -> anyhow::Result<Vec<u8>> {
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
        let rest = [
            row.tx_peak_bytes.to_string(),
            row.rx_peak_bytes.to_string(),
            number(row.drops),
            number(row.retransmits),
            number(row.unattributed_bytes),
        ];
        writer.write_record(names.iter().chain(&amounts(&row.sum)).chain(&rest))?;
    }
    if document.others.number > 0 {
        let mut names = vec![String::new(); 11];
        (names[0], names[1]) = (document.from.clone(), document.to.clone());
        writer.write_record(names.into_iter().chain(amounts(&document.others.sum)).chain(vec![String::new(); 5]))?;
    }
    Ok(writer.into_inner()?)
}
