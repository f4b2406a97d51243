//! Every kernel struct member the programs read, named once.
//!
//! The daemon looks each up in the running kernel's BTF and writes it into a read-only global of the same
//! name, where the verifier sees a constant.

/// Offset of a member that the kernel does not have. No processor accepts such an address: `bpf_probe_read_kernel`
/// reads zero (`copy_from_kernel_nofault_allowed`), and the verifier refuses it for a typed pointer.
pub const ABSENT: u64 = 1 << 63;
/// Value in a record if the kernel does not have the member.
pub const UNKNOWN: u32 = u32::MAX;
/// The same in 64 bits.
pub const UNKNOWN_64: u64 = u64::MAX;

/// Calls `$callback! { NAME = "struct" "member path"; ... }` with all offsets.
#[macro_export]
macro_rules! for_each_offset {
    ($callback:ident) => {
        $callback! {
            SOCK_FAMILY = "sock" "__sk_common.skc_family";
            SOCK_STATE = "sock" "__sk_common.skc_state";
            SOCK_NET = "sock" "__sk_common.skc_net.net";
            SOCK_PROTOCOL = "sock" "sk_protocol";
            SOCK_TYPE = "sock" "sk_type";
            SOCK_NUM = "sock" "__sk_common.skc_num";
            SOCK_RCV_SADDR = "sock" "__sk_common.skc_rcv_saddr";
            SOCK_V6_RCV_SADDR = "sock" "__sk_common.skc_v6_rcv_saddr";
            SOCK_DPORT = "sock" "__sk_common.skc_dport";
            SOCK_DADDR = "sock" "__sk_common.skc_daddr";
            SOCK_V6_DADDR = "sock" "__sk_common.skc_v6_daddr";
            SOCK_BOUND_DEVICE = "sock" "__sk_common.skc_bound_dev_if";
            SOCK_UID = "sock" "sk_uid.val";
            SOCK_RMEM = "sock" "sk_backlog.rmem_alloc.counter";
            SOCK_WMEM = "sock" "sk_wmem_alloc.refs.counter";
            SOCK_ACK_BACKLOG = "sock" "sk_ack_backlog";
            SOCK_MAX_ACK_BACKLOG = "sock" "sk_max_ack_backlog";
            TCP_WRITE_SEQ = "tcp_sock" "write_seq";
            TCP_SND_UNA = "tcp_sock" "snd_una";
            TCP_SRTT = "tcp_sock" "srtt_us";
            TCP_SND_CWND = "tcp_sock" "snd_cwnd";
            TCP_TOTAL_RETRANS = "tcp_sock" "total_retrans";
            TCP_BYTES_ACKED = "tcp_sock" "bytes_acked";
            TCP_SEGS_OUT = "tcp_sock" "segs_out";
            TCP_SEGS_IN = "tcp_sock" "segs_in";
            TCP_DATA_SEGS_OUT = "tcp_sock" "data_segs_out";
            TCP_DATA_SEGS_IN = "tcp_sock" "data_segs_in";
            FILE_INODE = "file" "f_inode";
            FILE_CRED = "file" "f_cred";
            INODE_NUMBER = "inode" "i_ino";
            INET_SPORT = "inet_sock" "inet_sport";
            SOCK_ERROR = "sock" "sk_err";
            TCP_BYTES_SENT = "tcp_sock" "bytes_sent";
            TCP_BYTES_RETRANS = "tcp_sock" "bytes_retrans";
            TASK_MM = "task_struct" "mm";
            TASK_REAL_PARENT = "task_struct" "real_parent";
            TASK_LOGIN_UID = "task_struct" "loginuid.val";
            TASK_PID_LINKS = "task_struct" "pid_links";
            TASK_FS = "task_struct" "fs";
            FS_DIRECTORY = "fs_struct" "pwd.dentry";
            FS_MOUNT = "fs_struct" "pwd.mnt";
            FS_CHANGES = "fs_struct" "seq.seqcount.sequence";
            FS_CHANGES_OF_LOCK = "fs_struct" "seq.seqcount.seqcount.sequence";
            TASK_CGROUPS = "task_struct" "cgroups";
            MM_EXE_FILE = "mm_struct" "exe_file";
            MM_ARG_START = "mm_struct" "arg_start";
            MM_ARG_END = "mm_struct" "arg_end";
            FILE_DENTRY = "file" "f_path.dentry";
            FILE_MOUNT = "file" "f_path.mnt";
            DENTRY_PARENT = "dentry" "d_parent";
            DENTRY_NAME = "dentry" "d_name.name";
            DENTRY_HASHED = "dentry" "d_hash.pprev";
            VFSMOUNT_ROOT = "vfsmount" "mnt_root";
            MOUNT_VFSMOUNT = "mount" "mnt";
            MOUNT_PARENT = "mount" "mnt_parent";
            MOUNT_MOUNTPOINT = "mount" "mnt_mountpoint";
            CSS_SET_CGROUP = "css_set" "dfl_cgrp";
            CGROUP_NODE = "cgroup" "kn";
            CSS_SET_LINKS = "css_set" "cgrp_links";
            LINK_NODE = "cgrp_cset_link" "cgrp_link";
            LINK_CGROUP = "cgrp_cset_link" "cgrp";
            CGROUP_ROOT = "cgroup" "root";
            ROOT_NAME = "cgroup_root" "name";
            KERNFS_ID = "kernfs_node" "id";
            KERNFS_NAME = "kernfs_node" "name";
            KERNFS_PARENT = "kernfs_node" "parent";
            KERNFS_RCU_PARENT = "kernfs_node" "__parent";
            TASK_STATE = "task_struct" "__state";
            TASK_CPU_TIME = "task_struct" "se.sum_exec_runtime";
            TASK_USER_TIME = "task_struct" "utime";
            TASK_SYSTEM_TIME = "task_struct" "stime";
            TASK_RUN_DELAY = "task_struct" "sched_info.run_delay";
            TASK_DELAYS = "task_struct" "delays";
            DELAYS_BLOCK_IO = "task_delay_info" "blkio_delay";
            TASK_MAJOR_FAULTS = "task_struct" "maj_flt";
            TASK_VOLUNTARY_SWITCHES = "task_struct" "nvcsw";
            TASK_INVOLUNTARY_SWITCHES = "task_struct" "nivcsw";
            TASK_READ_BYTES = "task_struct" "ioac.read_bytes";
            TASK_WRITE_BYTES = "task_struct" "ioac.write_bytes";
            TASK_CANCELLED_BYTES = "task_struct" "ioac.cancelled_write_bytes";
            SIGNAL_CPU_TIME = "signal_struct" "sum_sched_runtime";
            SIGNAL_USER_TIME = "signal_struct" "utime";
            SIGNAL_SYSTEM_TIME = "signal_struct" "stime";
            SIGNAL_MAJOR_FAULTS = "signal_struct" "maj_flt";
            SIGNAL_VOLUNTARY_SWITCHES = "signal_struct" "nvcsw";
            SIGNAL_INVOLUNTARY_SWITCHES = "signal_struct" "nivcsw";
            SIGNAL_READ_BYTES = "signal_struct" "ioac.read_bytes";
            SIGNAL_WRITE_BYTES = "signal_struct" "ioac.write_bytes";
            SIGNAL_CANCELLED_BYTES = "signal_struct" "ioac.cancelled_write_bytes";
            SIGNAL_THREADS = "signal_struct" "nr_threads";
            SIGNAL_PEAK_RSS = "signal_struct" "maxrss";
            SIGNAL_OOM_MM = "signal_struct" "oom_mm";
            SIGNAL_FLAGS = "signal_struct" "flags";
            SIGNAL_EXIT_CODE = "signal_struct" "group_exit_code";
            TASK_EXIT_CODE = "task_struct" "exit_code";
            MM_PEAK_RSS = "mm_struct" "hiwater_rss";
            MM_FILE_PAGES = "mm_struct" "rss_stat.0.count";
            MM_ANON_PAGES = "mm_struct" "rss_stat.1.count";
            MM_SWAP_PAGES = "mm_struct" "rss_stat.2.count";
            MM_SHMEM_PAGES = "mm_struct" "rss_stat.3.count";
            MM_OLD_FILE_PAGES = "mm_struct" "rss_stat.count.0.counter";
            MM_OLD_ANON_PAGES = "mm_struct" "rss_stat.count.1.counter";
            MM_OLD_SWAP_PAGES = "mm_struct" "rss_stat.count.2.counter";
            MM_OLD_SHMEM_PAGES = "mm_struct" "rss_stat.count.3.counter";
            TASK_FILES = "task_struct" "files";
            FILES_TABLE = "files_struct" "fdt";
            FILES_MOST = "fdtable" "max_fds";
            FILES_FD = "fdtable" "fd";
            FILE_PRIVATE = "file" "private_data";
            SYSCALL_NUMBER = "pt_regs" "orig_ax";
            SYSCALL_ARGUMENT_0 = "pt_regs" "di";
            SYSCALL_ARGUMENT_1 = "pt_regs" "si";
            SYSCALL_ARGUMENT_2 = "pt_regs" "dx";
            SYSCALL_ARGUMENT_3 = "pt_regs" "r10";
            SYSCALL_ARGUMENT_4 = "pt_regs" "r8";
            SYSCALL_ARGUMENT_5 = "pt_regs" "r9";
            SYSCALL_ORIGINAL_X0 = "pt_regs" "orig_x0";
            TASK_STACK = "task_struct" "stack";
            TASK_STATUS = "task_struct" "thread_info.status";
            URING_OPCODE = "io_kiocb" "opcode";
            SOCK_DROPS = "sock" "sk_drops.counter";
            SOCK_FLAGS = "sock" "__sk_common.skc_flags";
            SOCK_LISTENER = "sock" "__sk_common.skc_listener";
            SOCK_SOCKET = "sock" "sk_socket";
            SOCK_COOKIE = "sock" "__sk_common.skc_cookie";
            SOCK_LOCK_OWNED = "sock" "sk_lock.owned";
            SOCK_USER_DATA = "sock" "sk_user_data";
            TCP_BYTES_RECEIVED = "tcp_sock" "bytes_received";
            TCP_RCV_NXT = "tcp_sock" "rcv_nxt";
            TCP_COPIED_SEQ = "tcp_sock" "copied_seq";
            NET_INUM = "net" "ns.inum";
            NET_COOKIE = "net" "net_cookie";
            NET_LIST = "net" "list";
            NET_LOOPBACK = "net" "loopback_dev";
            SOCKET_SK = "socket" "sk";
            SOCKET_FILE = "socket" "file";
            ICSK_ULP_OPS = "inet_connection_sock" "icsk_ulp_ops";
            ULP_OPS_NAME = "tcp_ulp_ops" "name";
            TASK_PID = "task_struct" "pid";
            TASK_TGID = "task_struct" "tgid";
            TASK_FLAGS = "task_struct" "flags";
            TASK_COMM = "task_struct" "comm";
            TASK_CRED = "task_struct" "cred";
            TASK_SIGNAL = "task_struct" "signal";
            TASK_NSPROXY = "task_struct" "nsproxy";
            TASK_GROUP_LEADER = "task_struct" "group_leader";
            TASK_START_BOOTTIME = "task_struct" "start_boottime";
            SIGNAL_LIVE = "signal_struct" "live.counter";
            SIGNAL_PIDS = "signal_struct" "pids";
            PID_TASKS = "pid" "tasks";
            PID_NUMBERS = "pid" "numbers";
            CRED_UID = "cred" "uid.val";
            CRED_USER_NS = "cred" "user_ns";
            USER_NS_PARENT = "user_namespace" "parent";
            USER_NS_LEVEL = "user_namespace" "level";
            USER_NS_OWNER = "user_namespace" "owner.val";
            NET_USER_NS = "net" "user_ns";
            NSPROXY_NET = "nsproxy" "net_ns";
            SKB_LEN = "sk_buff" "len";
            SKB_HEAD = "sk_buff" "head";
            SKB_DATA = "sk_buff" "data";
            SKB_END = "sk_buff" "end";
            SKB_DATA_LEN = "sk_buff" "data_len";
            SKB_CB = "sk_buff" "cb";
            TCP_CB_SEGMENTS = "tcp_skb_cb" "tcp_gso_segs";
            SKB_SK = "sk_buff" "sk";
            SKB_DEV = "sk_buff" "dev";
            SKB_NEXT = "sk_buff" "next";
            SKB_IIF = "sk_buff" "skb_iif";
            SKB_DST = "sk_buff" "_skb_refdst";
            SKB_NETWORK_HEADER = "sk_buff" "network_header";
            SKB_TRANSPORT_HEADER = "sk_buff" "transport_header";
            SKB_INNER_NETWORK_HEADER = "sk_buff" "inner_network_header";
            SKB_PROTOCOL = "sk_buff" "protocol";
            SHINFO_GSO_SEGMENTS = "skb_shared_info" "gso_segs";
            SHINFO_GSO_SIZE = "skb_shared_info" "gso_size";
            SHINFO_GSO_TYPE = "skb_shared_info" "gso_type";
            RTABLE_FLAGS = "rtable" "rt_flags";
            RT6_FLAGS = "rt6_info" "rt6i_flags";
            DST_DEV = "dst_entry" "dev";
            DEVICE_IFINDEX = "net_device" "ifindex";
            DEVICE_HEADER_BYTES = "net_device" "hard_header_len";
            DEVICE_UPPER = "net_device" "adj_list.upper";
            DEVICE_LOWER = "net_device" "adj_list.lower";
            PACKET_DEVICE = "packet_sock" "prot_hook.dev";
            PACKET_PROTOCOL = "packet_sock" "num";
            PACKET_FLAGS = "packet_sock" "flags";
            PACKET_TX_RING = "packet_sock" "tx_ring.pg_vec";
            PACKET_VNET_BYTES = "packet_sock" "vnet_hdr_sz";
            DEVICE_NET = "net_device" "nd_net.net";
        }
    };
}

/// Members of one bit: (global, struct, member path). The global holds the bit's number.
pub const BITS: &[(&str, &str, &str)] = &[
    ("SOCK_V6_ONLY_BIT", "sock", "__sk_common.skc_ipv6only"),
    ("SOCK_REUSE_BIT", "sock", "__sk_common.skc_reuse"),
    ("TCP_REPAIR_BIT", "tcp_sock", "repair"),
    ("PACKET_VNET_BIT", "packet_sock", "has_vnet_hdr"),
];

macro_rules! table {
    ($($name:ident = $of:literal $path:literal;)*) => {
        /// (global, struct, member path), for the daemon's lookup in BTF.
        pub const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $of, $path)),*];
    };
}
for_each_offset!(table);
