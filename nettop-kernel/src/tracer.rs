//! Socket calls of chosen processes: the hooks for them, and the choice.

use std::{cell::RefCell, collections::HashSet, fs, rc::Rc};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use nettop_common::{
    EventFilter, Stats,
    trace::{EVERYBODY, FOLLOWED, NamePattern, REPORTED, call},
};
use procfs::process::all_processes;

use super::{
    events::{EventKind, EventSpec, Events, Loss, Source},
    hooks::AttachPoint,
    kernel::Kernel,
    limits::Limits,
    mapping::{Mapping, map, take},
    processes::Records,
    recursion_misses::{self, Misses},
    state::{HookState, Link, state},
};

/// Numbers of system calls on this machine, in the order of [`call::NAMES`].
const SYSTEM_CALL_NUMBERS: [libc::c_long; call::NAMES.len()] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
];

/// The attached programs. No process is traced before one is chosen.
pub struct Tracer {
    targets: Rc<RefCell<TraceTargets>>,
    stats: Mapping<Stats>,
    misses: Misses,
    hooks: Vec<HookState>,
    links: Vec<(AttachPoint, Link)>,
    records: Option<Records>,
    /// Holds the programs.
    _ebpf: Ebpf,
}

/// Losses for other reasons than a full ring.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct TraceLoss {
    /// Processes that found no room in the table, and forks that were possibly missed.
    pub processes: u64,
    /// Calls of 32-bit programs.
    pub calls_32bit: u64,
    /// Socket operations by io_uring.
    pub calls_by_io_uring: u64,
    /// New processes and programs of which the record found no room.
    pub unrecorded: u64,
}

/// The traced processes.
pub struct TraceTargets {
    traced: HashMap<MapData, u32, u32>,
    names: Array<MapData, [u64; 4]>,
}

impl Kernel {
    /// Attaches the trace hooks: for calls, or system calls with their arguments, and for what new processes are if
    /// `with_names`.
    ///
    /// # Errors
    ///
    /// [`super::refusal::Refusal`] if the kernel forbids BPF, or has or permits no hooks for calls and for new
    /// processes. Another error, which names what failed, if a map cannot be made, filled or mapped, or descriptors are
    /// exhausted. Nothing stays attached.
    pub fn trace(&self, decode: bool, with_names: bool) -> anyhow::Result<(Tracer, Events)> {
        let what = if decode { EventKind::CallsAndArguments } else { EventKind::Calls };
        let spec = EventSpec { what, filter: EventFilter::default(), with_names };
        let mut ebpf = self.load(Limits::MIN, Some(spec), false)?;
        let mut numbers: Array<_, u32> = Array::try_from(take(&mut ebpf, "CALLS_BY_NUMBER")?)?;
        for (number, call) in SYSTEM_CALL_NUMBERS.into_iter().zip(1..) {
            numbers.set(u32::try_from(number)?, call, 0)?;
        }
        let mut traced: HashMap<_, u32, u32> = HashMap::try_from(take(&mut ebpf, "TRACED")?)?;
        // Never nettopd itself, even if chosen.
        traced.insert(std::process::id(), 0, 0)?;
        let choices = self.attach_all(&mut ebpf, spec.purposes())?;
        let ring = Events::from_map(take(&mut ebpf, "EVENTS")?)?;
        let records = Some(Records::from_map(take(&mut ebpf, "PROCESSES")?)?);
        let targets = TraceTargets { traced, names: Array::try_from(take(&mut ebpf, "TRACED_NAMES")?)? };
        let tracer = Tracer {
            targets: Rc::new(RefCell::new(targets)),
            stats: map(&mut ebpf, "STATS", 1)?,
            misses: Misses::watch(&ebpf)?,
            hooks: choices.iter().map(state).collect(),
            links: choices.into_iter().flat_map(|choice| choice.links).map(|(hook, link)| (hook.place, link)).collect(),
            records,
            _ebpf: ebpf,
        };
        Ok((tracer, ring))
    }
}

impl Tracer {
    /// The hooks that see calls.
    pub fn hook_kinds(&self) -> Vec<(&'static str, String)> {
        let attached = self.hooks.iter().filter(|hook| hook.attached);
        attached.map(|hook| (hook.purpose, hook.kind.clone())).collect()
    }

    /// The traced processes.
    pub fn targets(&self) -> Rc<RefCell<TraceTargets>> {
        Rc::clone(&self.targets)
    }

    /// What was recorded of new processes and programs; once.
    pub const fn take_processes(&mut self) -> Option<Records> {
        self.records.take()
    }

    /// What is lost.
    pub fn losses(&self) -> TraceLoss {
        let stats = self.stats.read(0).unwrap_or_default();
        TraceLoss {
            processes: stats.traced_full + self.misses.sum_of(&recursion_misses::FOLLOWING),
            calls_32bit: stats.calls_32bit,
            calls_by_io_uring: stats.calls_by_io_uring,
            unrecorded: stats.processes_lost,
        }
    }
}

impl Source for Tracer {
    fn lost(&mut self) -> Loss {
        Loss {
            events: self.stats.read(0).unwrap_or_default().events_lost,
            runs_skipped: self.misses.except(&recursion_misses::FOLLOWING),
        }
    }

    /// Trampolines stay until the end: the kernel takes up to a tenth of a second to remove each (6.1).
    fn detach(&mut self) {
        self.links.retain(|(place, _)| matches!(place, AttachPoint::Fentry | AttachPoint::Fexit));
        self.targets.borrow_mut().forget_all();
    }
}

impl TraceTargets {
    /// Every process.
    ///
    /// # Errors
    ///
    /// If the table of traced processes is full.
    pub fn all(&mut self) -> anyhow::Result<()> {
        self.traced.insert(EVERYBODY, REPORTED, 0).context("cannot trace all processes")
    }

    /// A process, by any of its threads. Returns whether it exists.
    ///
    /// # Errors
    ///
    /// As [`Self::all`].
    pub fn process(&mut self, pid: u32) -> anyhow::Result<bool> {
        let Some(pid) = living(pid) else { return Ok(false) };
        if pid == std::process::id() {
            return Ok(true);
        }
        self.traced.insert(pid, REPORTED | FOLLOWED, 0).with_context(|| format!("cannot trace process {pid}"))?;
        // If it ended before, the hook that removes it has run already.
        let is_there = living(pid).is_some();
        if !is_there {
            let _ = self.traced.remove(&pid);
        }
        Ok(is_there)
    }

    /// Every process whose name begins so, now or later.
    ///
    /// # Errors
    ///
    /// If /proc cannot be read, the table of traced processes is full, or for more names than
    /// [`nettop_common::trace::MAX_TRACED_NAMES`].
    pub fn names(&mut self, names: &[String]) -> anyhow::Result<()> {
        for (index, name) in (0..).zip(names) {
            self.names.set(index, bytemuck::cast::<_, [u64; 4]>(pattern(name)), 0)?;
        }
        // Until no more are found: children made before the choice were not followed.
        let mut found = HashSet::new();
        while !names.is_empty() {
            let before = found.len();
            for process in all_processes().context("cannot read /proc")?.flatten() {
                let Ok(pid) = u32::try_from(process.pid()) else { continue };
                let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
                if names.iter().any(|name| comm.starts_with(kept(name))) && found.insert(pid) {
                    self.process(pid)?;
                }
            }
            if found.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// All children of nettopd meanwhile, from their first instruction on.
    ///
    /// # Errors
    ///
    /// As [`Self::all`]; `make` is not called then.
    pub fn child<T>(&mut self, make: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.traced.insert(std::process::id(), FOLLOWED, 0).context("cannot trace a command")?;
        let made = make();
        self.traced.insert(std::process::id(), 0, 0).context("cannot trace a command")?;
        Ok(made)
    }

    /// Traces no process any more.
    fn forget_all(&mut self) {
        let all: Vec<u32> = self.traced.keys().filter_map(Result::ok).collect();
        for pid in all {
            // A process that ended is absent.
            let _ = self.traced.remove(&pid);
        }
    }

    /// Whether all have ended, with all that were followed.
    pub fn are_gone(&self) -> bool {
        let own = std::process::id();
        self.traced.keys().all(|pid| pid.is_ok_and(|pid| pid == own || pid == EVERYBODY))
    }
}

/// Whether there is such a process, or a thread.
pub fn is_there(pid: u32) -> bool {
    living(pid).is_some()
}

/// The process that a thread belongs to, unless ended. The kernel escapes line ends in the name there.
fn living(tid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{tid}/status")).ok()?;
    let field = |name: &[u8]| status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    let has_ended = field(b"State:\t")?.starts_with(b"Z") || field(b"State:\t")?.starts_with(b"X");
    std::str::from_utf8(field(b"Tgid:\t")?).ok()?.parse().ok().filter(|_| !has_ended)
}

/// A name as the kernel keeps it.
fn kept(name: &str) -> &[u8] {
    const MAX_COMM_BYTES: usize = 15;
    name.as_bytes().get(..MAX_COMM_BYTES).unwrap_or(name.as_bytes())
}

fn pattern(name: &str) -> NamePattern {
    let (mut bytes, mut mask) = ([0; 16], [0; 16]);
    for ((byte, mask), wanted) in bytes.iter_mut().zip(&mut mask).zip(kept(name)) {
        (*byte, *mask) = (*wanted, u8::MAX);
    }
    NamePattern { name: bytemuck::cast(bytes), mask: bytemuck::cast(mask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_looks_at_the_bytes_that_were_given() {
        let pattern = pattern("abcdefghij");
        assert_eq!(pattern.mask, [u64::MAX, 0xffff]);
        assert_eq!(pattern.name[1].to_ne_bytes(), *b"ij\0\0\0\0\0\0");
        assert_eq!(kept("a-name-longer-than-comm"), b"a-name-longer-t");
    }

    #[test]
    fn every_call_has_its_number() {
        assert_eq!(SYSTEM_CALL_NUMBERS[call::SOCKET as usize - 1], libc::SYS_socket);
        assert_eq!(SYSTEM_CALL_NUMBERS[call::SENDMMSG as usize - 1], libc::SYS_sendmmsg);
        assert_eq!(SYSTEM_CALL_NUMBERS[call::GETSOCKOPT as usize - 1], libc::SYS_getsockopt);
        assert!(SYSTEM_CALL_NUMBERS.iter().all(|number| *number < crate::object::CALL_NUMBERS.into()));
    }
}
