//! Iterators over all sockets: nothing is attached, and nothing stays. A meter is attached while it is kept.

use std::{
    io::{ErrorKind, Read as _},
    mem::offset_of,
    ops::ControlFlow,
    sync::Mutex,
};

use anyhow::Context as _;
use aya::{Ebpf, maps::Array, programs::Iter};
use nettop_common::{SocketRecord, Stats};

use super::{
    hooks::{AttachPoint, Purpose, hook, only},
    kernel::Kernel,
    limits::Limits,
    lock::lock,
    state::Link,
};

/// Programs, and their iterators.
const ITERATORS: [(&str, &str); 3] = [("held_sockets", "task_file"), ("tcp_sockets", "tcp"), ("udp_sockets", "udp")];
/// Counts packets by socket. New sockets first: without its creation, a socket's age is unknown.
const METER: &[Purpose] = &[Purpose {
    name: "packets of sockets",
    needed: true,
    effect_if_missing: "what each socket moves",
    sets: &[only(&[
        hook("meter_create", AttachPoint::Socket, "sock_create", &[]),
        hook("meter_tx", AttachPoint::PacketsTx, "egress", &[]),
        hook("meter_rx", AttachPoint::PacketsRx, "ingress", &[]),
    ])],
}];

/// Records per read.
const RECORDS_PER_READ: usize = 256;

/// Takes a record, and returns whether to continue.
pub type Take<'a> = dyn FnMut(SocketRecord) -> ControlFlow<()> + 'a;

/// The loaded iterators.
pub struct SocketIterators(Mutex<Ebpf>);

impl std::fmt::Debug for SocketIterators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketIterators").finish_non_exhaustive()
    }
}

/// Counts packets by socket until dropped. The counters are in the records of its iterators.
pub struct Meter {
    _links: Vec<Link>,
}

impl Kernel {
    /// Loads the iterators.
    ///
    /// # Errors
    ///
    /// If the kernel lacks a member that they read, or the verifier refuses them. Nothing else needs them.
    pub fn iterators(&self) -> anyhow::Result<SocketIterators> {
        let mut ebpf = self.load(Limits::MIN, None, false)?;
        for (name, target) in ITERATORS {
            self.suffices(name)?;
            let program = iterator(&mut ebpf, name)?;
            program.load(target, &self.kernel_btf).with_context(|| format!("cannot load {name}"))?;
        }
        Ok(SocketIterators(Mutex::new(ebpf)))
    }
}

impl SocketIterators {
    /// Every socket that a process of this pid namespace holds, in all network namespaces, once per descriptor.
    ///
    /// # Errors
    ///
    /// If the iterator cannot be started or read: what was passed on so far is no whole list.
    pub fn held(&self, take: &mut Take<'_>) -> anyhow::Result<()> {
        self.run("held_sockets", take).map(|_| ())
    }

    /// The sockets of TCP and UDP of the calling thread's network namespace, held or not.
    ///
    /// # Errors
    ///
    /// As [`Self::held`].
    pub fn tables(&self, take: &mut Take<'_>) -> anyhow::Result<()> {
        if self.run("tcp_sockets", take)?.is_continue() {
            let _ = self.run("udp_sockets", take)?;
        }
        Ok(())
    }

    /// Counts each socket's packets from now on.
    ///
    /// # Errors
    ///
    /// [`super::refusal::Refusal`] if the kernel has or permits no hook that counts packets.
    pub fn meter(&self, kernel: &Kernel) -> anyhow::Result<Meter> {
        let choices = kernel.attach_all(&mut lock(&self.0), METER)?;
        Ok(Meter { _links: choices.into_iter().flat_map(|choice| choice.links).map(|(_, link)| link).collect() })
    }

    /// Packets not counted, for lack of memory for their socket's meter.
    ///
    /// # Errors
    ///
    /// If the object and this program are not of one build.
    pub fn uncounted(&self) -> anyhow::Result<u64> {
        let ebpf = lock(&self.0);
        let stats: Array<_, [u64; size_of::<Stats>() / 8]> =
            Array::try_from(ebpf.map("STATS").context("the object has no map STATS")?)?;
        Ok(stats.get(&0, 0)?[offset_of!(Stats, tags_refused) / 8])
    }

    /// Passes on one record at a time: all may not fit into memory.
    fn run(&self, name: &str, take: &mut Take<'_>) -> anyhow::Result<ControlFlow<()>> {
        let mut ebpf = lock(&self.0);
        let program = iterator(&mut ebpf, name)?;
        let link = program.attach()?;
        let mut file = program.take_link(link)?.into_file()?;
        drop(ebpf);
        let (mut buffer, mut filled) = (vec![0; RECORDS_PER_READ * size_of::<SocketRecord>()], 0);
        loop {
            let read = match file.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.with_context(|| format!("cannot read {name}"))?,
            };
            if read == 0 {
                anyhow::ensure!(filled == 0, "{name} ended within a record");
                return Ok(ControlFlow::Continue(()));
            }
            filled += read;
            let records = buffer[..filled].chunks_exact(size_of::<SocketRecord>());
            let rest = filled - records.remainder().len();
            for record in records {
                if take(bytemuck::pod_read_unaligned(record)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            buffer.copy_within(rest..filled, 0);
            filled -= rest;
        }
    }
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Iter> {
    let program = ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}
