//! Connections in lines for people.

use std::fmt::Write as _;

use nettop_common::{ConnectionEvent, connection::kind, offsets::UNKNOWN};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{Names, errno, name, outcome};
use crate::{
    identity::address::Address,
    render::ancestry::ancestry,
    sys::{clock::Clock, escape::escape_c},
};

/// Of a user. A longer name ends with '+', as in ps(1) and w(1): columns keep the place they have in lines above.
const USER_COLUMNS: usize = 8;

fn shortened(name: &str, most: usize) -> String {
    if name.width() <= most {
        return name.to_owned();
    }
    let mut short = String::new();
    for letter in name.chars() {
        if short.width() + letter.width().unwrap_or(0) >= most {
            break;
        }
        short.push(letter);
    }
    short + "+"
}

/// Columns, or those of tcp_connections.stp.
pub fn header(text: &mut String, only_accepted: bool) {
    // Writing to a String does not fail.
    let _ = if only_accepted {
        writeln!(text, "{:>6} {:>16} {:>6} {:>6} {:>16}", "UID", "CMD", "PID", "PORT", "IP_SOURCE")
    } else {
        writeln!(
            text,
            "{:<15} {:<8} {:>7} {:<8} {:<15} {:<21} {:<21} HOW",
            "TIME", "EVENT", "PID", "USER", "COMMAND", "LOCAL", "REMOTE"
        )
    };
}

/// As tcp_connections.stp has it.
pub fn accepted(text: &mut String, event: &ConnectionEvent, names: &mut Names) {
    let device = names.device(event);
    let _ = writeln!(
        text,
        "{:>6} {:>16} {:>6} {:>6} {:>16}",
        event.owner.uid,
        escape_c(&event.comm),
        event.owner.tgid,
        event.local_port,
        Address::from(event.remote).scoped(device.as_deref())
    );
}

/// One event.
pub fn line(text: &mut String, event: &ConnectionEvent, packets: [u64; 2], clock: &Clock, names: &mut Names) {
    let is_known = event.owner.tgid != 0;
    let user = names.users.as_mut().and_then(|users| users.name(event.owner.uid));
    let (pid, user, command) = if is_known {
        let user = user.unwrap_or_else(|| event.owner.uid.to_string());
        (event.owner.tgid.to_string(), user, escape_c(&event.comm))
    } else {
        ("-".into(), "-".into(), "-".into())
    };
    let device = names.device(event);
    let user = shortened(&user, USER_COLUMNS);
    let _ = write!(
        text,
        "{} {:<8} {pid:>7} {user:<8} {command:<15} {:<21} {:<21}",
        clock.of_day(event.time_ns),
        name(event.kind),
        Address::from(event.local).with_port(device.as_deref(), event.local_port),
        Address::from(event.remote).with_port(device.as_deref(), event.remote_port),
    );
    for part in details(event, packets, names) {
        let _ = write!(text, " {part}");
    }
    if names.ancestry && is_known {
        let details = names.processes.details_for_event(&event.owner, event.comm);
        let _ = write!(text, "  {}", ancestry(&command, &details.into_names(true)));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

fn details(event: &ConnectionEvent, packets: [u64; 2], names: &Names) -> Vec<String> {
    let mut parts = Vec::new();
    if event.protocol != 6 {
        parts.push("udp".to_owned());
    }
    if let Some(outcome) = outcome(event) {
        parts.push(if outcome == "error" { errno(event.error).unwrap_or_default() } else { outcome.into() });
    }
    if event.kind != kind::ACCEPTED && event.begun_ns != 0 && event.time_ns > event.begun_ns {
        parts.push(format!("after {}", duration(event.time_ns - event.begun_ns)));
    }
    if event.kind == kind::CLOSED {
        parts.push(format!("sent {} B received {} B", event.sent_bytes, event.received_bytes));
        if packets != [0; 2] {
            parts.push(format!("in {} and {} packets", packets[0], packets[1]));
        }
    }
    if event.retransmits != UNKNOWN && event.retransmits > 0 {
        parts.push(format!("retransmits {}", event.retransmits));
    }
    if event.netns != names.host {
        parts.push(format!("netns {}", event.netns.inode));
    }
    parts
}

/// Three digits and a unit.
fn duration(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    let (unit_ns, unit) = UNITS.into_iter().find(|(unit_ns, _)| ns >= *unit_ns).unwrap_or((1, "ns"));
    let (whole, part) = (ns / unit_ns, ns % unit_ns * 100 / unit_ns);
    match whole {
        0..10 if unit_ns > 1 => format!("{whole}.{part:02} {unit}"),
        10..100 if unit_ns > 1 => format!("{whole}.{} {unit}", part / 10),
        _ => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, shortened};

    #[test]
    fn a_long_name_moves_no_column() {
        let shown = ["root", "www-data", "systemd-resolve"].map(|name| shortened(name, 8));
        assert_eq!(shown, ["root", "www-data", "systemd+"]);
    }

    #[test]
    fn a_duration_has_the_digits_that_matter() {
        let shown = [7, 1500, 23_400_000, 999_999_999, 3_210_000_000, 86_400_000_000_000].map(duration);
        assert_eq!(shown, ["7 ns", "1.50 us", "23.4 ms", "999 ms", "3.21 s", "86400 s"]);
    }
}
