//! How much of a period was measured, and how well.

use rusqlite::params;

use super::{Answer, Question, Reader, selection};
use crate::{
    gaps,
    plan::Resolution,
    usage::{Disk, DiskUsage, HostUsage, add_disk, keep_busiest},
};

impl Reader {
    pub(super) fn read_ticks(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        answer.gaps = self.gaps(answer.from, answer.to)?;
        let condition = question.when.as_ref().map_or("1", |condition| condition.sql.as_str());
        for part in &answer.parts {
            let (suffix, host) = (part.resolution.suffix(), HostUsage::columns());
            let query = format!(
                "SELECT measured_ms, late_ms, clock_step_ms, load1, {condition}, namespaces_unread, usage_ms IS NOT NULL, {host}
                 FROM tick_{suffix} LEFT JOIN host_{suffix} USING (ts) WHERE ts >= ?1 AND ts < ?2 ORDER BY ts",
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut ticks = statement.query(params![part.from, part.to])?;
            while let Some(tick) = ticks.next()? {
                let measured_ms: i64 = tick.get(0)?;
                answer.measured_ms += measured_ms.cast_unsigned();
                answer.late_ms = answer.late_ms.max(tick.get::<_, i64>(1)?.cast_unsigned());
                answer.clock_step_ms += tick.get::<_, i64>(2)?;
                let load: Option<f64> = tick.get(3)?;
                answer.load_peak = answer.load_peak.into_iter().chain(load).reduce(f64::max);
                let unread: Option<i64> = tick.get(5)?;
                answer.namespaces_unread = answer.namespaces_unread.max(unread.map(i64::cast_unsigned));
                if tick.get::<_, Option<bool>>(4)?.unwrap_or(false) {
                    answer.selected_ms += measured_ms.cast_unsigned();
                    if tick.get(6)? {
                        answer.host.get_or_insert_default().add(&HostUsage::read(tick, 7)?);
                    }
                }
            }
        }
        answer.disks = self.disks(question, answer)?;
        let mut statement = self.connection.prepare(
            // Earlier versions had one there that is no loss.
            "SELECT cause, sum(count) FROM loss WHERE ts >= ?1 AND ts < ?2 AND cause <> 'namespaces_unread'
                 GROUP BY cause ORDER BY cause",
        )?;
        let losses = statement.query_map(params![answer.from, answer.to], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        answer.losses = losses.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// In the selected moments.
    fn disks(&self, question: &Question, answer: &Answer) -> rusqlite::Result<Vec<(Disk, DiskUsage)>> {
        let mut disks = Vec::new();
        for part in &answer.parts {
            let suffix = part.resolution.suffix();
            let query = format!(
                "SELECT name, mounted, {} FROM disk_{suffix} WHERE ts >= ?1 AND ts < ?2 {} ORDER BY ts",
                DiskUsage::columns(),
                selection(question, suffix)
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut rows = statement.query(params![part.from, part.to])?;
            while let Some(row) = rows.next()? {
                let disk = Disk { name: row.get(0)?, mounted: row.get(1)? };
                add_disk(&mut disks, disk, &DiskUsage::read(row, 2)?);
            }
        }
        keep_busiest(&mut disks);
        Ok(disks)
    }

    /// What was not measured in a period, in whole seconds around it: the noted gaps, and the time outside the record.
    fn gaps(&self, from: i64, to: i64) -> rusqlite::Result<Vec<(i64, i64)>> {
        let number = |query: &str| self.connection.query_row(query, [], |row| row.get::<_, Option<i64>>(0));
        let first = number(
            "SELECT min(ts) FROM (SELECT min(ts) AS ts FROM tick_10s
                 UNION ALL SELECT min(ts) FROM tick_1m UNION ALL SELECT min(ts) FROM tick_1h)",
        )?;
        let recorded_ms = number("SELECT max(recorded_ms) FROM session")?;
        let (Some(first), Some(recorded_ms)) = (first, recorded_ms) else { return Ok(vec![(from, to)]) };
        let end_ms = gaps::covered_until(&self.connection, recorded_ms, to * 1000)?;
        let mut statement =
            self.connection.prepare("SELECT from_ms, to_ms FROM gap WHERE from_ms < ?2 AND to_ms > ?1")?;
        let noted = statement.query_map([from * 1000, to * 1000], |row| {
            Ok((row.get::<_, i64>(0)?.div_euclid(1000), gaps::ceil_s(row.get(1)?)))
        })?;
        let mut found: Vec<(i64, i64)> = noted.collect::<Result<_, _>>()?;
        // Its beginning within the hour is noted.
        found.extend([(from, Resolution::Hour.floor(first)), (end_ms.div_euclid(1000), to)]);
        found.sort_unstable();
        let mut gaps: Vec<(i64, i64)> = Vec::new();
        for (gap_from, gap_to) in found.into_iter().map(|gap| (gap.0.max(from), gap.1.min(to))) {
            match gaps.last_mut() {
                _ if gap_from >= gap_to => {}
                Some((_, last)) if gap_from <= *last => *last = gap_to.max(*last),
                _ => gaps.push((gap_from, gap_to)),
            }
        }
        Ok(gaps)
    }
}
