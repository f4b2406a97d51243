//! The eBPF object: its data about the running kernel and its limits, and its loading.

use anyhow::Context as _;
use aya::{Ebpf, EbpfError, EbpfLoader};
use nettop_common::{EventFilter, offsets, ports::MAX_PORTS};

use super::{
    events::{self, EventKind, EventSpec},
    kernel::Kernel,
    limits::{Limits, MIN_RING_BYTES},
    log, netns,
    places::Kind,
    refusal::Refusal,
};

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETTOP_EBPF"));

/// System calls have smaller numbers.
pub const CALL_NUMBERS: u32 = 512;

/// Room for some three thousand records of processes, which are read with each interval.
const PROCESS_RING_BYTES: u32 = 1 << 20;

/// Room for some five thousand processes that end between two looks, a second apart.
const USAGE_RING_BYTES: u32 = 1 << 20;
/// And for some two thousand programs that are executed in that time.
const EXECUTED_RING_BYTES: u32 = 1 << 20;

/// Running calls that kprobes can remember.
const MAX_CALLS: u32 = 65_536;

/// Reasons that programs know by their values.
const REASONS: [&str; 8] = [
    "NOT_SPECIFIED",
    "NO_SOCKET",
    "PACKET_SOCK_ERROR",
    "QUEUE_PURGE",
    "SOCKET_RCVBUFF",
    "TCP_CSUM",
    "TCP_FLAGS",
    "TCP_LISTEN_OVERFLOW",
];

/// Reasons for drops between the cgroup's egress hook and the device. 7.x separates some of the queues'.
const UNSENT: &[&str] = &[
    "BPF_CGROUP_EGRESS",
    "NEIGH_CREATEFAIL",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "NEIGH_DEAD",
    "NEIGH_HH_FILLFAIL",
    "TC_EGRESS",
    "QDISC_DROP",
    "QDISC_OVERLIMIT",
    "QDISC_CONGESTED",
    "CAKE_FLOOD",
    "DUALPI2_STEP_DROP",
    "FQ_BAND_LIMIT",
    "FQ_HORIZON_LIMIT",
    "FQ_FLOW_LIMIT",
];

impl Kernel {
    /// Loads the object with its data.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if bpf(2) fails with EPERM: in a user namespace for lack of `CAP_BPF` outside of it, elsewhere
    /// because lockdown, a security module or a seccomp filter forbids it. Another error, which names what failed, if
    /// the own network namespace cannot be found out, or if the kernel refuses a map or the object's BTF, as for lack
    /// of memory.
    pub(super) fn load(&self, limits: Limits, spec: Option<EventSpec>, with_shadows: bool) -> anyhow::Result<Ebpf> {
        let types = &self.types;
        let (row_entries, owner_entries) = (limits.row_entries(), limits.owner_entries());
        let members = self.members.values();
        let (row_limit, owner_limit) = (u64::from(limits.rows), u64::from(limits.owners()));
        let own_netns = netns::current().context("cannot find out the own network namespace")?;
        // A bit of `packet_sock.flags`, since 6.4.
        let bypass_bit =
            types.enumerator("packet_sock_flags", "PACKET_SOCK_QDISC_BYPASS").map_or(offsets::ABSENT, u64::from);
        let vnet_flag =
            types.enumerator("packet_sock_flags", "PACKET_SOCK_HAS_VNET_HDR").map_or(offsets::ABSENT, u64::from);
        let reasons = REASONS.map(|reason| {
            let value = types.enumerator("skb_drop_reason", &format!("SKB_DROP_REASON_{reason}"));
            (format!("REASON_{reason}"), value.unwrap_or(u32::MAX))
        });
        let unsent = UNSENT.iter().filter_map(|reason| {
            types.enumerator("skb_drop_reason", &format!("SKB_DROP_REASON_{reason}")).ok().filter(|value| *value < 128)
        });
        let unsent = unsent.fold([0u64; 2], |mut bits, value| {
            bits[value as usize / 64] |= 1 << (value % 64);
            bits
        });
        let qdisc_subsystem =
            types.enumerator("skb_drop_reason_subsys", "SKB_DROP_REASON_SUBSYS_QDISC").unwrap_or_default();
        let has = |tracepoint: &str, what: &str| {
            u32::from(types.tracepoint(tracepoint).is_ok_and(|prototype| prototype.contains(what)))
        };
        let (has_reason, has_rx_sk) = (has("kfree_skb", "reason"), has("kfree_skb", "sock *"));
        let has_retransmit_error = has("tcp_retransmit_skb", ", int)");
        let shadow = u32::from(with_shadows);
        let event_filter: [u32; size_of::<EventFilter>() / 4] =
            bytemuck::cast(spec.map(|spec| spec.filter).unwrap_or_default());
        let emit_packets = u32::from(spec.is_some_and(|spec| spec.what == EventKind::Packets));
        let decode = u32::from(spec.is_some_and(|spec| spec.what == EventKind::CallsAndArguments));
        let record_traced = u32::from(spec.is_some_and(|spec| spec.with_names));
        let mut loader = EbpfLoader::new();
        for (global, place) in &members {
            loader.override_global(global, place, true);
        }
        for (global, reason) in &reasons {
            loader.override_global(global, reason, true);
        }
        loader
            // Instead of all kernel types: the object has no relocations by type.
            .btf(Some(&self.kernel_btf))
            .override_global("ROW_LIMIT", &row_limit, true)
            .override_global("DROPS_LIMIT", &limits.drops, true)
            .override_global("UNSENT_REASONS", &unsent, true)
            .override_global("QDISC_SUBSYSTEM", &qdisc_subsystem, true)
            .override_global("OWNER_LIMIT", &owner_limit, true)
            .override_global("OWN_NETNS_COOKIE", &own_netns.cookie, true)
            .override_global("HAS_REASON", &has_reason, true)
            .override_global("HAS_RX_SK", &has_rx_sk, true)
            .override_global("HAS_RETRANSMIT_ERROR", &has_retransmit_error, true)
            .override_global("SHADOW", &shadow, true)
            .override_global("PACKET_BYPASS_BIT", &bypass_bit, true)
            .override_global("PACKET_VNET_FLAG", &vnet_flag, true)
            .override_global("EVENT_FILTER", &event_filter, true)
            .override_global("EMIT_PACKETS", &emit_packets, true)
            .override_global("DECODE", &decode, true)
            .override_global("RECORD_TRACED", &record_traced, true)
            .override_global("SYS_ACCEPT", &events::SYS_ACCEPT, true)
            .override_global("SYS_ACCEPT4", &events::SYS_ACCEPT4, true)
            // Task storage has no type in aya and needs none: only programs use it.
            .allow_unsupported_maps()
            .map_max_entries("SHADOWS", if with_shadows { limits.rows } else { 1 })
            .map_max_entries("CALLS", if with_shadows { MAX_CALLS } else { 1 })
            .map_max_entries("DROPS", limits.drops)
            .map_max_entries("PROCESS_DROPS", limits.drops)
            .map_max_entries("PORTS", MAX_PORTS)
            .map_max_entries("LISTENERS", MAX_PORTS)
            .map_max_entries("EVENTS", spec.map_or(MIN_RING_BYTES, EventSpec::ring_bytes))
            .map_max_entries("PROCESSES", PROCESS_RING_BYTES)
            .map_max_entries("ENDED_USAGE", USAGE_RING_BYTES)
            .map_max_entries("EXECUTED", EXECUTED_RING_BYTES)
            .map_max_entries("ASSOCIATIONS", spec.map_or(1, EventSpec::associations))
            .map_max_entries("TRACED", spec.map_or(1, EventSpec::processes))
            .map_max_entries("CALLS_BY_NUMBER", CALL_NUMBERS)
            .map_max_entries("ROWS", row_entries)
            .map_max_entries("ROW_INDEX", row_entries)
            .map_max_entries("FREE_ROWS", row_entries)
            .map_max_entries("OWNERS", owner_entries)
            .map_max_entries("OWNER_INDEX", owner_entries)
            .map_max_entries("FREE_OWNERS", owner_entries);
        log::set_level(&mut loader, &log::OFF, &log::ON);
        loader.load(OBJECT).map_err(refused)
    }
}

/// Root of a user namespace has the required capabilities, and may not use them. Elsewhere a security module or the
/// kernel's lockdown refuses.
fn refused(error: EbpfError) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let is_forbidden = error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(|error: &std::io::Error| error.raw_os_error() == Some(libc::EPERM))
    });
    if is_forbidden && Kind::User.is_first() {
        return Refusal::Kernel(
            "this system forbids BPF (EPERM): by lockdown, see /sys/kernel/security/lockdown, or by a security module or a seccomp filter".into(),
        )
        .into();
    }
    if is_forbidden {
        return Refusal::Permission("CAP_BPF outside of this user namespace".into()).into();
    }
    error.context("cannot load the eBPF object")
}
