//! Rows of devices.

use std::collections::HashMap;

use rusqlite::params;

use super::{Answer, AnswerRow, Question, Reader, selection};
use crate::slot::{Counters, Device, Who};

impl Reader {
    /// Rows of devices, by their own counters.
    pub(super) fn devices(&self, question: &Question, answer: &Answer) -> rusqlite::Result<Vec<AnswerRow>> {
        let mut rows: HashMap<(i64, Device), AnswerRow> = HashMap::new();
        for part in &answer.parts {
            let suffix = part.resolution.suffix();
            let peaks = part.resolution.peaks();
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
                let boot = row.get(0)?;
                if question.boot.is_some_and(|wanted| wanted != boot) {
                    continue;
                }
                let device =
                    Device { netns: row.get(1)?, netns_cookie: row.get(2)?, ifindex: row.get(3)?, name: row.get(4)? };
                let group = rows.entry((boot, device.clone())).or_insert_with(|| AnswerRow {
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
