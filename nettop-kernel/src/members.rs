//! Which members of kernel structs the running kernel has, and which programs need the absent ones.

use nettop_common::offsets;

use super::btf::Btf;

include!(concat!(env!("OUT_DIR"), "/reads.rs"));

/// Members that programs do without: a read of an absent one yields zero, see `kernel.rs` of the eBPF side.
///
/// Programs that read them for more than a side purpose still need them: see [`SIDE_READS`].
const OPTIONAL: &[&str] = &[
    // In code that may be a module: the kernel's own BTF may lack them.
    "PACKET_DEVICE",
    "PACKET_PROTOCOL",
    "PACKET_FLAGS",
    "PACKET_TX_RING",
    // `has_vnet_hdr` became `vnet_hdr_sz`.
    "PACKET_VNET_BYTES",
    "PACKET_VNET_BIT",
    "RT6_FLAGS",
    // Only for details of a socket.
    "SOCK_RMEM",
    "SOCK_WMEM",
    "SOCK_ACK_BACKLOG",
    "SOCK_MAX_ACK_BACKLOG",
    "TCP_SRTT",
    "TCP_SND_CWND",
    "TCP_TOTAL_RETRANS",
    "TCP_BYTES_ACKED",
    "TCP_REPAIR_BIT",
    "TCP_SEGS_OUT",
    "TCP_SEGS_IN",
    "TCP_DATA_SEGS_OUT",
    "TCP_DATA_SEGS_IN",
    // For shares of the tables: without them each uid, and each namespace, has its own.
    "CRED_USER_NS",
    "NET_USER_NS",
    "USER_NS_LEVEL",
    "USER_NS_OWNER",
    "USER_NS_PARENT",
    // Without it, datagrams that the stack split off a super-packet cannot be recognized.
    "SKB_NEXT",
    // Without them, what a kernel layer or a sockmap hands over counts as TCP's own data.
    "SOCK_USER_DATA",
    "ICSK_ULP_OPS",
    "ULP_OPS_NAME",
    // Makes it cheap to see that a connection is not being restored.
    "SOCK_REUSE_BIT",
    // Without it, 32-bit calls cannot be distinguished: x86 has it.
    "TASK_STATUS",
    // io_uring may be configured away.
    "URING_OPCODE",
    // For names of processes: /proc has them as well.
    "TASK_MM",
    "TASK_REAL_PARENT",
    "TASK_CGROUPS",
    "MM_EXE_FILE",
    "MM_ARG_START",
    "MM_ARG_END",
    "FILE_DENTRY",
    "FILE_MOUNT",
    "DENTRY_PARENT",
    "DENTRY_NAME",
    "DENTRY_HASHED",
    "VFSMOUNT_ROOT",
    "MOUNT_VFSMOUNT",
    "MOUNT_PARENT",
    "MOUNT_MOUNTPOINT",
    "CSS_SET_CGROUP",
    "CGROUP_NODE",
    "KERNFS_NAME",
    "CSS_SET_LINKS",
    "LINK_NODE",
    "LINK_CGROUP",
    "CGROUP_ROOT",
    "ROOT_NAME",
    // audit may be configured away.
    "TASK_LOGIN_UID",
    "TASK_PID_LINKS",
    "SIGNAL_PIDS",
    "PID_TASKS",
    "PID_NUMBERS",
    "TASK_FS",
    "FS_DIRECTORY",
    "FS_MOUNT",
    // `seq` became a seqlock_t in 6.18.
    "FS_CHANGES",
    "FS_CHANGES_OF_LOCK",
    "KERNFS_ID",
    // Became `__parent` in 6.15.
    "KERNFS_PARENT",
    "KERNFS_RCU_PARENT",
    // For what processes use besides the network: see `usage.rs`.
    "TASK_RUN_DELAY",
    "TASK_DELAYS",
    "DELAYS_BLOCK_IO",
    "TASK_READ_BYTES",
    "TASK_WRITE_BYTES",
    "TASK_CANCELLED_BYTES",
    "SIGNAL_READ_BYTES",
    "SIGNAL_WRITE_BYTES",
    "SIGNAL_CANCELLED_BYTES",
    "SIGNAL_OOM_MM",
    "SIGNAL_PEAK_RSS",
    "MM_PEAK_RSS",
    // They moved in 6.2.
    "MM_FILE_PAGES",
    "MM_ANON_PAGES",
    "MM_SWAP_PAGES",
    "MM_SHMEM_PAGES",
    "MM_OLD_FILE_PAGES",
    "MM_OLD_ANON_PAGES",
    "MM_OLD_SWAP_PAGES",
    "MM_OLD_SHMEM_PAGES",
    // For the running call, if available.
    "TASK_STACK",
    "SYSCALL_ORIGINAL_X0",
];

/// Reads for a purpose beside the program's own: bytes that TCP took, the tables of ports and of listeners, or details of a
/// socket. An absent member does not disable the program: other programs lose that purpose.
const SIDE_READS: &[(&[&str], &[&str])] = &[
    (&["packet_tx", "packet_rx", "seed"], &["TCP_BYTES_RECEIVED", "TCP_RCV_NXT", "TCP_COPIED_SEQ", "SOCK_FLAGS"]),
    (&["packet_tx", "packet_rx", "seed"], &["SOCK_NUM", "SOCK_RCV_SADDR", "SOCK_V6_RCV_SADDR", "SOCK_V6_ONLY_BIT"]),
    (&["packet_tx", "frame_sent"], &["SYSCALL_ARGUMENT_0", "TASK_FILES", "FILES_TABLE", "FILES_FD", "FILES_MOST"]),
    // Without them, a packet is its socket's owner's.
    (&["packet_tx"], &["SOCK_SOCKET", "SOCKET_FILE", "SOCK_LOCK_OWNED", "SKB_DST"]),
    (&["packet_rx"], &["SOCK_DROPS"]),
    (&["socket_send", "socket_send_again", "inet_sendmsg", "inet6_sendmsg", "inet_sendpage"], &["TCP_BYTES_RECEIVED"]),
    // For the log alone.
    (&["packet_tx", "packet_rx", "socket_create", "socket_send", "socket_send_again"], &["SOCK_COOKIE"]),
    (&["socket_receive", "socket_receive_again", "tcp_receive", "tcp_receive_again"], &["SOCK_COOKIE"]),
    (&["inet_sendmsg", "inet6_sendmsg", "inet_sendpage", "packet_sendmsg"], &["SOCK_COOKIE"]),
    (&["inet_recvmsg", "inet6_recvmsg", "sock_common_recvmsg", "tcp_cleanup_rbuf"], &["SOCK_COOKIE"]),
    (&["tcp_sockets", "udp_sockets", "held_sockets"], &["SOCK_V6_ONLY_BIT", "TCP_BYTES_RECEIVED", "TCP_RCV_NXT"]),
    (&["tcp_sockets", "udp_sockets", "held_sockets"], &["TCP_COPIED_SEQ", "TCP_WRITE_SEQ", "TCP_SND_UNA"]),
];

/// The members, after the search.
#[derive(Debug)]
pub struct Members {
    /// By the name of their global: their offset in bytes, or in bits for members of one bit.
    found: Vec<(&'static str, u64)>,
    absent: Vec<Absent>,
}

#[derive(Debug)]
struct Absent {
    global: &'static str,
    of: &'static str,
    path: &'static str,
}

impl Members {
    /// Looks up all of them.
    pub fn find(types: &Btf) -> Self {
        let mut members = Self { found: Vec::new(), absent: Vec::new() };
        let offsets = offsets::ALL.iter().map(|(global, of, path)| (global, of, path, types.offset(of, path).ok()));
        let bits = offsets::BITS.iter().map(|(global, of, path)| (global, of, path, types.bit(of, path).ok()));
        for (global, of, path, at) in offsets.chain(bits) {
            match at {
                Some(at) => members.found.push((global, at.into())),
                None => members.absent.push(Absent { global, of, path }),
            }
        }
        members
    }

    /// How many the kernel has.
    pub const fn found(&self) -> usize {
        self.found.len()
    }

    /// The absent ones, as `tcp_sock.srtt_us`.
    pub fn absent(&self) -> Vec<String> {
        self.absent.iter().map(|absent| format!("{}.{}", absent.of, absent.path)).collect()
    }

    /// Whether the kernel has one, by the name of its global.
    pub fn has(&self, global: &str) -> bool {
        self.found.iter().any(|(found, _)| *found == global)
    }

    /// Values for the globals.
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        let absent = self.absent.iter().map(|absent| (absent.global, offsets::ABSENT));
        self.found.iter().copied().chain(absent).collect()
    }

    /// Checks for the members that a program needs.
    ///
    /// # Errors
    ///
    /// The first absent one: the program is not to be loaded.
    pub fn suffice(&self, program: &str) -> Result<(), String> {
        let reads = READS.iter().find(|(name, _)| *name == program).map_or(&[][..], |(_, reads)| reads);
        let is_side = |global: &str| {
            let of_program = SIDE_READS.iter().filter(|(programs, _)| programs.contains(&program));
            of_program.flat_map(|(_, globals)| *globals).any(|side| *side == global)
        };
        let needed = |absent: &&Absent| {
            reads.contains(&absent.global) && !OPTIONAL.contains(&absent.global) && !is_side(absent.global)
        };
        match self.absent.iter().find(needed) {
            Some(absent) => Err(format!("this kernel's BTF has no {}.{}", absent.of, absent.path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::{AFTER_SEEDING, BEFORE_SEEDING, Purpose, events, trace};

    fn without(globals: &[&str]) -> Members {
        let all = offsets::ALL.iter().chain(offsets::BITS);
        let (absent, found): (Vec<(_, _, _)>, Vec<(_, _, _)>) =
            all.partition(|(global, _, _)| globals.contains(global));
        assert_eq!(absent.len(), globals.len(), "{globals:?}");
        Members {
            found: found.into_iter().map(|(global, _, _)| (global, 8)).collect(),
            absent: absent.into_iter().map(|(global, of, path)| Absent { global, of, path }).collect(),
        }
    }

    fn lost(purposes: &[Purpose], globals: &[&str]) -> Vec<&'static str> {
        let members = without(globals);
        let is_had = |purpose: &&Purpose| {
            let mut sets = purpose.sets.iter();
            sets.any(|set| set.hooks.iter().all(|hook| hook.optional || members.suffice(hook.program).is_ok()))
        };
        purposes.iter().filter(|purpose| !is_had(purpose)).map(|purpose| purpose.name).collect()
    }

    fn of_accounting(globals: &[&str]) -> Vec<&'static str> {
        [lost(BEFORE_SEEDING, globals), lost(AFTER_SEEDING, globals)].concat()
    }

    #[test]
    fn an_absent_member_costs_the_hooks_that_read_it_and_no_others() {
        assert_eq!(of_accounting(&[]), [""; 0]);
        assert_eq!(of_accounting(&["RTABLE_FLAGS"]), ["drops"]);
        assert_eq!(of_accounting(&["SIGNAL_LIVE"]), ["process exit"]);
        assert_eq!(of_accounting(&["TCP_CB_SEGMENTS"]), ["tcp retransmits and resets"]);
        assert_eq!(of_accounting(&["TCP_COPIED_SEQ"]), ["app rx tcp"]);
        assert_eq!(of_accounting(&["SOCK_LOCK_OWNED"]), ["app rx tcp"]);
        assert_eq!(of_accounting(&["SKB_DST"]), ["drops", "tcp retransmits and resets"]);
        assert_eq!(of_accounting(&["SOCK_LISTENER", "INET_SPORT"]), [""; 0]);
        let [connections, packets, _] = events::ALL;
        assert_eq!(lost(packets, &["SOCK_LISTENER"]), ["packets"]);
        assert_eq!(lost(connections, &["INET_SPORT"]), ["connections", "accept"]);
        // Essential for everything.
        assert!(of_accounting(&["TASK_START_BOOTTIME"]).contains(&"wire tx"));
        assert_eq!(
            without(&["SIGNAL_LIVE"]).suffice("process_exit").unwrap_err(),
            "this kernel's BTF has no signal_struct.live.counter"
        );
    }

    #[test]
    fn details_of_a_socket_cost_nothing() {
        for global in OPTIONAL {
            assert_eq!(of_accounting(&[global]), [""; 0], "{global}");
        }
    }

    #[test]
    fn who_traces_reads_what_it_decodes() {
        assert_eq!(lost(trace::CALLS_AND_ARGUMENTS, &["SYSCALL_ARGUMENT_3"]), ["socket calls"]);
        assert_eq!(lost(trace::CALLS, &["SYSCALL_ARGUMENT_3"]), [""; 0]);
        assert_eq!(of_accounting(&["SYSCALL_NUMBER", "SYSCALL_ARGUMENT_0"]), [""; 0]);
    }

    #[test]
    fn every_program_that_reads_a_member_is_known_and_every_side_read_is_one() {
        assert!(READS.len() > 100, "{}", READS.len());
        for (programs, globals) in SIDE_READS {
            for program in *programs {
                let (_, reads) = READS.iter().find(|(name, _)| name == program).expect("a program");
                for global in *globals {
                    assert!(reads.contains(global), "{program} does not read {global}");
                }
            }
        }
    }
}
