//! `nettopd status`, for people.

use std::fmt::Write as _;

use nettop_model::status::Status;

use crate::sys::escape::escape;

/// Lines for people.
pub fn text(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, status);
    text
}

fn write(text: &mut String, status: &Status) -> std::fmt::Result {
    let commit = status.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
    writeln!(text, "nettopd {}{commit}, process {}", status.version, status.pid)?;
    writeln!(text, "running  {} (since {})", duration(status.uptime_s), status.started)?;
    match &status.last {
        Some(last) => writeln!(
            text,
            "interval {} s, the last ended {:.1} s ago: {} rows, read in {} us",
            seconds(last.interval_ms),
            seconds(last.age_ms),
            last.rows,
            last.read_us
        )?,
        None => writeln!(text, "interval the first is not over")?,
    }
    let missing = status.hooks.iter().filter(|hook| !hook.attached);
    writeln!(text, "hooks    {} of {} attached", status.hooks.len() - missing.clone().count(), status.hooks.len())?;
    for hook in missing {
        writeln!(text, "         {}: {}", hook.purpose, hook.reason.as_deref().unwrap_or("-"))?;
    }
    let losses = status.loss.iter().flat_map(|loss| loss.entries()).filter(|(_, count)| *count > 0);
    let losses: Vec<String> = losses.map(|(cause, count)| format!("{cause} {count}")).collect();
    writeln!(text, "loss     {}", if losses.is_empty() { "none".into() } else { losses.join(", ") })?;
    match &status.history {
        Some(history) => {
            let size = history.size_bytes.map_or_else(|| "not there".into(), |size| format!("{} KiB", size >> 10));
            let file = escape(history.file.as_os_str().as_encoded_bytes());
            writeln!(text, "history  {file}, {size}, {} readings not taken", history.shed)?;
        }
        None => writeln!(text, "history  none is recorded")?,
    }
    for folder in &status.container_names_closed {
        writeln!(text, "names    of containers in {folder} may not be read: privileged-containers.conf opens it")?;
    }
    let clients = &status.clients;
    writeln!(
        text,
        "clients  {} now, {} served, {} refused, {} cut off for being slow",
        clients.connected, clients.served, clients.refused, clients.dropped
    )
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// In the two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_printed_in_two_units() {
        let shown = [5, 65, 3700, 90_000].map(super::duration);
        assert_eq!(shown, ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }
}
