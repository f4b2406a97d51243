//! Times as people give them, and as they read them, in the time zone of this machine.

use std::time::SystemTime;

use jiff::{Span, SpanRelativeTo, Timestamp, civil, tz::TimeZone};

/// The second that is meant: `now`, `22:10` (the last one), `yesterday 22:10`, `2026-11-21 22:10`, RFC 3339, `-2h`.
///
/// A local time that came twice is its first. A skipped one is later by what was skipped.
///
/// # Errors
///
/// If `text` has none of these forms, or no such day or time exists. The message is one line for the user, and lists the forms.
pub fn moment(text: &str, now: i64) -> Result<i64, String> {
    moment_in(&TimeZone::system(), text.trim(), now).ok_or_else(|| {
        format!(
            "'{text}' is no time; give now, 22:10, 'yesterday 22:10', '2026-11-21 22:10', 2026-11-21T22:10:00Z or -2h"
        )
    })
}

/// Unix time of this machine's clock.
pub fn unix_now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Date and time of day where this machine is.
pub fn local_time(ts: i64) -> Option<String> {
    let time = Timestamp::from_second(ts).ok()?.to_zoned(TimeZone::system());
    Some(time.strftime("%F %T").to_string())
}

fn moment_in(zone: &TimeZone, text: &str, now: i64) -> Option<i64> {
    if text == "now" {
        return Some(now);
    }
    if let Some(ago) = text.strip_prefix('-').and_then(duration) {
        return Some(now - ago);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let second =
        |day: civil::Date, time| Some(day.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp().as_second());
    let today = Timestamp::from_second(now).ok()?.to_zoned(zone.clone()).date();
    match text.split_once([' ', 'T']) {
        Some(("yesterday", time)) => second(today.yesterday().ok()?, time_of_day(time)?),
        Some(("today", time)) => second(today, time_of_day(time)?),
        Some((day, time)) => second(date(day)?, time_of_day(time)?),
        None => match date(text) {
            Some(day) => second(day, civil::Time::midnight()),
            None => {
                let time = time_of_day(text)?;
                // The last one there was.
                second(today, time).filter(|found| *found <= now).or_else(|| second(today.yesterday().ok()?, time))
            }
        },
    }
}

/// Seconds of `90s`, `5m`, `2h`, `1d`, `1h 30m`; jiff also takes `22:10:00` and `2h ago`. A month has no length.
fn duration(text: &str) -> Option<i64> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains(':');
    let span: Span = text.parse().ok().filter(|span: &Span| is_plain && !span.is_negative())?;
    Some(span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.as_secs())
}

/// `22:10`, `22:10:03`; jiff also takes `22`.
fn time_of_day(text: &str) -> Option<civil::Time> {
    text.parse().ok().filter(|_| matches!(text.len(), 5 | 8) && has_shape(text, b"00:00:00"))
}

/// `2026-11-21`; jiff also takes what follows a date.
fn date(text: &str) -> Option<civil::Date> {
    text.parse().ok().filter(|_| text.len() == 10 && has_shape(text, b"0000-00-00"))
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
        // In any time zone: a given date and time is the one shown.
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
        for bad in [
            "",
            "later",
            "25:00",
            "22:1",
            "-2y",
            "--2h",
            "-2h ago",
            "-22:10:00",
            "2026-13-01",
            "-99999999999999999d",
            "now'",
            "22",
            "2026-11-31",
        ] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_when_the_clock_changes_have_each_time_of_day_once() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let check = |text: &str, now: &str, meant: &str| {
            let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
            assert_eq!(moment_in(&zone, text, second(now)), Some(second(meant)), "{text} at {now}");
        };
        // 02:00 to 03:00 is skipped on 2026-03-29; the day has 23 hours.
        check("02:30", "2026-03-29T12:00:00+02:00", "2026-03-29T03:30:00+02:00");
        check("02:30", "2026-03-29T03:29:59+02:00", "2026-03-28T02:30:00+01:00");
        check("2026-03-29 02:30", "2026-04-01T12:00:00+02:00", "2026-03-29T03:30:00+02:00");
        check("yesterday 22:10", "2026-03-29T12:00:00+02:00", "2026-03-28T22:10:00+01:00");
        check("2026-03-29", "2026-03-29T12:00:00+02:00", "2026-03-29T00:00:00+01:00");
        // 02:00 to 03:00 is there twice on 2026-10-25; the day has 25 hours.
        check("02:30", "2026-10-25T12:00:00+01:00", "2026-10-25T02:30:00+02:00");
        check("02:30", "2026-10-25T02:15:00+01:00", "2026-10-25T02:30:00+02:00");
        check("02:30", "2026-10-25T02:15:00+02:00", "2026-10-24T02:30:00+02:00");
        check("22:10", "2026-10-25T12:00:00+01:00", "2026-10-24T22:10:00+02:00");
        check("-1d", "2026-10-25T12:00:00+01:00", "2026-10-24T13:00:00+02:00");
    }
}
