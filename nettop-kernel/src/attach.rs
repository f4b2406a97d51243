//! Attaches the hooks that `choose.rs` picks from the table. A failed hook that accounting needs fails the start; any
//! other leaves its reason in the report.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, FEntry, FExit, KProbe,
        ProgramError,
    },
};

use super::{
    btf::BtfError,
    choose::{Choice, Reason, choose},
    hooks::{AFTER_SEEDING, AttachPoint, BEFORE_SEEDING, Hook, Purpose},
    kallsyms,
    kernel::Kernel,
    refusal::Refusal,
    state::Link,
};

/// Programs that count what the kernel hid from others, see `recovery_probe.rs` of the eBPF side.
const RECOVERY_PROBES: [(&str, &str, &str); 3] = [
    ("socket_send", "socket_send_again", "sock_send_length"),
    ("socket_receive", "socket_receive_again", "sock_recv_length"),
    ("tcp_receive", "tcp_receive_again", "tcp_rcv_space_adjust"),
];

/// The kernel's version of a hook's target.
#[derive(Debug)]
pub struct Prototype {
    /// Program type, as in the names of sections.
    pub kind: &'static str,
    pub target: &'static str,
    pub found: Option<String>,
    /// Whether the hook was written for it.
    pub is_known: bool,
}

impl Kernel {
    /// # Errors
    ///
    /// [`Refusal`] for a hook that accounting needs, or that was requested.
    pub(super) fn attach_all(
        &self,
        ebpf: &mut Ebpf,
        purposes: &'static [Purpose],
    ) -> anyhow::Result<Vec<Choice<Link>>> {
        let mut choices = Vec::new();
        for purpose in purposes {
            let choice = choose(purpose, self.forced, |hook| self.offers(hook), |hook| self.attach(ebpf, hook));
            let was_forced = self.forced.filter(|_| purpose.sets.len() > 1);
            if choice.set.is_none() && (purpose.needed || was_forced.is_some()) {
                let asked = choice.refused.iter().find(|(_, reason)| *reason != Reason::NotAsked);
                let reason = asked.map_or_else(|| "no such back end".into(), |(_, reason)| reason.to_string());
                let what = match was_forced {
                    Some(backend) => {
                        format!("back end {} cannot be used for {}: {reason}", backend.name(), purpose.name)
                    }
                    None => format!("cannot attach {}: {reason}", purpose.name),
                };
                return Err(Refusal::Kernel(what).into());
            }
            choices.push(choice);
        }
        Ok(choices)
    }

    /// The kernel's prototypes for all hooks without a stable context.
    pub fn prototypes(&self) -> Vec<Prototype> {
        let purposes = BEFORE_SEEDING.iter().chain(AFTER_SEEDING);
        let hooks = purposes.flat_map(|purpose| purpose.sets).flat_map(|set| set.hooks);
        let prototype = |hook: &'static Hook| {
            let found = self.prototype(hook)?.ok();
            let is_known = found.as_ref().is_some_and(|found| hook.prototypes.contains(&found.as_str()));
            Some(Prototype { kind: hook.place.name(), target: hook.target, found, is_known })
        };
        let mut prototypes: Vec<Prototype> = hooks.filter_map(prototype).collect();
        // A function with several prototypes has a hook for each.
        prototypes.sort_by_key(|prototype| (prototype.kind, prototype.target, !prototype.is_known));
        prototypes.dedup_by_key(|prototype| (prototype.kind, prototype.target));
        prototypes
    }

    fn prototype(&self, hook: &Hook) -> Option<Result<String, BtfError>> {
        match hook.place {
            AttachPoint::PacketsTx | AttachPoint::PacketsRx | AttachPoint::Socket => None,
            AttachPoint::Tracepoint => Some(self.types.tracepoint(hook.target)),
            _ => Some(self.types.function(hook.target)),
        }
    }

    /// Whether the kernel has the program's members, and the target exists with the expected prototype.
    fn offers(&self, hook: &'static Hook) -> Result<(), Reason> {
        self.members.suffice(hook.program).map_err(Reason::Missing)?;
        let Some(found) = self.prototype(hook) else { return Ok(()) };
        let found = found.map_err(|error| Reason::Missing(error.to_string()))?;
        if hook.prototypes.is_empty() {
            let is_whole = kallsyms::has_function(hook.target);
            return if is_whole { Ok(()) } else { Err(Reason::Missing(format!("{} is inlined", hook.target))) };
        }
        if hook.prototypes.contains(&found.as_str()) {
            return Ok(());
        }
        Err(Reason::Prototype { target: hook.target, found, expected: hook.prototypes.join(" or ") })
    }

    fn attach(&self, ebpf: &mut Ebpf, hook: &'static Hook) -> Result<Link, Reason> {
        self.try_attach(ebpf, hook).map_err(|error| {
            tracing::debug!("{}/{}: {error:#}", hook.place.name(), hook.target);
            Reason::Refused { kind: hook.place.name(), target: hook.target, answer: summary(hook.place, &error) }
        })
    }

    fn try_attach(&self, ebpf: &mut Ebpf, hook: &Hook) -> anyhow::Result<Link> {
        let program =
            ebpf.program_mut(hook.program).with_context(|| format!("the object has no program {}", hook.program))?;
        Ok(match hook.place {
            AttachPoint::PacketsTx | AttachPoint::PacketsRx => {
                let attach_type = match hook.place {
                    AttachPoint::PacketsTx => CgroupSkbAttachType::Egress,
                    _ => CgroupSkbAttachType::Ingress,
                };
                let program: &mut CgroupSkb = program.try_into()?;
                program.load()?;
                // As a link, `Single` stacks with other programs; the kernel refuses the flag for that.
                let link = program.attach(&self.cgroup, attach_type, CgroupAttachMode::Single)?;
                Box::new(program.take_link(link)?)
            }
            AttachPoint::Socket => {
                let program: &mut CgroupSock = program.try_into()?;
                program.load()?;
                let link = program.attach(&self.cgroup, CgroupAttachMode::Single)?;
                Box::new(program.take_link(link)?)
            }
            AttachPoint::Tracepoint => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(hook.target, &self.kernel_btf)?;
                let link = program.attach()?;
                Box::new(program.take_link(link)?)
            }
            AttachPoint::Fentry => {
                let program: &mut FEntry = program.try_into()?;
                program.load(hook.target, &self.kernel_btf)?;
                let link = program.attach()?;
                Box::new(program.take_link(link)?)
            }
            AttachPoint::Fexit => {
                let program: &mut FExit = program.try_into()?;
                program.load(hook.target, &self.kernel_btf)?;
                let link = program.attach()?;
                Box::new(program.take_link(link)?)
            }
            AttachPoint::Kprobe | AttachPoint::Kretprobe => {
                let program: &mut KProbe = program.try_into()?;
                if program.fd().is_err() {
                    program.load()?;
                }
                let link = program.attach(hook.target, 0)?;
                Box::new(program.take_link(link)?)
            }
        })
    }

    /// Loads the recovery probes for the programs in use.
    pub(super) fn load_recovery_probes(&self, ebpf: &mut Ebpf) -> anyhow::Result<Vec<(String, OwnedFd)>> {
        let mut loaded = Vec::new();
        for (first, again, target) in RECOVERY_PROBES {
            if ebpf.program(first).is_some_and(|program| program.fd().is_ok()) && self.members.suffice(again).is_ok() {
                let program = ebpf.program_mut(again).with_context(|| format!("the object has no program {again}"))?;
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(target, &self.kernel_btf).with_context(|| format!("cannot load {again}"))?;
                loaded.push((again.to_owned(), program.fd()?.as_fd().try_clone_to_owned()?));
            }
        }
        Ok(loaded)
    }
}

/// The kernel's answer without the verifier's log, which is for `-vv`, and with the remedy.
fn summary(place: AttachPoint, error: &anyhow::Error) -> String {
    let is_cgroup = matches!(place, AttachPoint::PacketsTx | AttachPoint::PacketsRx | AttachPoint::Socket);
    match error.downcast_ref::<ProgramError>() {
        Some(ProgramError::LoadError { io_error, .. }) if io_error.raw_os_error() == Some(libc::EPERM) => {
            "this system forbids such programs (EPERM)".into()
        }
        Some(ProgramError::LoadError { io_error, .. }) => format!("the verifier refused the program: {io_error}"),
        Some(ProgramError::SyscallError(error)) if is_cgroup => cgroup(&error.io_error),
        _ => format!("{error:#}"),
    }
}

/// Why the root cgroup takes no program (`__cgroup_bpf_attach`, `cgroup_bpf_link_attach`).
fn cgroup(error: &std::io::Error) -> String {
    let what = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "another program has this hook of the root cgroup for itself, attached without BPF_F_ALLOW_MULTI; `bpftool cgroup show` on the mount of cgroup2 names it, and it has to be detached, or attached with `multi`"
        }
        Some(libc::E2BIG) => "64 programs are attached to this hook of the root cgroup already, as many as can be",
        Some(libc::EINVAL) => "the kernel must be built with CONFIG_CGROUP_BPF=y",
        _ => "the kernel refuses it",
    };
    format!("{what} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_another_program_holds_is_no_lack_of_the_kernel() {
        let said = |errno| cgroup(&std::io::Error::from_raw_os_error(errno));
        assert!(said(libc::EPERM).starts_with("another program has this hook of the root cgroup for itself"));
        assert!(said(libc::E2BIG).contains("64 programs"));
        assert_eq!(
            said(libc::EINVAL),
            "the kernel must be built with CONFIG_CGROUP_BPF=y (Invalid argument (os error 22))"
        );
        assert_eq!(said(libc::ENOMEM), "the kernel refuses it (Cannot allocate memory (os error 12))");
    }
}
