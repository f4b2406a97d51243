//! Walks over all sockets: nothing is attached for it, and nothing stays. A meter is, for as long as it is kept.

use std::{
    io::Read as _,
    mem::offset_of,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use aya::{Ebpf, maps::Array, programs::Iter};
use nettop_common::{SocketRecord, Stats};

use super::{
    hooks::{Place, Purpose, hook, only},
    programs::{Kernel, Limits, Link},
};

/// Programs, and what they walk over.
const WALKS: [(&str, &str); 3] = [("held_sockets", "task_file"), ("tcp_sockets", "tcp"), ("udp_sockets", "udp")];
/// Nothing is counted.
const LIMITS: Limits = Limits { rows: 1, drops: 1 };

/// What counts packets by socket. Birth first: a packet of a socket whose birth was missed tells nothing of its age.
const METER: &[Purpose] = &[Purpose {
    name: "packets of sockets",
    needed: true,
    lacks: "what each socket moves",
    ways: &[only(&[
        hook("meter_birth", Place::Socket, "sock_create", &[]),
        hook("meter_tx", Place::PacketsTx, "egress", &[]),
        hook("meter_rx", Place::PacketsRx, "ingress", &[]),
    ])],
}];

/// The loaded walks.
pub struct Walks(Mutex<Ebpf>);

impl std::fmt::Debug for Walks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walks").finish_non_exhaustive()
    }
}

/// Counts packets by socket until it is dropped. What it counted is in the records of its walks.
pub struct Meter {
    _links: Vec<Link>,
}

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

    /// Counts each socket's packets from now on.
    ///
    /// # Errors
    ///
    /// [`super::preflight::Refusal`] if the kernel refuses.
    pub fn meter(&self, kernel: &Kernel) -> anyhow::Result<Meter> {
        let choices = kernel.attach_all(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), METER)?;
        Ok(Meter { _links: choices.into_iter().flat_map(|choice| choice.links).map(|(_, link)| link).collect() })
    }

    /// Packets that were not counted, since the kernel had no memory for their socket's meter.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn uncounted(&self) -> anyhow::Result<u64> {
        let ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats: Array<_, [u64; size_of::<Stats>() / 8]> =
            Array::try_from(ebpf.map("STATS").context("the object has no map STATS")?)?;
        Ok(stats.get(&0, 0)?[offset_of!(Stats, tags_refused) / 8])
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
