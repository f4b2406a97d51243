//! Walks over all sockets: nothing is attached for it, and nothing stays.

use std::{
    io::Read as _,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use aya::{Ebpf, programs::Iter};
use nettop_common::SocketRecord;

use super::programs::{Kernel, Limits};

/// Programs, and what they walk over.
const WALKS: [(&str, &str); 3] = [("held_sockets", "task_file"), ("tcp_sockets", "tcp"), ("udp_sockets", "udp")];
/// Nothing is counted.
const LIMITS: Limits = Limits { rows: 1, drops: 1 };

/// The loaded walks.
pub struct Walks(Mutex<Ebpf>);

impl Kernel {
    /// Loads the walks.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn walks(&self) -> anyhow::Result<Walks> {
        let mut ebpf = self.load(LIMITS, None, false)?;
        for (name, target) in WALKS {
            let program = iterator(&mut ebpf, name)?;
            program.load(target, &self.kernel_btf).with_context(|| format!("cannot load {name}"))?;
        }
        Ok(Walks(Mutex::new(ebpf)))
    }
}

impl Walks {
    /// Every socket that a process of this pid namespace holds, in every network namespace, once for each descriptor.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn held(&self) -> anyhow::Result<Vec<SocketRecord>> {
        self.walk("held_sockets")
    }

    /// The sockets of TCP and UDP of the calling thread's network namespace, held or not.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn tables(&self) -> anyhow::Result<Vec<SocketRecord>> {
        Ok([self.walk("tcp_sockets")?, self.walk("udp_sockets")?].concat())
    }

    fn walk(&self, name: &str) -> anyhow::Result<Vec<SocketRecord>> {
        let mut ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let program = iterator(&mut ebpf, name)?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        drop(ebpf);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot walk by {name}"))?;
        let records = bytes.chunks_exact(size_of::<SocketRecord>());
        anyhow::ensure!(records.remainder().is_empty(), "{name} ended within a record");
        Ok(records.map(bytemuck::pod_read_unaligned).collect())
    }
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Iter> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}
