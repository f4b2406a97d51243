//! Times as people give them, and as they read them. SQLite knows the time zone.

use rusqlite::Connection;

/// The second that is meant: `now`, `22:10` (the last one), `yesterday 22:10`, `2026-11-21 22:10`, RFC 3339, `-2h`.
///
/// # Errors
///
/// A line that says what is understood.
pub fn moment(text: &str, now: i64) -> Result<i64, String> {
    let understood = || {
        format!(
            "'{text}' is no time; give now, 22:10, 'yesterday 22:10', '2026-11-21 22:10', 2026-11-21T22:10:00Z or -2h"
        )
    };
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Some(ago) = text.strip_prefix('-').and_then(duration) {
        return Ok(now - ago);
    }
    let ask = |time: &str, utc: bool, shift: &str| -> Option<i64> {
        let connection = Connection::open_in_memory().ok()?;
        let query = if utc { "SELECT unixepoch(?1)" } else { "SELECT unixepoch(?1, ?2, 'utc')" };
        let given: &[&dyn rusqlite::ToSql] = if utc { &[&time] } else { &[&time, &shift] };
        connection.query_row(query, given, |row| row.get(0)).ok()
    };
    let today = || local_time(now).map(|today| today[..10].to_owned());
    let day_and_time = match text.split_once([' ', 'T']) {
        Some(("yesterday", time)) => is_time(time).then(|| (today(), time, "-1 day")),
        Some(("today", time)) => is_time(time).then(|| (today(), time, "+0 day")),
        Some((day, time)) if is_day(day) => {
            let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
            let (clock, zone) = time.split_at(zone);
            if !zone.is_empty() && is_time(clock.split('.').next().unwrap_or(clock)) {
                return ask(text, true, "").ok_or_else(understood);
            }
            is_time(clock).then(|| (Some(day.to_owned()), clock, "+0 day"))
        }
        None if is_day(text) => Some((Some(text.to_owned()), "00:00", "+0 day")),
        None if is_time(text) => Some((today(), text, "+0 day")),
        _ => None,
    };
    let (day, time, shift) = day_and_time.ok_or_else(understood)?;
    let day = day.ok_or_else(understood)?;
    let found = ask(&format!("{day} {time}"), false, shift).ok_or_else(understood)?;
    // A time of day is the last one there was.
    if found > now && is_time(text) {
        ask(&format!("{day} {time}"), false, "-1 day").ok_or_else(understood)
    } else {
        Ok(found)
    }
}

/// Date and time of day where this machine is.
pub fn local_time(ts: i64) -> Option<String> {
    let connection = Connection::open_in_memory().ok()?;
    connection.query_row("SELECT datetime(?1, 'unixepoch', 'localtime')", [ts], |row| row.get(0)).ok()?
}

/// Seconds of `90s`, `5m`, `2h`, `1d`.
fn duration(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    if number.starts_with(['+', '-']) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(seconds).filter(|seconds| *seconds < 1 << 40)
}

fn is_time(text: &str) -> bool {
    matches!(text.len(), 5 | 8) && has_shape(text, b"00:00:00")
}

fn is_day(text: &str) -> bool {
    text.len() == 10 && has_shape(text, b"0000-00-00")
}

fn has_shape(text: &str, shape: &[u8]) -> bool {
    let fits = |(byte, shape): (u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape };
    text.bytes().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_people_mean_them() {
        // Whatever the time zone: what is said of a day is what it shows.
        let now = 1_795_000_000;
        let shown = |text: &str| local_time(moment(text, now).unwrap()).unwrap();
        let today = &local_time(now).unwrap()[..10].to_owned();
        assert_eq!(moment("now", now), Ok(now));
        assert_eq!(moment("-2h", now), Ok(now - 7200));
        assert_eq!(moment("2026-11-18T20:26:40Z", now), Ok(1_795_033_600));
        assert_eq!(moment("2026-11-18T20:26:40.5+02:00", now), Ok(1_795_026_400));
        assert_eq!(shown("2026-11-02 22:10"), "2026-11-02 22:10:00");
        assert_eq!(shown("2026-11-02"), "2026-11-02 00:00:00");
        assert_eq!(shown("today 00:00:00"), format!("{today} 00:00:00"));
        assert_eq!(&shown("yesterday 22:10")[11..], "22:10:00");
        let time_of_day = &local_time(now).unwrap()[11..].to_owned();
        assert_eq!(moment(time_of_day, now), Ok(now));
        // A second from now it was yesterday.
        let later = &local_time(now + 1).unwrap()[11..].to_owned();
        assert_eq!(moment(later, now), Ok(now + 1 - 86_400));
        for bad in ["", "later", "25:00", "22:1", "-2y", "--2h", "2026-13-01", "-99999999999999999d", "now'"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
