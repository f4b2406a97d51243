//! Log of the programs: events of slow paths, as numbers that the daemon formats.

/// The event. Its two numbers are in parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum What {
    /// An owner was made (its process, its slot).
    OwnerMade = 1,
    /// The table of owners is full (the process).
    OwnersFull = 2,
    /// The index of owners refused one (the process, the error).
    OwnerIndexRefused = 3,
    /// A row was made (its owner's slot, its own).
    RowMade = 4,
    /// The limit of rows is reached (the owner's slot, the number).
    RowsFull = 5,
    /// The index of rows refused one (the owner's slot, the error).
    RowIndexRefused = 6,
    /// The kernel gave no storage for a socket.
    StorageRefused = 7,
    /// A socket has another owner (the slot it had, the one it has). The high half of the second is the attribution.
    SocketGiven = 8,
    /// A socket's owner was retired meanwhile (the slot).
    OwnerRetired = 9,
    /// A socket's row was retired meanwhile (the slot).
    RowRetired = 10,
}

impl What {
    pub const ALL: [Self; 10] = [
        Self::OwnerMade,
        Self::OwnersFull,
        Self::OwnerIndexRefused,
        Self::RowMade,
        Self::RowsFull,
        Self::RowIndexRefused,
        Self::StorageRefused,
        Self::SocketGiven,
        Self::OwnerRetired,
        Self::RowRetired,
    ];
}

/// The program that a record comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Hook {
    SocketCreate = 1,
    Seed,
    PacketTx,
    PacketRx,
    FrameSent,
    PacketFreed,
    SocketSend,
    SocketReceive,
    TcpReceive,
    InetSendmsg,
    Inet6Sendmsg,
    InetSendpage,
    PacketSendmsg,
    PacketRecvmsg,
    InetRecvmsg,
    Inet6Recvmsg,
    SockCommonRecvmsg,
    TcpCleanupRbuf,
    SendLeave,
    UdpConsume,
    RawReceiveLeave,
    TcpConsume,
    PacketReceived,
    AssociationTx,
    AssociationRx,
    MeterCreate,
    MeterTx,
    MeterRx,
}

impl Hook {
    pub const ALL: [Self; 28] = [
        Self::SocketCreate,
        Self::Seed,
        Self::PacketTx,
        Self::PacketRx,
        Self::FrameSent,
        Self::PacketFreed,
        Self::SocketSend,
        Self::SocketReceive,
        Self::TcpReceive,
        Self::InetSendmsg,
        Self::Inet6Sendmsg,
        Self::InetSendpage,
        Self::PacketSendmsg,
        Self::PacketRecvmsg,
        Self::InetRecvmsg,
        Self::Inet6Recvmsg,
        Self::SockCommonRecvmsg,
        Self::TcpCleanupRbuf,
        Self::SendLeave,
        Self::UdpConsume,
        Self::RawReceiveLeave,
        Self::TcpConsume,
        Self::PacketReceived,
        Self::AssociationTx,
        Self::AssociationRx,
        Self::MeterCreate,
        Self::MeterTx,
        Self::MeterRx,
    ];

    /// As the program is called. One that repeats another's work has that one's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SocketCreate => "socket_create",
            Self::Seed => "seed",
            Self::PacketTx => "packet_tx",
            Self::PacketRx => "packet_rx",
            Self::FrameSent => "frame_sent",
            Self::PacketFreed => "packet_freed",
            Self::SocketSend => "socket_send",
            Self::SocketReceive => "socket_receive",
            Self::TcpReceive => "tcp_receive",
            Self::InetSendmsg => "inet_sendmsg",
            Self::Inet6Sendmsg => "inet6_sendmsg",
            Self::InetSendpage => "inet_sendpage",
            Self::PacketSendmsg => "packet_sendmsg",
            Self::PacketRecvmsg => "packet_recvmsg",
            Self::InetRecvmsg => "inet_recvmsg",
            Self::Inet6Recvmsg => "inet6_recvmsg",
            Self::SockCommonRecvmsg => "sock_common_recvmsg",
            Self::TcpCleanupRbuf => "tcp_cleanup_rbuf",
            Self::SendLeave => "send_leave",
            Self::UdpConsume => "udp_consume",
            Self::RawReceiveLeave => "raw_receive_leave",
            Self::TcpConsume => "tcp_consume",
            Self::PacketReceived => "packet_received",
            Self::AssociationTx => "association_tx",
            Self::AssociationRx => "association_rx",
            Self::MeterCreate => "meter_create",
            Self::MeterTx => "meter_tx",
            Self::MeterRx => "meter_rx",
        }
    }
}

/// Values of each record: event, hook, the socket's cookie or 0, current process, and two numbers.
pub const VALUES_PER_RECORD: usize = 6;
