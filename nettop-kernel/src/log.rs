//! The log of the eBPF programs, put into words. They log at the level `debug`.

use std::fmt::Write as _;

use anyhow::Context as _;
use aya::{Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};
use nettop_common::{
    log::{Hook, VALUES_PER_RECORD, What},
    owner,
    tag::attribution,
};
use tracing::level_filters::LevelFilter;

use super::limits::MIN_RING_BYTES;

/// Target of the records in `tracing`. Their rate is bounded by the ring, which is emptied once an interval.
pub const TARGET: &str = "ebpf";
/// Room for unread records, if there are any.
const RING_BYTES: u32 = 128 << 10;
const MAP: &str = "AYA_LOGS";

/// Whether the programs log.
fn is_on() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// Sets the level before programs are loaded: the verifier drops what is off.
pub(super) fn set_level<'a>(loader: &mut EbpfLoader<'a>, off: &'a u8, on: &'a u8) {
    let (level, bytes) = if is_on() { (on, RING_BYTES) } else { (off, MIN_RING_BYTES) };
    loader.override_global(aya_log::LEVEL, level, true).map_max_entries(MAP, bytes);
}

/// Values of the level's global.
pub(super) const OFF: u8 = 0;
pub(super) const ON: u8 = Level::Debug as u8;

/// The programs' side of the log.
pub struct KernelLog {
    logger: EbpfLogger<Words>,
    lost: u64,
}

impl KernelLog {
    /// Takes the ring, if anything will be in it.
    pub(super) fn take_from(ebpf: &mut Ebpf) -> anyhow::Result<Option<Self>> {
        let logger = || EbpfLogger::init_with_logger(ebpf, Words).context("cannot read the log of the eBPF programs");
        is_on().then(logger).transpose().map(|logger| logger.map(|logger| Self { logger, lost: 0 }))
    }

    /// Logs the new records, and how many had no room.
    pub fn hand_on(&mut self, lost: u64) {
        self.logger.flush();
        if lost > self.lost {
            tracing::debug!(target: TARGET, "ebpf: {} records of the eBPF programs had no room", lost - self.lost);
            self.lost = lost;
        }
    }
}

/// Puts numbers into words.
struct Words;

impl Log for Words {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        match sentence(&text) {
            Some(sentence) => tracing::debug!(target: TARGET, "ebpf: {sentence}"),
            None => tracing::warn!("a record of the eBPF programs is of no known form: {}", text.escape_debug()),
        }
    }

    fn flush(&self) {}
}

fn sentence(numbers: &str) -> Option<String> {
    let values: Vec<u64> = numbers.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [what, hook, cookie, process, first, second] = <[u64; VALUES_PER_RECORD]>::try_from(values).ok()?;
    let what = What::ALL.into_iter().find(|known| *known as u64 == what)?;
    let hook = Hook::ALL.into_iter().find(|known| u64::from(*known as u32) == hook)?.name();
    let error = || nix::errno::Errno::from_raw(i32::try_from(second).unwrap_or(0));
    let mut sentence = match what {
        What::OwnerMade => format!("owner {second} made for process {first}"),
        What::OwnersFull => {
            format!("no owner for process {first}: the table, or the share of its user or namespace, is full")
        }
        What::OwnerIndexRefused => format!("no owner for process {first}: the index refuses it ({:?})", error()),
        What::RowMade => format!("row {second} made for owner {first}"),
        What::RowsFull => {
            format!("no row for owner {first}: all {second} rows are in use, or the share of its user or namespace is")
        }
        What::RowIndexRefused => format!("no row for owner {first}: the index refuses it ({:?})", error()),
        What::StorageRefused => "no storage for a socket: the kernel has no memory for it, or frees it".into(),
        What::SocketGiven => {
            let (to, attribution) = (second & u64::from(u32::MAX), u32::try_from(second >> 32).unwrap_or(0));
            let attribution = attribution::name(attribution);
            match u32::try_from(first) {
                Ok(owner::KERNEL) => format!("a socket without an owner is owner {to}'s from now on: {attribution}"),
                _ => format!("a socket of owner {first} is owner {to}'s from now on: {attribution}"),
            }
        }
        What::OwnerRetired => format!("a socket's owner {first} was retired"),
        What::RowRetired => format!("a socket's row {first} was retired"),
    };
    // Writing to a String does not fail.
    let _ = write!(sentence, ", in {hook}");
    if cookie != 0 {
        let _ = write!(sentence, ", socket cookie {cookie}");
    }
    if process != 0 {
        let _ = write!(sentence, ", while process {process} runs");
    }
    Some(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_the_names_of_programs() {
        for hook in Hook::ALL {
            let name = format!("{}\0", hook.name());
            let has = crate::object::OBJECT.windows(name.len()).any(|symbol| symbol == name.as_bytes());
            assert!(has, "the object has no program {}", hook.name());
        }
    }

    #[test]
    fn numbers_become_sentences_and_nothing_else_does() {
        assert_eq!(
            sentence("1 1 0 42 42 7 ").unwrap(),
            "owner 7 made for process 42, in socket_create, while process 42 runs"
        );
        assert_eq!(
            sentence("6 6 0 0 7 7 ").unwrap(),
            "no row for owner 7: the index refuses it (E2BIG), in packet_freed"
        );
        let given = format!("8 7 99 43 7 {}", 4_u64 << 32 | 8);
        assert!(sentence(&given).unwrap().starts_with("a socket of owner 7 is owner 8's from now on: "));
        assert!(sentence(&given).unwrap().ends_with(", in socket_send, socket cookie 99, while process 43 runs"));
        for unknown in ["", "1 2 3", "77 1 0 0 0 0", "1 0 0 0 0 0", "1 1 0 0 0 x", "1 1 0 0 0 0 0"] {
            assert_eq!(sentence(unknown), None);
        }
    }
}
