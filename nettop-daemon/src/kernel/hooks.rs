//! The table of hooks: what accounting needs, and by which back ends it can be had, best first. Each hook carries the
//! prototypes it was written for; `choose.rs` compares them with the running kernel's.

/// Families of hooks that see the same thing in different ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
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
pub enum Place {
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
    pub place: Place,
    /// In the words of [`super::btf::Btf::function`]; empty where the context is stable, or the program does not look at it.
    pub prototypes: &'static [&'static str],
    /// The way goes without it where the target does not exist or has another prototype.
    pub optional: bool,
}

/// All hooks of one back end for one purpose. `backend` is `None` where there is only one way.
#[derive(Debug)]
pub struct Way {
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
    pub lacks: &'static str,
    pub ways: &'static [Way],
}

pub(super) const fn hook(
    program: &'static str,
    place: Place,
    target: &'static str,
    prototypes: &'static [&'static str],
) -> Hook {
    Hook { program, target, place, prototypes, optional: false }
}

pub(super) const fn optional(mut hook: Hook) -> Hook {
    hook.optional = true;
    hook
}

pub(super) const fn way(backend: Backend, hooks: &'static [Hook]) -> Way {
    Way { backend: Some(backend), hooks }
}

pub(super) const fn only(hooks: &'static [Hook]) -> Way {
    Way { backend: None, hooks }
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
/// Whether the whole process ends since 6.17.
pub(super) const PROCESS_EXIT: &[&str] = &["void (task_struct *)", "void (task_struct *, bool)"];

/// Attached before the walk over the open sockets, so that no socket falls between.
pub const BEFORE_SEEDING: &[Purpose] = &[
    Purpose {
        name: "socket birth",
        needed: true,
        lacks: "owners of new sockets",
        ways: &[only(&[hook("socket_create", Place::Socket, "sock_create", &[])])],
    },
    Purpose {
        name: "bound ports",
        needed: false,
        lacks: "owners by address of dropped packets, and drops of listeners that end",
        ways: &[only(&[
            hook("socket_release", Place::Socket, "sock_release", &[]),
            hook("bind_v4", Place::Socket, "post_bind4", &[]),
            hook("bind_v6", Place::Socket, "post_bind6", &[]),
        ])],
    },
    Purpose {
        name: "process rename",
        needed: false,
        lacks: "names after exec",
        ways: &[only(&[hook("process_rename", Place::Tracepoint, "task_rename", TASK_RENAME)])],
    },
    Purpose {
        name: "process exit",
        needed: false,
        lacks: "prompt retirement of rows",
        ways: &[only(&[hook("process_exit", Place::Tracepoint, "sched_process_exit", PROCESS_EXIT)])],
    },
];

/// Attached after it, so that every packet finds its owner; app bytes last, so that they find their device.
pub const AFTER_SEEDING: &[Purpose] = &[
    Purpose {
        name: "wire tx",
        needed: true,
        lacks: "sent packets",
        ways: &[only(&[hook("packet_tx", Place::PacketsTx, "egress", &[])])],
    },
    Purpose {
        name: "wire rx",
        needed: true,
        lacks: "received packets",
        ways: &[only(&[hook("packet_rx", Place::PacketsRx, "ingress", &[])])],
    },
    Purpose {
        name: "drops",
        needed: false,
        lacks: "drops, and packets to closed ports (unattributed instead of the kernel's)",
        ways: &[only(&[hook(
            "packet_freed",
            Place::Tracepoint,
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
        name: "tcp troubles",
        needed: false,
        lacks: "segments sent again and resets of TCP",
        ways: &[only(&[
            hook(
                "tcp_retransmit",
                Place::Tracepoint,
                "tcp_retransmit_skb",
                // The error since 6.17.
                &["void (sock *, sk_buff *)", "void (sock *, sk_buff *, int)"],
            ),
            hook(
                "tcp_retransmit_synack",
                Place::Tracepoint,
                "tcp_retransmit_synack",
                &["void (sock *, request_sock *)"],
            ),
            hook(
                "tcp_reset_sent",
                Place::Tracepoint,
                "tcp_send_reset",
                // The reason since 6.10.
                &["void (sock *, sk_buff *)", "void (sock *, sk_buff *, sk_rst_reason)"],
            ),
            hook("tcp_reset_received", Place::Tracepoint, "tcp_receive_reset", &["void (sock *)"]),
        ])],
    },
    Purpose {
        name: "app tx",
        needed: false,
        lacks: "app bytes sent, and owners by use of sockets that only send TCP",
        ways: &[
            way(
                Backend::Tracepoint,
                &[hook("socket_send", Place::Tracepoint, "sock_send_length", &["void (sock *, int, int)"])],
            ),
            way(
                Backend::Fentry,
                &[
                    hook("inet_sendmsg", Place::Fexit, "inet_sendmsg", SENDMSG),
                    hook("inet6_sendmsg", Place::Fexit, "inet6_sendmsg", SENDMSG),
                    optional(hook("inet_sendpage", Place::Fexit, "inet_sendpage", SENDPAGE)),
                    optional(hook("packet_sendmsg", Place::Fexit, "packet_sendmsg", SENDMSG)),
                ],
            ),
            way(
                Backend::Kprobe,
                &[
                    hook("send_leave", Place::Kretprobe, "inet_sendmsg", SENDMSG),
                    hook("send_leave", Place::Kretprobe, "inet6_sendmsg", SENDMSG),
                    optional(hook("send_leave", Place::Kretprobe, "inet_sendpage", SENDPAGE)),
                    hook("send_enter", Place::Kprobe, "inet_sendmsg", SENDMSG),
                    hook("send_enter", Place::Kprobe, "inet6_sendmsg", SENDMSG),
                    optional(hook("send_enter", Place::Kprobe, "inet_sendpage", SENDPAGE)),
                ],
            ),
        ],
    },
    Purpose {
        name: "app rx",
        needed: false,
        lacks: "app bytes received by all but TCP, and owners by use",
        ways: &[
            way(
                Backend::Tracepoint,
                &[hook("socket_receive", Place::Tracepoint, "sock_recv_length", &["void (sock *, int, int)"])],
            ),
            way(
                Backend::Fentry,
                &[
                    hook("inet_recvmsg", Place::Fexit, "inet_recvmsg", RECVMSG),
                    hook("inet6_recvmsg", Place::Fexit, "inet6_recvmsg", RECVMSG),
                    hook("sock_common_recvmsg", Place::Fexit, "sock_common_recvmsg", RECVMSG),
                ],
            ),
            way(
                Backend::Kprobe,
                &[
                    hook("udp_consume", Place::Kprobe, "skb_consume_udp", &["void (sock *, sk_buff *, int)"]),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "raw_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "rawv6_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "ping_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "mptcp_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", Place::Kprobe, "raw_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", Place::Kprobe, "rawv6_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", Place::Kprobe, "ping_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_enter", Place::Kprobe, "mptcp_recvmsg", RAW_RECVMSG)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "raw_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "rawv6_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_leave", Place::Kretprobe, "ping_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_enter_noblock", Place::Kprobe, "raw_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_enter_noblock", Place::Kprobe, "rawv6_recvmsg", RAW_RECVMSG_NOBLOCK)),
                    optional(hook("raw_receive_enter_noblock", Place::Kprobe, "ping_recvmsg", RAW_RECVMSG_NOBLOCK)),
                ],
            ),
        ],
    },
    Purpose {
        name: "app rx tcp",
        needed: false,
        lacks: "app bytes received by TCP, and owners by use",
        ways: &[
            way(
                Backend::Tracepoint,
                &[hook("tcp_receive", Place::Tracepoint, "tcp_rcv_space_adjust", &["void (sock *)"])],
            ),
            way(Backend::Fentry, &[hook("tcp_cleanup_rbuf", Place::Fentry, "tcp_cleanup_rbuf", CLEANUP_RBUF)]),
            way(Backend::Kprobe, &[hook("tcp_consume", Place::Kprobe, "tcp_cleanup_rbuf", CLEANUP_RBUF)]),
        ],
    },
];

impl Place {
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
    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}
