//! The table of hooks: what accounting needs, and the back ends for it, best first. Each hook has the prototypes it was
//! written for; `choose.rs` compares them with the running kernel's.

pub mod events;
pub mod trace;

/// Families of hooks that see the same thing in different ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// Tracepoints with types (`tp_btf`)
    Tracepoint,
    /// Trampolines at the entry and exit of functions (`fentry`, `fexit`)
    Fentry,
    /// Breakpoints in functions (`kprobe`, `kretprobe`)
    Kprobe,
}

/// Where a program goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachPoint {
    PacketsTx,
    PacketsRx,
    Socket,
    Tracepoint,
    Fentry,
    Fexit,
    Kprobe,
    Kretprobe,
}

/// One program at one target.
#[derive(Debug)]
pub struct Hook {
    pub program: &'static str,
    pub target: &'static str,
    pub place: AttachPoint,
    /// As printed by [`super::btf::Btf::function`]; empty if the context is stable, or the program ignores it.
    pub prototypes: &'static [&'static str],
    /// The way works without it if the target is absent or has another prototype.
    pub optional: bool,
}

/// All hooks of one back end for one purpose. `backend` is `None` if there is only one way.
#[derive(Debug)]
pub struct HookSet {
    pub backend: Option<Backend>,
    pub hooks: &'static [Hook],
}

/// Something accounting wants to see.
#[derive(Debug)]
pub struct Purpose {
    pub name: &'static str,
    /// nettopd does not run without it.
    pub needed: bool,
    /// What is missing without it.
    pub effect_if_missing: &'static str,
    pub sets: &'static [HookSet],
}

pub(super) const fn hook(
    program: &'static str,
    place: AttachPoint,
    target: &'static str,
    prototypes: &'static [&'static str],
) -> Hook {
    Hook { program, target, place, prototypes, optional: false }
}

pub(super) const fn optional(mut hook: Hook) -> Hook {
    hook.optional = true;
    hook
}

pub(super) const fn set(backend: Backend, hooks: &'static [Hook]) -> HookSet {
    HookSet { backend: Some(backend), hooks }
}

pub(super) const fn only(hooks: &'static [Hook]) -> HookSet {
    HookSet { backend: None, hooks }
}

const SENDMSG: &[&str] = &["int (socket *, msghdr *, size_t)"];
const SENDPAGE: &[&str] = &["ssize_t (socket *, page *, int, size_t, int)"];
const RECVMSG: &[&str] = &["int (socket *, msghdr *, size_t, int)"];
/// `addr_len` went in 7.0 and, by stable releases, before.
const RAW_RECVMSG: &[&str] = &["int (sock *, msghdr *, size_t, int, int *)", "int (sock *, msghdr *, size_t, int)"];
/// Before 5.19.
const RAW_RECVMSG_NOBLOCK: &[&str] = &["int (sock *, msghdr *, size_t, int, int, int *)"];
const CLEANUP_RBUF: &[&str] = &["void (sock *, int)"];
pub(super) const TASK_RENAME: &[&str] = &["void (task_struct *, char *)"];
const CGROUP_ATTACH_TASK: &[&str] = &["void (cgroup *, char *, task_struct *, bool)"];
pub(super) const PROCESS_EXEC: &[&str] = &["void (task_struct *, pid_t, linux_binprm *)"];
/// Whether the whole process ends since 6.17.
pub(super) const PROCESS_EXIT: &[&str] = &["void (task_struct *)", "void (task_struct *, bool)"];

/// Attached before the iterator over open files, so that no socket is missed.
pub const BEFORE_SEEDING: &[Purpose] = &[
    Purpose {
        name: "new sockets",
        needed: true,
        effect_if_missing: "owners of new sockets",
        sets: &[only(&[hook("socket_create", AttachPoint::Socket, "sock_create", &[])])],
    },
    Purpose {
        name: "bound ports",
        needed: false,
        effect_if_missing: "owners by address of dropped packets, and drops of listeners that end",
        sets: &[only(&[
            hook("socket_release", AttachPoint::Socket, "sock_release", &[]),
            hook("bind_v4", AttachPoint::Socket, "post_bind4", &[]),
            hook("bind_v6", AttachPoint::Socket, "post_bind6", &[]),
        ])],
    },
    Purpose {
        name: "process rename",
        needed: false,
        effect_if_missing: "names after exec",
        sets: &[only(&[hook("process_rename", AttachPoint::Tracepoint, "task_rename", TASK_RENAME)])],
    },
    Purpose {
        name: "cgroup migration",
        needed: false,
        effect_if_missing: "units and containers of processes that change them after their first socket",
        sets: &[only(&[hook("process_migrate", AttachPoint::Tracepoint, "cgroup_attach_task", CGROUP_ATTACH_TASK)])],
    },
    Purpose {
        name: "process exit",
        needed: false,
        effect_if_missing: "prompt retirement of rows",
        sets: &[only(&[hook("process_exit", AttachPoint::Tracepoint, "sched_process_exit", PROCESS_EXIT)])],
    },
    Purpose {
        name: "executed programs",
        needed: false,
        effect_if_missing: "programs and scripts of processes that never talk and end before a reading",
        sets: &[only(&[hook("process_executed", AttachPoint::Tracepoint, "sched_process_exec", PROCESS_EXEC)])],
    },
    Purpose {
        name: "usage at exit",
        needed: false,
        effect_if_missing: "CPU time and I/O of processes since their last reading, when they end",
        sets: &[only(&[hook(
            "process_freed",
            AttachPoint::Tracepoint,
            "sched_process_free",
            &["void (task_struct *)"],
        )])],
    },
];

/// Attached after it, so that every packet finds its owner; app bytes last, so that they find their device.
pub const AFTER_SEEDING: &[Purpose] = &[
    Purpose {
        name: "wire tx",
        needed: true,
        effect_if_missing: "sent packets",
        sets: &[only(&[hook("packet_tx", AttachPoint::PacketsTx, "egress", &[])])],
    },
    Purpose {
        name: "wire rx",
        needed: true,
        effect_if_missing: "received packets",
        sets: &[only(&[hook("packet_rx", AttachPoint::PacketsRx, "ingress", &[])])],
    },
    Purpose {
        name: "frames",
        needed: false,
        effect_if_missing: "forwarded traffic, frames that packet sockets send, and answers from TIME_WAIT (unattributed)",
        sets: &[only(&[hook(
            "frame_sent",
            AttachPoint::Tracepoint,
            "net_dev_start_xmit",
            &["void (sk_buff *, net_device *)"],
        )])],
    },
    Purpose {
        name: "drops",
        needed: false,
        effect_if_missing: "drops, and packets to closed ports (unattributed instead of the kernel's)",
        sets: &[only(&[hook(
            "packet_freed",
            AttachPoint::Tracepoint,
            "kfree_skb",
            &[
                "void (sk_buff *, void *, skb_drop_reason, sock *)",
                "void (sk_buff *, void *, skb_drop_reason)",
                // Before 5.17.
                "void (sk_buff *, void *)",
            ],
        )])],
    },
    Purpose {
        name: "tcp retransmits and resets",
        needed: false,
        effect_if_missing: "segments sent again and resets of TCP",
        sets: &[only(&[
            hook(
                "tcp_retransmit",
                AttachPoint::Tracepoint,
                "tcp_retransmit_skb",
                // The error since 6.17.
                &["void (sock *, sk_buff *)", "void (sock *, sk_buff *, int)"],
            ),
            hook(
                "tcp_retransmit_synack",
                AttachPoint::Tracepoint,
                "tcp_retransmit_synack",
                &["void (sock *, request_sock *)"],
            ),
            hook(
                "tcp_reset_sent",
                AttachPoint::Tracepoint,
                "tcp_send_reset",
                // The reason since 6.10.
                &["void (sock *, sk_buff *)", "void (sock *, sk_buff *, sk_rst_reason)"],
            ),
            hook("tcp_reset_received", AttachPoint::Tracepoint, "tcp_receive_reset", &["void (sock *)"]),
        ])],
    },
    Purpose {
        name: "app tx",
        needed: false,
        effect_if_missing: "app bytes sent, and owners by use of sockets that only send TCP",
        sets: &[
            set(
                Backend::Tracepoint,
                &[hook("socket_send", AttachPoint::Tracepoint, "sock_send_length", &["void (sock *, int, int)"])],
            ),
            set(
                Backend::Fentry,
                &[
                    hook("inet_sendmsg", AttachPoint::Fexit, "inet_sendmsg", SENDMSG),
                    hook("inet6_sendmsg", AttachPoint::Fexit, "inet6_sendmsg", SENDMSG),
                    optional(hook("inet_sendpage", AttachPoint::Fexit, "inet_sendpage", SENDPAGE)),
                    optional(hook("packet_sendmsg", AttachPoint::Fexit, "packet_sendmsg", SENDMSG)),
                ],
            ),
            set(
                Backend::Kprobe,
                &[
                    hook("send_leave", AttachPoint::Kretprobe, "inet_sendmsg", SENDMSG),
                    hook("send_leave", AttachPoint::Kretprobe, "inet6_sendmsg", SENDMSG),
                    optional(hook("send_leave", AttachPoint::Kretprobe, "inet_sendpage", SENDPAGE)),
                    hook("send_enter", AttachPoint::Kprobe, "inet_sendmsg", SENDMSG),
                    hook("send_enter", AttachPoint::Kprobe, "inet6_sendmsg", SENDMSG),
                    optional(hook("send_enter", AttachPoint::Kprobe, "inet_sendpage", SENDPAGE)),
                ],
            ),
        ],
    },
    Purpose {
        name: "app rx",
        needed: false,
        effect_if_missing: "app bytes received by all but TCP, and owners by use",
        sets: &[
            set(
                Backend::Tracepoint,
                &[hook("socket_receive", AttachPoint::Tracepoint, "sock_recv_length", &["void (sock *, int, int)"])],
            ),
            set(
                Backend::Fentry,
                &[
                    hook("inet_recvmsg", AttachPoint::Fexit, "inet_recvmsg", RECVMSG),
                    hook("inet6_recvmsg", AttachPoint::Fexit, "inet6_recvmsg", RECVMSG),
                    hook("sock_common_recvmsg", AttachPoint::Fexit, "sock_common_recvmsg", RECVMSG),
                    optional(hook("packet_recvmsg", AttachPoint::Fexit, "packet_recvmsg", RECVMSG)),
                ],
            ),
            set(
                Backend::Kprobe,
                &[
                    hook("udp_consume", AttachPoint::Kprobe, "skb_consume_udp", &["void (sock *, sk_buff *, int)"]),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "raw_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "rawv6_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "ping_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "mptcp_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", AttachPoint::Kprobe, "raw_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", AttachPoint::Kprobe, "rawv6_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", AttachPoint::Kprobe, "ping_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", AttachPoint::Kprobe, "mptcp_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "raw_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "rawv6_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_leave", AttachPoint::Kretprobe, "ping_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook(
                        "raw_receive_enter_noblock",
                        AttachPoint::Kprobe,
                        "raw_recvmsg",
                        RAW_RECVMSG_NOBLOCK,
                    )),
                    optional(hook(
                        "raw_receive_enter_noblock",
                        AttachPoint::Kprobe,
                        "rawv6_recvmsg",
                        RAW_RECVMSG_NOBLOCK,
                    )),
                    optional(hook(
                        "raw_receive_enter_noblock",
                        AttachPoint::Kprobe,
                        "ping_recvmsg",
                        RAW_RECVMSG_NOBLOCK,
                    )),
                ],
            ),
        ],
    },
    Purpose {
        name: "app rx tcp",
        needed: false,
        effect_if_missing: "app bytes received by TCP, and owners by use",
        sets: &[
            set(
                Backend::Tracepoint,
                &[hook("tcp_receive", AttachPoint::Tracepoint, "tcp_rcv_space_adjust", &["void (sock *)"])],
            ),
            set(Backend::Fentry, &[hook("tcp_cleanup_rbuf", AttachPoint::Fentry, "tcp_cleanup_rbuf", CLEANUP_RBUF)]),
            set(Backend::Kprobe, &[hook("tcp_consume", AttachPoint::Kprobe, "tcp_cleanup_rbuf", CLEANUP_RBUF)]),
        ],
    },
];

/// Whether the program counts calls: a run that the kernel skips is one whose app bytes are missing.
pub fn counts_calls(program: &str) -> bool {
    const PURPOSES: [&str; 3] = ["app tx", "app rx", "app rx tcp"];
    let purposes = AFTER_SEEDING.iter().filter(|purpose| PURPOSES.contains(&purpose.name));
    purposes.flat_map(|purpose| purpose.sets).flat_map(|set| set.hooks).any(|hook| hook.program == program)
}

impl AttachPoint {
    /// Program type, as in the names of sections.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PacketsTx | Self::PacketsRx => "cgroup_skb",
            Self::Socket => "cgroup",
            Self::Tracepoint => "tp_btf",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
        }
    }
}

impl Backend {
    pub const ALL: [Self; 3] = [Self::Tracepoint, Self::Fentry, Self::Kprobe];

    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}
