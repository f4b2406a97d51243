//! Socket calls of chosen processes: which hooks tell them, and whose are told.

use std::{cell::RefCell, collections::HashSet, fs, rc::Rc};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};
use nettop_common::{
    EventFilter, Stats,
    trace::{EVERYBODY, FOLLOWED, NamePattern, TOLD, call},
};
use procfs::process::all_processes;

use super::{
    hooks::{Backend, Hook, PROCESS_EXIT, Place, Purpose, TASK_RENAME, hook, only, optional, way},
    mapping::Mapping,
    misses::{self, Misses},
    programs::{HookState, Kernel, Limits, Link, map, state, take},
    telling::{Loss, Telling, What},
};
use crate::stream::Source;

/// Processes that are traced at a time.
pub const PROCESSES: u32 = 65_536;
/// System calls have smaller numbers.
pub const NUMBERS: u32 = 512;
/// Nothing is counted.
const LIMITS: Limits = Limits { rows: 1, drops: 1 };

const PROCESSES_COME_AND_GO: Purpose = Purpose {
    name: "processes",
    needed: true,
    lacks: "children of traced processes",
    ways: &[only(&[
        hook("trace_fork", Place::Tracepoint, "sched_process_fork", &["void (task_struct *, task_struct *)"]),
        hook("trace_rename", Place::Tracepoint, "task_rename", TASK_RENAME),
        hook("trace_exit", Place::Tracepoint, "sched_process_exit", PROCESS_EXIT),
    ])],
};

const SYSTEM_CALLS: &[Hook] = &[
    hook("call_leave", Place::Tracepoint, "sys_exit", &["void (pt_regs *, long int)", "void (pt_regs *, long)"]),
    hook("call_enter", Place::Tracepoint, "sys_enter", &["void (pt_regs *, long int)", "void (pt_regs *, long)"]),
];

/// Programs of functions look at no argument.
const fn needed(hook: Hook) -> Hook {
    hook
}

macro_rules! functions {
    ($($target:literal $enter:ident $leave:ident $how:ident;)*) => {
        &[
            $($how(hook(stringify!($leave), Place::Fexit, $target, &[])),)*
            $($how(hook(stringify!($enter), Place::Fentry, $target, &[])),)*
        ]
    };
}
const FUNCTIONS: &[Hook] = nettop_common::for_each_function!(functions);

pub const CALLS: &[Purpose] = &[
    PROCESSES_COME_AND_GO,
    Purpose {
        name: "socket calls",
        needed: true,
        lacks: "socket calls",
        ways: &[way(Backend::Fentry, FUNCTIONS), way(Backend::Tracepoint, SYSTEM_CALLS)],
    },
];

/// System calls have the arguments.
pub const CALLS_AND_ARGUMENTS: &[Purpose] = &[
    PROCESSES_COME_AND_GO,
    Purpose { name: "socket calls", needed: true, lacks: "socket calls", ways: &[only(SYSTEM_CALLS)] },
];

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

/// The attached programs. Nobody is traced before somebody is chosen.
pub struct Tracer {
    chosen: Rc<RefCell<Chosen>>,
    stats: Mapping<Stats>,
    misses: Misses,
    hooks: Vec<HookState>,
    links: Vec<(Place, Link)>,
    /// Holds the programs.
    _ebpf: Ebpf,
}

/// What is not told for other reasons than want of room in the ring.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Untold {
    /// Processes for which the table had no room, and births that may have been overlooked.
    pub processes: u64,
    /// Calls of programs of 32 bits.
    pub calls_32bit: u64,
}

/// Whose calls are told.
pub struct Chosen {
    traced: HashMap<MapData, u32, u32>,
    names: Array<MapData, [u64; 4]>,
}

impl Kernel {
    /// Attaches what tells socket calls.
    ///
    /// # Errors
    ///
    /// [`super::preflight::Refusal`] where the kernel lacks or forbids something, else what it said.
    pub fn trace(&self, decode: bool) -> anyhow::Result<(Tracer, RingBuf<MapData>)> {
        let what = if decode { What::CallsAndArguments } else { What::Calls };
        let telling = Telling { what, filter: EventFilter::default() };
        let mut ebpf = self.load(LIMITS, Some(telling), false)?;
        let mut numbers: Array<_, u32> = Array::try_from(take(&mut ebpf, "CALLS_BY_NUMBER")?)?;
        for (number, call) in SYSTEM_CALL_NUMBERS.into_iter().zip(1..) {
            numbers.set(u32::try_from(number)?, call, 0)?;
        }
        let mut traced: HashMap<_, u32, u32> = HashMap::try_from(take(&mut ebpf, "TRACED")?)?;
        // nettopd itself never, whoever is asked for.
        traced.insert(std::process::id(), 0, 0)?;
        let choices = self.attach_all(&mut ebpf, telling.purposes())?;
        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?;
        let chosen = Chosen { traced, names: Array::try_from(take(&mut ebpf, "TRACED_NAMES")?)? };
        let tracer = Tracer {
            chosen: Rc::new(RefCell::new(chosen)),
            stats: map(&mut ebpf, "STATS", 1)?,
            misses: Misses::watch(&ebpf)?,
            hooks: choices.iter().map(state).collect(),
            links: choices.into_iter().flat_map(|choice| choice.links).map(|(hook, link)| (hook.place, link)).collect(),
            _ebpf: ebpf,
        };
        Ok((tracer, ring))
    }
}

impl Tracer {
    /// By which hooks calls are seen.
    pub fn hook_kinds(&self) -> Vec<(&'static str, String)> {
        self.hooks.iter().map(|hook| (hook.purpose, hook.kind.clone())).collect()
    }

    /// Whose calls are told.
    pub fn chosen(&self) -> Rc<RefCell<Chosen>> {
        Rc::clone(&self.chosen)
    }

    /// What nobody will hear of.
    pub fn untold(&self) -> Untold {
        let stats = self.stats.read(0).unwrap_or_default();
        Untold { processes: stats.traced_full + self.misses.of(&misses::FOLLOWING), calls_32bit: stats.calls_32bit }
    }
}

impl Source for Tracer {
    fn lost(&mut self) -> Loss {
        let births = self.misses.of(&misses::FOLLOWING);
        Loss {
            events: self.stats.read(0).unwrap_or_default().events_lost,
            runs_skipped: self.misses.calls().saturating_sub(births),
        }
    }

    /// Trampolines stay until the end: the kernel takes up to a tenth of a second to remove each (6.1).
    fn detach(&mut self) {
        self.links.retain(|(place, _)| matches!(place, Place::Fentry | Place::Fexit));
        self.chosen.borrow_mut().forget_all();
    }
}

impl Chosen {
    /// Every process.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn all(&mut self) -> anyhow::Result<()> {
        self.traced.insert(EVERYBODY, TOLD, 0).context("cannot trace all processes")
    }

    /// A process, by any of its threads. Returns whether it is there.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn process(&mut self, pid: u32) -> anyhow::Result<bool> {
        let Some(pid) = living(pid) else { return Ok(false) };
        if pid == std::process::id() {
            return Ok(true);
        }
        self.traced.insert(pid, TOLD | FOLLOWED, 0).with_context(|| format!("cannot trace process {pid}"))?;
        // Whoever ended before has passed the hook that would forget it.
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
    /// What the kernel said, also where there are more names than [`nettop_common::trace::NAMES`].
    pub fn names(&mut self, names: &[String]) -> anyhow::Result<()> {
        for (index, name) in (0..).zip(names) {
            self.names.set(index, bytemuck::cast::<_, [u64; 4]>(pattern(name)), 0)?;
        }
        // Again until nobody is found: whom a process made before it was chosen was not followed.
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

    /// Whatever process nettopd makes meanwhile, from its first instruction on.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn child<T>(&mut self, make: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.traced.insert(std::process::id(), FOLLOWED, 0).context("cannot trace a command")?;
        let made = make();
        self.traced.insert(std::process::id(), 0, 0).context("cannot trace a command")?;
        Ok(made)
    }

    /// Nobody's calls are told any more.
    fn forget_all(&mut self) {
        let all: Vec<u32> = self.traced.keys().filter_map(Result::ok).collect();
        for pid in all {
            // Whoever ended meanwhile is not there.
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

/// The process that a thread belongs to, unless it has ended. The kernel escapes line ends in the name that stands there.
fn living(tid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{tid}/status")).ok()?;
    let field = |name: &[u8]| status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    let has_ended = field(b"State:\t")?.starts_with(b"Z") || field(b"State:\t")?.starts_with(b"X");
    std::str::from_utf8(field(b"Tgid:\t")?).ok()?.parse().ok().filter(|_| !has_ended)
}

/// Of a name, what the kernel keeps.
fn kept(name: &str) -> &[u8] {
    const MOST: usize = 15;
    name.as_bytes().get(..MOST).unwrap_or(name.as_bytes())
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
        assert!(SYSTEM_CALL_NUMBERS.iter().all(|number| *number < NUMBERS.into()));
    }
}
