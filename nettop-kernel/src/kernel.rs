//! The running kernel: whether it has all that nettopd needs, and the data for loading programs.

use std::{fs::File, path::Path};

use anyhow::Context as _;

use super::{
    btf::{self, Btf},
    hooks::{AFTER_SEEDING, BEFORE_SEEDING, Backend, events},
    members::Members,
    preflight,
    refusal::Refusal,
};

/// Targets of the iterators.
const ITERATOR_TARGETS: [&str; 5] = ["bpf_map", "task", "task_file", "tcp", "udp"];

/// BTF names of all attach targets, as aya looks them up.
fn targets() -> impl Iterator<Item = String> {
    let purposes = BEFORE_SEEDING.iter().chain(AFTER_SEEDING).chain(events::ALL.into_iter().flatten());
    let hooks = purposes.flat_map(|purpose| purpose.sets).flat_map(|set| set.hooks);
    let hooks = hooks.flat_map(|hook| [hook.target.to_owned(), format!("btf_trace_{}", hook.target)]);
    hooks.chain(ITERATOR_TARGETS.map(|target| format!("bpf_iter_{target}")))
}

/// A kernel with all that nettopd needs, and the data for loading programs.
pub struct Kernel {
    pub(super) cgroup: File,
    pub(super) types: Btf,
    pub(super) members: Members,
    /// The kernel types for attaching programs, see [`targets`].
    pub(super) kernel_btf: aya::Btf,
    pub(super) forced: Option<Backend>,
}

impl Kernel {
    /// Checks the running kernel.
    ///
    /// # Errors
    ///
    /// [`Refusal`], with the remedy, if a capability, BTF, the root of the cgroup2 hierarchy or a BPF helper is missing,
    /// or this process is in a namespace that hides the machine. Another error if /proc or the root cgroup cannot be
    /// opened, or the kernel's BTF cannot be read.
    pub fn examine(forced: Option<Backend>) -> anyhow::Result<Self> {
        preflight::check()?;
        let cgroup = preflight::cgroup2()?;
        let types = Btf::read(Path::new(btf::VMLINUX))?;
        preflight::helpers(&types)?;
        // aya parses and searches every type that it gets.
        let kernel_btf = aya::Btf::parse(&types.only(targets()), aya::Endianness::default())
            .context("cannot parse the kernel's BTF")?;
        let members = Members::find(&types);
        Ok(Self { cgroup, types, members, kernel_btf, forced })
    }

    /// Which struct members it has.
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Refuses a program that needs an absent member.
    pub(super) fn suffices(&self, program: &str) -> Result<(), Refusal> {
        self.members.suffice(program).map_err(|what| Refusal::Kernel(format!("cannot use {program}: {what}")))
    }

    /// The kernel's types, while this is kept.
    pub const fn types(&self) -> &Btf {
        &self.types
    }
}
