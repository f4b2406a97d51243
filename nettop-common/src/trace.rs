//! Socket calls at entry and exit, with their arguments.

use bytemuck::{Pod, Zeroable};

use crate::OwnerKey;

/// The key in the table of traced processes that means all; no process has it.
pub const EVERYBODY: u32 = 0;
/// In the table of traced processes: calls are reported, children are traced.
pub const REPORTED: u32 = 1 << 0;
pub const FOLLOWED: u32 = 1 << 1;

/// Most names of processes to wait for.
pub const MAX_TRACED_NAMES: u32 = 16;

/// Most nested calls that are remembered.
pub const MAX_NESTED_CALLS: usize = 8;

/// System calls that are traced, as strace has them in `trace=network`.
pub mod call {
    pub const SOCKET: u32 = 1;
    pub const SOCKETPAIR: u32 = 2;
    pub const BIND: u32 = 3;
    pub const LISTEN: u32 = 4;
    pub const ACCEPT: u32 = 5;
    pub const ACCEPT4: u32 = 6;
    pub const CONNECT: u32 = 7;
    pub const GETSOCKNAME: u32 = 8;
    pub const GETPEERNAME: u32 = 9;
    pub const SENDTO: u32 = 10;
    pub const RECVFROM: u32 = 11;
    pub const SENDMSG: u32 = 12;
    pub const RECVMSG: u32 = 13;
    pub const SENDMMSG: u32 = 14;
    pub const RECVMMSG: u32 = 15;
    pub const SHUTDOWN: u32 = 16;
    pub const SETSOCKOPT: u32 = 17;
    pub const GETSOCKOPT: u32 = 18;

    /// In their order, from 1.
    pub const NAMES: [&str; 18] = [
        "socket",
        "socketpair",
        "bind",
        "listen",
        "accept",
        "accept4",
        "connect",
        "getsockname",
        "getpeername",
        "sendto",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "sendmmsg",
        "recvmmsg",
        "shutdown",
        "setsockopt",
        "getsockopt",
    ];
}

/// What happened.
pub mod kind {
    pub const ENTER: u32 = 0;
    pub const LEAVE: u32 = 1;
    /// The call was running before it was traced, or refused before it began (seccomp).
    pub const LEAVE_UNENTERED: u32 = 2;
}

/// Calls `$callback! { "function" enter_program leave_program is_needed; ... }` with the traced functions of
/// net/socket.c, as in kernels 5.15 to 7.2.
#[macro_export]
macro_rules! for_each_function {
    ($callback:ident) => {
        $callback! {
            "__sys_socket" enter_sys_socket leave_sys_socket needed;
            "__sys_socketpair" enter_sys_socketpair leave_sys_socketpair optional;
            "__sys_bind" enter_sys_bind leave_sys_bind optional;
            "__sys_listen" enter_sys_listen leave_sys_listen optional;
            "__sys_accept4" enter_sys_accept4 leave_sys_accept4 optional;
            "do_accept" enter_do_accept leave_do_accept optional;
            "__sys_connect" enter_sys_connect leave_sys_connect optional;
            "__sys_getsockname" enter_sys_getsockname leave_sys_getsockname optional;
            "__sys_getpeername" enter_sys_getpeername leave_sys_getpeername optional;
            "__sys_sendto" enter_sys_sendto leave_sys_sendto optional;
            "__sys_recvfrom" enter_sys_recvfrom leave_sys_recvfrom optional;
            "__sys_sendmsg" enter_sys_sendmsg leave_sys_sendmsg optional;
            "__sys_sendmmsg" enter_sys_sendmmsg leave_sys_sendmmsg optional;
            "__sys_recvmsg" enter_sys_recvmsg leave_sys_recvmsg optional;
            "__sys_recvmmsg" enter_sys_recvmmsg leave_sys_recvmmsg optional;
            "__sys_shutdown" enter_sys_shutdown leave_sys_shutdown optional;
            "__sys_setsockopt" enter_sys_setsockopt leave_sys_setsockopt optional;
            "__sys_getsockopt" enter_sys_getsockopt leave_sys_getsockopt optional;
            "__sock_create" enter_sock_create leave_sock_create optional;
            "sock_alloc" enter_sock_alloc leave_sock_alloc optional;
            "sock_alloc_file" enter_sock_alloc_file leave_sock_alloc_file optional;
            "__sock_sendmsg" enter_inner_sendmsg leave_inner_sendmsg optional;
            "sock_sendmsg" enter_sock_sendmsg leave_sock_sendmsg optional;
            "sock_recvmsg" enter_sock_recvmsg leave_sock_recvmsg optional;
            "sock_read_iter" enter_sock_read_iter leave_sock_read_iter optional;
            "sock_write_iter" enter_sock_write_iter leave_sock_write_iter optional;
            "sock_splice_read" enter_sock_splice_read leave_sock_splice_read optional;
            "sock_poll" enter_sock_poll leave_sock_poll optional;
            "sock_ioctl" enter_sock_ioctl leave_sock_ioctl optional;
            "sock_close" enter_sock_close leave_sock_close optional;
            "__sock_release" enter_sock_release leave_sock_release optional;
        }
    };
}

/// First number of a function; smaller ones are system calls.
pub const FIRST_FUNCTION: u32 = 64;

macro_rules! functions {
    ($($target:literal $enter:ident $leave:ident $how:ident;)*) => {
        /// Names of functions, by their numbers from [`FIRST_FUNCTION`].
        pub const FUNCTIONS: &[&str] = &[$($target),*];

        /// Numbers of functions, less [`FIRST_FUNCTION`].
        #[allow(non_camel_case_types, reason = "the names of programs")]
        #[derive(Clone, Copy, Debug)]
        #[repr(u32)]
        pub enum Function {
            $($enter),*
        }
    };
}
for_each_function!(functions);

/// Start of a name to wait for: as two words, and which of their bits matter.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
pub struct NamePattern {
    pub name: [u64; 2],
    /// All zero: no pattern.
    pub mask: [u64; 2],
}

/// A thread entered or left a call.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Step {
    /// Since boot, sleep included.
    pub time_ns: u64,
    /// Since the outermost call was entered.
    pub elapsed_ns: u64,
    /// The process.
    pub owner: OwnerKey,
    /// Result of the system call.
    pub result: i64,
    /// Name of the thread.
    pub comm: [u8; 16],
    pub tid: u32,
    /// See [`call`] and [`FIRST_FUNCTION`].
    pub what: u32,
    /// Calls around it.
    pub depth: u32,
    pub kind: u32,
}

/// A step of a system call with its data. At entry only the arguments.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct CallStep {
    pub step: Step,
    pub arguments: [u64; 6],
    /// The length behind a pointer, at entry and at exit. See [`have`].
    pub len_before: i32,
    pub len_after: i32,
    /// Which of the other members could be read.
    pub have: u32,
    /// Bytes copied to `address`, `control` and `value`.
    pub address_bytes: u32,
    pub control_bytes: u32,
    pub value_bytes: u32,
    /// `struct sockaddr`.
    pub address: [u8; 128],
    /// `struct msghdr`; of several, the first.
    pub message: [u64; 7],
    /// `msg_len` of the first of several messages.
    pub message_len: u32,
    /// How many `vectors` could be read.
    pub vectors_read: u32,
    /// `struct iovec`, the first ones.
    pub vectors: [[u64; 2]; MAX_COPIED_VECTORS],
    /// Start of the control messages.
    pub control: [u8; 64],
    /// The value of an option, or a pair of sockets.
    pub value: [u8; 64],
}

/// Most vectors that are copied.
pub const MAX_COPIED_VECTORS: usize = 4;

/// What of [`CallStep`] could be read.
pub mod have {
    pub const LEN_BEFORE: u32 = 1 << 0;
    pub const LEN_AFTER: u32 = 1 << 1;
    pub const ADDRESS: u32 = 1 << 2;
    pub const MESSAGE: u32 = 1 << 3;
    pub const MESSAGE_LEN: u32 = 1 << 4;
    pub const CONTROL: u32 = 1 << 5;
    pub const VALUE: u32 = 1 << 6;
}

/// State of a thread in a call, in the task's storage: freed with the thread.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Thread {
    /// Entry time of its outermost call.
    pub begun_ns: u64,
    /// How many calls it is in.
    pub depth: u64,
    /// Where on the stack each was entered.
    pub frames: [u64; MAX_NESTED_CALLS],
    pub call: CallStep,
    /// For the verifier: it assumes up to twice the real lengths.
    pub reserved: [u64; 8],
}
