//! Questions to the kernel about addresses: names of functions, for which no privilege for /proc/kallsyms is needed and
//! which include modules'; and listeners' counts of drops.

use std::{
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::{Ebpf, programs::Iter};

use super::{calls, programs::Programs};

/// Programs that answer for a batch of addresses, a line each.
const PROGRAMS: [&str; 2] = ["symbols", "listeners"];

/// Loads them. Later they could not be: their maps are taken out.
///
/// # Errors
///
/// What the kernel said.
pub(super) fn load(ebpf: &mut Ebpf, kernel_btf: &aya::Btf) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let mut loaded = Vec::new();
    for name in PROGRAMS {
        let program: &mut Iter = ebpf.program_mut(name).with_context(|| no_program(name))?.try_into()?;
        program.load("bpf_map", kernel_btf).with_context(|| format!("cannot load {name}"))?;
        loaded.push((name.to_owned(), program.fd()?.as_fd().try_clone_to_owned()?));
    }
    Ok(loaded)
}

fn no_program(name: &str) -> String {
    format!("the object has no program {name}")
}

impl Programs {
    /// Names of return addresses as `function+0xoffset`, or the address where the kernel knows no name.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn symbols(&mut self, addresses: &[u64]) -> anyhow::Result<Vec<String>> {
        let answers = self.ask("symbols", addresses)?;
        let name = |(answer, address): (Option<String>, &u64)| {
            answer.map_or_else(|| format!("{address:#x}"), |name| trimmed(&name))
        };
        Ok(answers.into_iter().zip(addresses).map(name).collect())
    }

    /// Cookie, and count of drops, of the sockets at these addresses; nothing where the kernel did not answer.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn socket_drops(&mut self, sockets: &[u64]) -> anyhow::Result<Vec<Option<(u64, u32)>>> {
        let number = |line: String| {
            let (cookie, drops) = line.split_once(' ')?;
            Some((cookie.parse().ok()?, drops.parse().ok()?))
        };
        Ok(self.ask("listeners", sockets)?.into_iter().map(|line| line.and_then(number)).collect())
    }

    /// A line for each address.
    fn ask(&mut self, name: &str, addresses: &[u64]) -> anyhow::Result<Vec<Option<String>>> {
        let mut answers = Vec::new();
        let most = self.addresses.len() as usize;
        let (_, program) = self.answering.iter().find(|(own, _)| own == name).with_context(|| no_program(name))?;
        for batch in addresses.chunks(most) {
            for (index, address) in batch.iter().chain([&0]).take(most).enumerate() {
                self.addresses.set(u32::try_from(index)?, address, 0)?;
            }
            let mut text = String::new();
            calls::iterate(program)?.read_to_string(&mut text)?;
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
