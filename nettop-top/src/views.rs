//! The views, one entry each: their columns, what these mean, and where Enter leads.

/// What a view has lines of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Program,
    Unit,
    Process,
    Device,
    Drops,
    Sockets,
    Hogs,
}

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Name,
    Pid,
    Processes,
    User,
    Unit,
    Up,
    Down,
    UpSum,
    DownSum,
    Retransmits,
    Drops,
    Trend,
    Namespace,
    Basis,
    UpOwned,
    UpKernel,
    UpForwarded,
    UpNobody,
    DownOwned,
    DownKernel,
    DownForwarded,
    DownNobody,
    Class,
    Place,
    Protocol,
    Owner,
    Device,
    Packets,
    PacketsSum,
    Remote,
    State,
    RoundTrip,
    ReceiveQueue,
    SendQueue,
    Cpu,
    Memory,
    Swap,
    Disk,
    Load,
    Blocked,
    Threads,
    Ended,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub what: What,
    pub name: &'static str,
    /// 0: what the others leave, shared with others of 0.
    pub width: u16,
    /// 0 is always shown; of the others the highest go first where there is no room.
    pub rank: u8,
    pub explains: &'static str,
}

impl Column {
    /// Whether its text stands at the right, as numbers do.
    pub const fn is_right(&self) -> bool {
        !matches!(
            self.what,
            What::Name
                | What::User
                | What::Unit
                | What::Trend
                | What::Basis
                | What::Class
                | What::Place
                | What::Protocol
                | What::Owner
                | What::Device
                | What::Remote
                | What::State
                | What::Ended
        )
    }
}

/// One view.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub kind: Kind,
    pub name: &'static str,
    pub explains: &'static str,
    pub columns: &'static [Column],
    /// Column that it is first sorted by.
    pub sort: What,
    /// What Enter shows of a line.
    pub down: Option<Kind>,
}

const fn column(what: What, name: &'static str, width: u16, rank: u8, explains: &'static str) -> Column {
    Column { what, name, width, rank, explains }
}

const UP: Column =
    column(What::Up, "UP/s", 9, 0, "IP bytes that were sent; by m each second, in all, or since the mark");
const DOWN: Column = column(What::Down, "DOWN/s", 9, 0, "the same, received");
const UP_SUM: Column = column(
    What::UpSum,
    "UP SUM",
    8,
    5,
    "IP bytes sent since counting began, without processes that are gone; of a record, in its slot",
);
const DOWN_SUM: Column = column(What::DownSum, "DOWN SUM", 8, 5, "the same, received");
const RETRANSMITS: Column = column(What::Retransmits, "RETR", 6, 7, "segments that TCP sent again in the interval");
const DROPS: Column = column(What::Drops, "DROP", 6, 6, "packets that the kernel dropped in the interval");
const TREND: Column =
    column(What::Trend, "TREND", 16, 4, "bytes both ways in the latest intervals, the last at the right");
const USER: Column = column(What::User, "USER", 10, 3, "user of the processes, if all have the same");
const UNIT: Column = column(What::Unit, "UNIT", 22, 8, "pod, container or systemd unit, if all are in the same");
const PROCESSES: Column = column(What::Processes, "N", 5, 2, "processes");

/// All views, in the order of their numbers.
pub const VIEWS: [View; 7] = [
    View {
        kind: Kind::Program,
        name: "Program",
        explains: "Who moves how much, added up by program.",
        columns: &[
            column(What::Name, "PROGRAM", 0, 0, "file of the program; its last part, with e all of it"),
            PROCESSES,
            USER,
            UNIT,
            UP,
            DOWN,
            UP_SUM,
            DOWN_SUM,
            RETRANSMITS,
            DROPS,
            TREND,
        ],
        sort: What::Up,
        down: Some(Kind::Process),
    },
    View {
        kind: Kind::Unit,
        name: "Unit",
        explains: "Who moves how much, added up by pod, container or systemd unit.",
        columns: &[
            column(
                What::Name,
                "UNIT / CONTAINER",
                0,
                0,
                "pod, name of the container, its id, or systemd unit; - for none",
            ),
            PROCESSES,
            USER,
            UP,
            DOWN,
            UP_SUM,
            DOWN_SUM,
            RETRANSMITS,
            DROPS,
            TREND,
        ],
        sort: What::Up,
        down: Some(Kind::Process),
    },
    View {
        kind: Kind::Process,
        name: "Process",
        explains: "Who moves how much, by process and user. v puts each below those that started it.",
        columns: &[
            column(What::Pid, "PID", 8, 1, "process; none for the kernel and for what found no room"),
            column(What::Name, "PROCESS", 0, 0, "its name; with e what it runs"),
            USER,
            UNIT,
            UP,
            DOWN,
            UP_SUM,
            DOWN_SUM,
            RETRANSMITS,
            DROPS,
            TREND,
        ],
        sort: What::Up,
        down: Some(Kind::Sockets),
    },
    View {
        kind: Kind::Device,
        name: "Device",
        explains: "Each device's balance: owned + kernel + forwarded + nobody is what it moved.",
        columns: &[
            column(What::Name, "DEVICE", 0, 0, "name of the device in its network namespace"),
            column(What::Namespace, "NETNS", 11, 6, "inode number of the network namespace"),
            UP,
            DOWN,
            column(What::UpOwned, "UP OWNED", 9, 2, "of UP, what processes sent"),
            column(What::UpKernel, "KERNEL", 8, 3, "of UP, what the kernel sent by itself"),
            column(What::UpForwarded, "FORWARD", 8, 4, "of UP, what was received elsewhere and sent again"),
            column(What::UpNobody, "NOBODY", 8, 1, "of UP, what no IP socket saw"),
            column(What::DownOwned, "DN OWNED", 9, 2, "of DOWN, what processes received"),
            column(What::DownKernel, "KERNEL", 8, 3, "of DOWN, what the kernel received"),
            column(What::DownForwarded, "FORWARD", 8, 4, "of DOWN, what was sent again elsewhere"),
            column(What::DownNobody, "NOBODY", 8, 1, "of DOWN, what no IP socket saw"),
            column(What::Basis, "COUNTS BY", 10, 5, "how it is known what the device counts"),
            column(What::Trend, "TREND", 16, 7, "bytes both ways in the latest intervals, the last at the right"),
        ],
        sort: What::Up,
        down: Some(Kind::Process),
    },
    View {
        kind: Kind::Drops,
        name: "Drops",
        explains: "Packets that the kernel dropped, and what TCP did about it: why, where, whose.",
        columns: &[
            column(What::Name, "REASON", 0, 0, "name in the kernel"),
            column(What::Class, "CLASS", 11, 2, "what the reason asks of an administrator"),
            column(What::Place, "PLACE", 0, 4, "function of the kernel, and offset in it"),
            column(What::Protocol, "PROTO", 6, 5, "protocol"),
            column(What::Owner, "OWNER", 16, 1, "process whose packets these were, if that is known"),
            column(What::Device, "DEV", 10, 3, "device that the packets were on"),
            column(What::Packets, "PK/s", 8, 0, "packets; by m each second, or in all"),
            column(What::PacketsSum, "PK SUM", 9, 1, "packets since counting began; of a record, in the shown slot"),
            column(What::Trend, "TREND", 16, 6, "packets in the latest intervals, the last at the right"),
        ],
        sort: What::Packets,
        down: Some(Kind::Process),
    },
    View {
        kind: Kind::Sockets,
        name: "Sockets",
        explains: "Sockets as they are now. They are not recorded.",
        columns: &[
            column(What::Protocol, "PROTO", 6, 1, "protocol"),
            column(What::Name, "LOCAL", 0, 0, "address and port at this end; d shows names"),
            column(What::Remote, "REMOTE", 0, 0, "the same at the other end"),
            column(What::State, "STATE", 12, 3, "as TCP names it"),
            column(What::Owner, "HOLDER", 20, 2, "process that holds it, and how many more do"),
            column(What::RoundTrip, "RTT us", 8, 5, "smoothed round-trip time of a TCP connection, in microseconds"),
            column(What::Retransmits, "RETR", 6, 7, "segments that TCP sent again since the connection began"),
            column(
                What::ReceiveQueue,
                "RECVQ",
                8,
                6,
                "bytes that the program has not taken; of a listener, connections that wait",
            ),
            column(
                What::SendQueue,
                "SENDQ",
                8,
                6,
                "bytes that are not acknowledged or sent; of a listener, how many may wait",
            ),
        ],
        sort: What::Owner,
        down: None,
    },
    View {
        kind: Kind::Hogs,
        name: "Hogs",
        explains: "Who uses CPU, memory, disk and makes the load, whether it talks or not: the leaders of each.",
        columns: &[
            column(What::Pid, "PID", 8, 1, "process; none for several of one name, user and cgroup"),
            column(What::Name, "PROCESS", 0, 0, "its name; with e what it runs"),
            USER,
            UNIT,
            column(What::Cpu, "CPU%", 7, 0, "time on a CPU, in percent of one"),
            column(What::Memory, "MEM MB", 7, 0, "resident memory; shared pages are in each process"),
            column(What::Disk, "DISK KB/s", 9, 0, "from and to storage, each second"),
            column(What::Load, "LOAD", 7, 1, "threads that ran, wanted to, or waited uninterruptibly when it was read"),
            column(What::Blocked, "IN D", 7, 2, "of those, the ones that waited, mostly for a disk"),
            column(What::Threads, "THR", 5, 7, "threads"),
            column(What::Swap, "SWAP MB", 7, 6, "memory in swap"),
            column(
                What::Ended,
                "ENDED",
                9,
                4,
                "how it ended: code, signal, memory if the kernel ended it to free some; or how many did",
            ),
            column(What::Trend, "TREND", 16, 5, "CPU time in the latest intervals, the last at the right"),
        ],
        sort: What::Cpu,
        down: Some(Kind::Process),
    },
];

/// Where a kind of view is in [`VIEWS`].
pub fn number_of(kind: Kind) -> usize {
    VIEWS.iter().position(|view| view.kind == kind).unwrap_or(0)
}
