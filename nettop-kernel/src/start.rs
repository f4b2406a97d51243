//! Attaches the object's programs, and tags older sockets.

use std::{io::Read as _, time::Instant};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::HashMap,
    programs::{Iter, Program},
    util::KernelVersion,
};

use super::{
    adopt,
    events::{EventKind, EventSpec, Events},
    hooks::{AFTER_SEEDING, BEFORE_SEEDING, Backend},
    kernel::Kernel,
    limits::Limits,
    log::KernelLog,
    mapping::take,
    programs::{Parts, Programs},
    queries,
    recursion_misses::Misses,
    state::{HookState, LoadState, state},
};

impl Kernel {
    /// Loads and attaches everything through the forced back end or the best.
    ///
    /// # Errors
    ///
    /// [`crate::Refusal`] if the kernel forbids BPF, lacks a member that the search for open sockets reads, or refuses a
    /// hook that accounting needs or the forced back end has: another back end may do. Another error, which names what
    /// failed, if a map cannot be made or mapped, the open sockets cannot be read, or descriptors are exhausted. Nothing
    /// stays attached.
    pub fn start(&self, limits: Limits, spec: Option<EventSpec>) -> anyhow::Result<Programs> {
        let is_kprobe = |backend: Option<Backend>| backend == Some(Backend::Kprobe);
        let programs = self.start_with(limits, spec, is_kprobe(self.forced))?;
        let counts_by_kprobe = |hook: &HookState| {
            is_kprobe(hook.backend) && AFTER_SEEDING.iter().any(|purpose| purpose.name == hook.purpose)
        };
        if programs.hooks.iter().any(counts_by_kprobe) && !is_kprobe(self.forced) {
            // Packet hooks must keep shadows for kprobes, which is decided when they are loaded.
            drop(programs);
            return self.start_with(limits, spec, true);
        }
        Ok(programs)
    }

    fn start_with(&self, limits: Limits, spec: Option<EventSpec>, with_shadows: bool) -> anyhow::Result<Programs> {
        let begun = Instant::now();
        let mut ebpf = self.load(limits, spec, with_shadows)?;
        let mut choices = self.attach_all(&mut ebpf, BEFORE_SEEDING)?;
        self.seed(&mut ebpf).context("cannot read the open sockets")?;
        choices.extend(self.attach_all(&mut ebpf, AFTER_SEEDING)?);
        if let Some(spec) = spec {
            choices.extend(self.attach_all(&mut ebpf, spec.purposes())?);
        }
        let misses = Misses::watch(&ebpf)?;
        let recovery_probes = self.load_recovery_probes(&mut ebpf)?;
        let query_programs = queries::load(&mut ebpf, self)?;
        let load = LoadState { took: begun.elapsed(), verified: verified(&ebpf) };
        let hooks = choices.iter().map(state).collect();
        let links = choices.into_iter().flat_map(|choice| choice.links).map(|(_, link)| link).collect();
        let maps = adopt::maps(&ebpf)?;
        let parts = Parts { maps, hooks, load, misses, recovery_probes, query_programs, links };
        let mut programs = Programs::assemble(limits, parts, |name| take(&mut ebpf, name))?;
        programs.emits_packets = spec.is_some_and(|spec| spec.what == EventKind::Packets);
        programs.log = KernelLog::take_from(&mut ebpf)?;
        programs.events = Some(Events::from_map(take(&mut ebpf, "EVENTS")?)?);
        programs.associations = Some(HashMap::try_from(take(&mut ebpf, "ASSOCIATIONS")?)?);
        if KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(7, 0, 0)) {
            // Tracepoints can be preempted: a busy machine skips the first run within seconds.
            programs.attach_recovery();
        }
        Ok(programs)
    }

    /// Runs the iterator over open files once.
    fn seed(&self, ebpf: &mut Ebpf) -> anyhow::Result<()> {
        self.suffices("seed")?;
        let program: &mut Iter = ebpf.program_mut("seed").context("the object has no program seed")?.try_into()?;
        program.load("task_file", &self.kernel_btf)?;
        let link = program.attach()?;
        let mut iterator = program.take_link(link)?.into_file()?;
        let mut output = Vec::new();
        iterator.read_to_end(&mut output)?;
        Ok(())
    }
}

fn verified(ebpf: &Ebpf) -> Vec<(String, u32)> {
    let count = |program: &Program| program.info().ok()?.verified_instruction_count();
    let mut verified: Vec<_> =
        ebpf.programs().filter_map(|(name, program)| Some((name.to_owned(), count(program)?))).collect();
    verified.sort();
    verified
}
