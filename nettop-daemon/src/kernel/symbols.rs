//! Names of kernel addresses, asked of the kernel: no privilege for /proc/kallsyms is needed, and modules are included.

use std::io::Read as _;

use anyhow::Context as _;
use aya::{Ebpf, programs::Iter};

use super::programs::Programs;

/// Loads the program that prints names. Later it could not be: its maps are taken out.
///
/// # Errors
///
/// What the kernel said.
pub(super) fn load(ebpf: &mut Ebpf, kernel_btf: &aya::Btf) -> anyhow::Result<()> {
    let program: &mut Iter = ebpf.program_mut("symbols").context("the object has no program symbols")?.try_into()?;
    program.load("bpf_map", kernel_btf).context("cannot load symbols")?;
    Ok(())
}

impl Programs {
    /// Names of return addresses as `function+0xoffset`, or the address where the kernel knows no name.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn symbols(&mut self, addresses: &[u64]) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        let most = self.addresses.len() as usize;
        for batch in addresses.chunks(most) {
            for (index, address) in batch.iter().chain([&0]).take(most).enumerate() {
                self.addresses.set(u32::try_from(index)?, address, 0)?;
            }
            let program = self.ebpf.program_mut("symbols").context("the object has no program symbols")?;
            let program: &mut Iter = program.try_into()?;
            let link = program.attach()?;
            let mut text = String::new();
            program.take_link(link)?.into_file()?.read_to_string(&mut text)?;
            let found: Vec<&str> = text.lines().collect();
            names.extend(batch.iter().enumerate().map(|(number, address)| match found.get(number) {
                Some(name) => trimmed(name),
                None => format!("{address:#x}"),
            }));
        }
        Ok(names)
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
