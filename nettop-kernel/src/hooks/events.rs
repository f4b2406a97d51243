//! Hooks that report connections, UDP conversations, and packets.

use super::{AttachPoint, Backend, Purpose, hook, only, set, trace};

const GRAFT: &[&str] = &["void (sock *, socket *)"];

const STATES: Purpose = Purpose {
    name: "connections",
    needed: true,
    effect_if_missing: "connections opened, closed and failed",
    sets: &[only(&[hook(
        "connection_state",
        AttachPoint::Tracepoint,
        "inet_sock_set_state",
        &["void (sock *, int, int)"],
    )])],
};

const ACCEPTS: Purpose = Purpose {
    name: "accept",
    needed: true,
    effect_if_missing: "connections accepted",
    sets: &[
        set(Backend::Fentry, &[hook("accept_graft", AttachPoint::Fentry, "security_sock_graft", GRAFT)]),
        set(Backend::Kprobe, &[hook("accept_graft_probe", AttachPoint::Kprobe, "security_sock_graft", GRAFT)]),
        set(
            Backend::Tracepoint,
            &[hook(
                "syscall_exit",
                AttachPoint::Tracepoint,
                "sys_exit",
                &["void (pt_regs *, long int)", "void (pt_regs *, long)"],
            )],
        ),
    ],
};

const DATAGRAMS: Purpose = Purpose {
    name: "udp",
    needed: true,
    effect_if_missing: "conversations of UDP",
    sets: &[only(&[
        hook("association_tx", AttachPoint::PacketsTx, "egress", &[]),
        hook("association_rx", AttachPoint::PacketsRx, "ingress", &[]),
    ])],
};

/// All purposes that anything here needs.
pub const ALL: [&[Purpose]; 3] = [CONNECTIONS_AND_UDP, PACKETS, trace::CALLS];

pub const CONNECTIONS: &[Purpose] = &[STATES, ACCEPTS];
pub const CONNECTIONS_AND_UDP: &[Purpose] = &[STATES, ACCEPTS, DATAGRAMS];

pub const PACKETS: &[Purpose] = &[Purpose {
    name: "packets",
    needed: true,
    effect_if_missing: "packets",
    sets: &[only(&[
        hook("packet_received", AttachPoint::PacketsRx, "ingress", &[]),
        hook("packet_sent", AttachPoint::Tracepoint, "net_dev_start_xmit", &["void (sk_buff *, net_device *)"]),
    ])],
}];
