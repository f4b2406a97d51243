//! Queries to the kernel: names of functions, without the privilege for /proc/kallsyms and including modules';
//! listeners' counts of drops; which tasks are in which network namespaces, and which of those exist.

use std::{
    collections::HashSet,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::{Ebpf, programs::Iter};
use nettop_common::{Netns, TaskNetns};

use super::{bpf_syscall, kernel::Kernel, places::Kind, programs::Programs, usage};

/// Programs for queries, and their iterators. The first two answer for a batch of addresses, a line each.
const PROGRAMS: [(&str, &str); 4] =
    [("symbols", "bpf_map"), ("listeners", "bpf_map"), (NAMESPACES, "task"), (usage::PROGRAM, "task")];
const NAMESPACES: &str = "namespaces";
/// Tags sockets: an iterator over open files.
const SEED: &str = "seed";

/// Loads them. Later is too late: their maps are taken out.
///
/// # Errors
///
/// If the verifier refuses a program whose members the kernel has: `nettopd check -vv` prints why.
pub(super) fn load(ebpf: &mut Ebpf, kernel: &Kernel) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let mut loaded = Vec::new();
    // A query whose program cannot be loaded returns nothing.
    for (name, target) in PROGRAMS.into_iter().filter(|(name, _)| kernel.members.suffice(name).is_ok()) {
        let program: &mut Iter = ebpf.program_mut(name).with_context(|| no_program(name))?.try_into()?;
        program.load(target, &kernel.kernel_btf).with_context(|| format!("cannot load {name}"))?;
        loaded.push((name.to_owned(), program.fd()?.as_fd().try_clone_to_owned()?));
    }
    // Already loaded: it has run once.
    let seed: &mut Iter = ebpf.program_mut(SEED).with_context(|| no_program(SEED))?.try_into()?;
    loaded.push((SEED.to_owned(), seed.fd()?.as_fd().try_clone_to_owned()?));
    Ok(loaded)
}

fn no_program(name: &str) -> String {
    format!("the object has no program {name}")
}

/// All namespaces, of what the kernel reported; `None` if it has too many.
pub fn existing_namespaces(reported: &[TaskNetns]) -> Option<HashSet<Netns>> {
    let existing = reported.iter().filter(|reported| reported.tgid == 0).map(|reported| reported.netns).collect();
    reported.contains(&TaskNetns::END_OF_NAMESPACES).then_some(existing)
}

impl Programs {
    /// Names of return addresses as `function+0xoffset`, or the address if the kernel has no name.
    ///
    /// # Errors
    ///
    /// If the iterator cannot be started, for lack of descriptors or memory. The next reading asks again.
    pub fn symbols(&mut self, addresses: &[u64]) -> anyhow::Result<Vec<String>> {
        let answers = self.ask("symbols", addresses)?;
        let name = |(answer, address): (Option<String>, &u64)| {
            answer.map_or_else(|| format!("{address:#x}"), |name| trimmed(&name))
        };
        Ok(answers.into_iter().zip(addresses).map(name).collect())
    }

    /// Cookie, and count of drops, of the sockets at these addresses; `None` if the kernel did not answer.
    ///
    /// # Errors
    ///
    /// As [`Self::symbols`].
    pub fn socket_drops(&mut self, sockets: &[u64]) -> anyhow::Result<Vec<Option<(u64, u32)>>> {
        let number = |line: String| {
            let (cookie, drops) = line.split_once(' ')?;
            Some((cookie.parse().ok()?, drops.parse().ok()?))
        };
        Ok(self.ask("listeners", sockets)?.into_iter().map(|line| line.and_then(number)).collect())
    }

    /// Processes in other network namespaces than this one, threads in others than their process, and at the end all
    /// namespaces, for [`existing_namespaces`]; `None` if the kernel does not report them, or in another pid namespace.
    ///
    /// # Errors
    ///
    /// If the iterator cannot be started, for lack of descriptors or memory. The caller has /proc.
    pub fn tasks_elsewhere(&self) -> anyhow::Result<Option<Vec<TaskNetns>>> {
        if Kind::Pid.is_first() { self.namespaces() } else { Ok(None) }
    }

    /// All network namespaces that exist; `None` if the kernel does not report them, or has too many.
    ///
    /// # Errors
    ///
    /// As [`Self::tasks_elsewhere`].
    pub fn existing_namespaces(&self) -> anyhow::Result<Option<HashSet<Netns>>> {
        Ok(self.namespaces()?.as_deref().and_then(existing_namespaces))
    }

    fn namespaces(&self) -> anyhow::Result<Option<Vec<TaskNetns>>> {
        let Some((_, program)) = self.query_programs.iter().find(|(own, _)| own == NAMESPACES) else { return Ok(None) };
        let mut bytes = Vec::new();
        bpf_syscall::iterate(program)?.read_to_end(&mut bytes)?;
        Ok(Some(bytes.chunks_exact(size_of::<TaskNetns>()).map(bytemuck::pod_read_unaligned).collect()))
    }

    /// Tags sockets that no hook has seen with a process that holds them.
    ///
    /// # Errors
    ///
    /// If the iterator cannot be started. Sockets stay untagged until they are used, or the next call.
    pub fn tag_sockets(&self) -> anyhow::Result<()> {
        let (_, program) = self.query_programs.iter().find(|(own, _)| own == SEED).with_context(|| no_program(SEED))?;
        bpf_syscall::iterate(program)?.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// A line for each address.
    fn ask(&mut self, name: &str, addresses: &[u64]) -> anyhow::Result<Vec<Option<String>>> {
        let mut answers = Vec::new();
        let most = self.addresses.len() as usize;
        let Some((_, program)) = self.query_programs.iter().find(|(own, _)| own == name) else {
            return Ok(vec![None; addresses.len()]);
        };
        for batch in addresses.chunks(most) {
            for (index, address) in batch.iter().chain([&0]).take(most).enumerate() {
                self.addresses.set(u32::try_from(index)?, address, 0)?;
            }
            let mut text = String::new();
            bpf_syscall::iterate(program)?.read_to_string(&mut text)?;
            let mut lines = text.lines();
            answers.extend(batch.iter().map(|_| lines.next().map(ToOwned::to_owned)));
        }
        Ok(answers)
    }
}

/// Without the function's size: `tcp_v4_rcv+0x91/0xd90` and `f+0x1/0x2 [module]`.
fn trimmed(name: &str) -> String {
    let (place, module) = name.split_once(' ').map_or((name, None), |(place, module)| (place, Some(module)));
    let place = place.split('/').next().unwrap_or(place);
    module.map_or_else(|| place.to_owned(), |module| format!("{place} {module}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_functions_size_only() {
        assert_eq!(trimmed("tcp_v4_rcv+0x91/0xd90"), "tcp_v4_rcv+0x91");
        assert_eq!(trimmed("nft_do_chain+0x1/0x2 [nf_tables]"), "nft_do_chain+0x1 [nf_tables]");
        assert_eq!(trimmed("0xffffffffc0001234"), "0xffffffffc0001234");
    }
}
