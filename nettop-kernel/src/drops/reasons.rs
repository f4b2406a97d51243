//! Why packets are dropped: names from the running kernel's enums, whose numbers vary even in stable releases, and
//! classes by name.

use std::{collections::HashMap, fs, path::Path};

use nettop_common::drops::unsent;

use crate::btf::{self, Btf};

/// What a reason asks of an administrator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Something was too small or too slow.
    Capacity,
    /// A rule forbade it.
    Policy,
    /// No receiver, or no route.
    Routing,
    /// It was damaged or malformed.
    Corruption,
    /// The kernel gives no reason.
    Unspecified,
    /// A sniffer was too slow for its copy: the traffic itself went on.
    Capture,
    /// Nothing was lost: ends of connections, duplicates, packets for others.
    Lifecycle,
}

/// A packet socket had no room. With this reason the kernel passes the socket.
pub const CAPTURE: &str = "PACKET_SOCK_ERROR";

const CORE: &str = "skb_drop_reason";
const CORE_PREFIX: &str = "SKB_DROP_REASON_";
/// Enums of subsystems end like the core's.
const SUFFIX: &str = "_drop_reason";
/// The subsystem is the upper half of a reason.
const SUBSYSTEM_SHIFT: u32 = 16;

/// Names of reasons by number.
pub struct Reasons {
    names: HashMap<u32, String>,
    /// Where a module's own strings begin.
    kernel_strings_len: u32,
}

impl Reasons {
    /// Reads the names in the kernel's own BTF; before 5.17 there are none.
    pub fn new(kernel: &Btf) -> Self {
        let mut reasons = Self { names: HashMap::new(), kernel_strings_len: kernel.strings_len() };
        reasons.add(kernel);
        reasons
    }

    /// A reason's name, or its number if it has none. Modules are read when one of their reasons appears.
    pub fn name(&mut self, reason: u32) -> String {
        if !self.names.contains_key(&reason) && reason >> SUBSYSTEM_SHIFT != 0 {
            self.read_modules();
            self.names.entry(reason).or_insert_with(|| numbered(reason));
        }
        self.names.get(&reason).cloned().unwrap_or_else(|| numbered(reason))
    }

    fn add(&mut self, btf: &Btf) {
        for (of, name, value) in btf.enumerators(|of| of.ends_with(SUFFIX)) {
            let is_core = of == CORE;
            // Marks, and what is no drop.
            let is_mark = name.ends_with("_MASK") || name.ends_with("_MAX") || name.starts_with("__");
            if is_mark || is_core != (value >> SUBSYSTEM_SHIFT == 0) {
                continue;
            }
            let name = if is_core { name.strip_prefix(CORE_PREFIX).unwrap_or(&name).to_owned() } else { name };
            self.names.entry(value).or_insert(name);
        }
    }

    fn read_modules(&mut self) {
        for entry in fs::read_dir(btf::FOLDER).into_iter().flatten().flatten() {
            if entry.path() == Path::new(btf::VMLINUX) {
                continue;
            }
            match Btf::read_module(&entry.path(), self.kernel_strings_len) {
                Ok(btf) => self.add(&btf),
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }
}

fn numbered(reason: u32) -> String {
    match (reason >> SUBSYSTEM_SHIFT, reason & 0xffff) {
        (0, 0) => "NONE".into(),
        (0, number) => number.to_string(),
        (subsystem, number) => format!("{subsystem}:{number}"),
    }
}

/// The class of a reason, by its name; without a reason, by the function that dropped.
pub fn class(reason: &str, location: &str, protocol: u16) -> Class {
    let function = location.split('+').next().unwrap_or_default();
    match reason {
        CAPTURE => Class::Capture,
        // Before 6.12 without a reason.
        "NOT_SPECIFIED" | "NONE" if CAPTURES.contains(&function) => Class::Capture,
        "NOT_SPECIFIED" | "NONE" if is_queue(function) => Class::Capacity,
        "NOT_SPECIFIED" | "NONE" if is_lifecycle(function, protocol) => Class::Lifecycle,
        "QUEUE_PURGE"
        | "SOCKET_CLOSE"
        | "UNIX_DISCONNECT"
        | "UNIX_SKIP_OOB"
        | "TCP_OLD_DATA"
        | "TCP_OLD_ACK"
        | "TCP_OLD_SEQUENCE"
        | "TCP_RFC7323_PAWS_ACK"
        | "TCP_CLOSE"
        | "TCP_RESET"
        | "TCP_OFOMERGE"
        | "DUP_FRAG"
        | "OTHERHOST"
        | "UNICAST_IN_L2_MULTICAST"
        | "LOCAL_MAC"
        | "UNHANDLED_PROTO"
        | "IPV6_NDISC_NS_OTHERHOST" => Class::Lifecycle,
        "SOCKET_RCVBUFF"
        | "PROTO_MEM"
        | "SOCKET_BACKLOG"
        | "CPU_BACKLOG"
        | "FULL_RING"
        | "NOMEM"
        | "PFMEMALLOC"
        | "SKB_GSO_SEG"
        | "SKB_UCOPY_FAULT"
        | "NEIGH_QUEUEFULL"
        | "TCP_ZEROWINDOW"
        | "TCP_OFO_QUEUE_PRUNE"
        | "TCP_OFO_DROP"
        | "TCP_LISTEN_OVERFLOW"
        | "FRAG_TOO_FAR"
        | "FRAG_REASM_TIMEOUT"
        | "DUALPI2_STEP_DROP" => Class::Capacity,
        "NETFILTER_DROP"
        | "TC_INGRESS"
        | "TC_EGRESS"
        | "TC_COOKIE_ERROR"
        | "XDP"
        | "BPF_CGROUP_EGRESS"
        | "SOCKET_FILTER"
        | "SECURITY_HOOK"
        | "XFRM_POLICY"
        | "IP_RPFILTER"
        | "TAP_FILTER"
        | "TAP_TXFILTER"
        | "ARP_PVLAN_DISABLE"
        | "BRIDGE_INGRESS_STP_STATE"
        | "OVS_DROP_EXPLICIT" => Class::Policy,
        // ip_forward and ip6_forward report an expired TTL as a bad header.
        "IP_INHDR" if function.ends_with("_forward") => Class::Routing,
        "NO_SOCKET"
        | "IP_INNOROUTES"
        | "IP_OUTNOROUTES"
        | "IP_INADDRERRORS"
        | "IP_NOPROTO"
        | "NEIGH_FAILED"
        | "NEIGH_CREATEFAIL"
        | "NEIGH_DEAD"
        | "NEIGH_HH_FILLFAIL"
        | "IPV6DISABLED"
        | "IP_INVALID_DEST"
        | "IP_LOCALNET"
        | "PKT_TOO_BIG"
        | "NO_TX_TARGET"
        | "DEV_READY"
        | "VXLAN_VNI_NOT_FOUND"
        | "RECURSION_LIMIT" => Class::Routing,
        "PKT_TOO_SMALL" | "HDR_TRUNC" | "DEV_HDR" | "INVALID_PROTO" | "IPV6_BAD_EXTHDR" => Class::Corruption,
        _ if ["QDISC_", "FQ_", "CAKE_"].iter().any(|family| reason.starts_with(family)) => Class::Capacity,
        // Missing or wrong keys.
        _ if ["TCP_AUTH", "TCP_MD5", "TCP_AO", "PSP_"].iter().any(|family| reason.starts_with(family)) => Class::Policy,
        // The rest of TCP's are segments that do not fit their connection.
        _ if reason.ends_with("_CSUM")
            || reason.ends_with("_INHDR")
            || reason.contains("_INVALID")
            || ["TCP_", "IPV6_NDISC_"].iter().any(|family| reason.starts_with(family)) =>
        {
            Class::Corruption
        }
        _ => Class::Unspecified,
    }
}

/// Where packet sockets take their copies.
const CAPTURES: [&str; 3] = ["packet_rcv", "tpacket_rcv", "packet_rcv_spkt"];

/// Whether a function drops without a reason what has waited too long.
fn is_queue(function: &str) -> bool {
    unsent::QUEUES.iter().any(|queue| function.trim_start_matches('_').starts_with(queue))
}

/// Whether a function frees without a reason what was not lost. Seen on 5.15 to 7.2.
fn is_lifecycle(function: &str, protocol: u16) -> bool {
    const FUNCTIONS: [&str; 9] = [
        // Ends of sockets, and their last packets.
        "sk_stream_kill_queues",
        "inet_csk_destroy_sock",
        "udp_destruct_common",
        "skb_queue_purge",
        "inet_sock_destruct",
        "__skb_queue_purge",
        // Acknowledgements to TIME_WAIT, and memberships of nobody here.
        "tcp_v4_rcv",
        "tcp_v6_rcv",
        "ip6_mc_input",
    ];
    // Messages of local sockets have no protocol.
    protocol == 0 || FUNCTIONS.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_reasons() {
        let of = |reason| class(reason, "f+0x1/0x2", 0x0800);
        for function in ["drop_func", "codel_qdisc_dequeue", "__fq_codel_dequeue", "cake_dequeue.cold"] {
            assert_eq!(
                class("NOT_SPECIFIED", &format!("{function}+0x1 [sch_x]"), 0x0800),
                Class::Capacity,
                "{function}"
            );
        }
        assert_eq!(of("SOCKET_RCVBUFF"), Class::Capacity);
        assert_eq!(of("QDISC_DROP"), Class::Capacity);
        assert_eq!(of("NETFILTER_DROP"), Class::Policy);
        assert_eq!(of("NO_SOCKET"), Class::Routing);
        assert_eq!(of("UDP_CSUM"), Class::Corruption);
        assert_eq!(of("IP_INHDR"), Class::Corruption);
        assert_eq!(class("IP_INHDR", "ip_forward+0x3c1/0x4f0", 0x0800), Class::Routing);
        assert_eq!(of("QUEUE_PURGE"), Class::Lifecycle);
        assert_eq!(of("TCP_RFC7323_PAWS_ACK"), Class::Lifecycle);
        assert_eq!(of("TCP_RFC7323_PAWS"), Class::Corruption);
        assert_eq!(of("PACKET_SOCK_ERROR"), Class::Capture);
        assert_eq!(class("NOT_SPECIFIED", "packet_rcv+0x1/0x2", 0x0800), Class::Capture);
        assert_eq!(of("NOT_SPECIFIED"), Class::Unspecified);
        assert_eq!(of("a reason of tomorrow"), Class::Unspecified);
        assert_eq!(class("NOT_SPECIFIED", "ip6_mc_input+0x91/0x200", 0x86dd), Class::Lifecycle);
        assert_eq!(class("NOT_SPECIFIED", "unix_release_sock+0x1/0x2", 0), Class::Lifecycle);
    }

    #[test]
    fn the_kernels_names_are_found() {
        let Ok(btf) = Btf::read(Path::new(btf::VMLINUX)) else { return };
        let Ok(full) = btf.enumerator("skb_drop_reason", "SKB_DROP_REASON_SOCKET_RCVBUFF") else { return };
        let mut reasons = Reasons::new(&btf);
        assert_eq!(reasons.name(full), "SOCKET_RCVBUFF");
        assert_eq!(reasons.name(65_000), "65000");
        assert_eq!(reasons.name(0x7fff_0003), "32767:3");
    }
}
