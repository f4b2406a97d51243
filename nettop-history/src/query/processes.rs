//! Rows of processes, and of what they belong to.

use std::collections::HashMap;

use rusqlite::params;

use super::{Answer, AnswerRow, Question, Reader, groups::Groups, selection};
use crate::{
    plan::Part,
    slot::{Counters, Device, Who},
};

impl Reader {
    /// Rows of processes, put together as was asked.
    pub(super) fn samples(&self, question: &Question, answer: &Answer) -> rusqlite::Result<Vec<AnswerRow>> {
        let mut rows = Groups::new(question);
        for part in &answer.parts {
            let mut names = self.names(part)?;
            names.retain(|_, (boot, _)| question.boot.is_none_or(|wanted| wanted == *boot));
            rows.enter_all(names);
            let suffix = part.resolution.suffix();
            let peaks = part.resolution.peaks();
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
