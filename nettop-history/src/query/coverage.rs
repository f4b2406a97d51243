//! How much of a period was measured, and how well.

use rusqlite::params;

use super::{Answer, Question, Reader};

impl Reader {
    pub(super) fn read_ticks(&self, question: &Question, answer: &mut Answer) -> rusqlite::Result<()> {
        // Covered so far.
        let mut until = answer.from;
        let condition = question.when.as_ref().map_or("1", |condition| condition.sql.as_str());
        for part in &answer.parts {
            let query = format!(
                "SELECT ts, measured_ms, late_ms, clock_step_ms, load1, {condition} FROM tick_{} WHERE ts >= ?1 AND ts < ?2 ORDER BY ts",
                part.resolution.suffix()
            );
            let mut statement = self.connection.prepare(&query)?;
            let mut ticks = statement.query(params![part.from, part.to])?;
            while let Some(tick) = ticks.next()? {
                let (ts, measured_ms): (i64, i64) = (tick.get(0)?, tick.get(1)?);
                let length = part.resolution.seconds();
                // One long interval is recorded where it ended.
                let begin = if measured_ms > length * 1500 { ts + length - measured_ms / 1000 } else { ts };
                if begin > until {
                    answer.gaps.push((until, begin));
                }
                while let Some((_, end)) = answer.gaps.last_mut()
                    && *end > begin
                {
                    *end = begin;
                    if answer.gaps.last().is_some_and(|(from, to)| from >= to) {
                        answer.gaps.pop();
                    }
                }
                until = until.max(ts + length);
                answer.measured_ms += measured_ms.cast_unsigned();
                answer.late_ms = answer.late_ms.max(tick.get::<_, i64>(2)?.cast_unsigned());
                answer.clock_step_ms += tick.get::<_, i64>(3)?;
                let load: Option<f64> = tick.get(4)?;
                answer.load_peak = answer.load_peak.into_iter().chain(load).reduce(f64::max);
                if tick.get::<_, Option<bool>>(5)?.unwrap_or(false) {
                    answer.selected_ms += measured_ms.cast_unsigned();
                }
            }
        }
        if until < answer.to {
            answer.gaps.push((until, answer.to));
        }
        let mut statement = self
            .connection
            .prepare("SELECT cause, sum(count) FROM loss WHERE ts >= ?1 AND ts < ?2 GROUP BY cause ORDER BY cause")?;
        let losses = statement.query_map(params![answer.from, answer.to], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        answer.losses = losses.collect::<Result<_, _>>()?;
        Ok(())
    }
}
