//! What a process is when it makes or uses its first socket, or executes a program later: a record that the daemon gets once.

use bytemuck::{Pod, Zeroable};

use crate::OwnerKey;

/// Most ancestors in a record.
pub const MAX_ANCESTORS: usize = 8;
/// Most bytes of names in a record: program, cgroup, arguments and directory have bounds of their own, and fit.
pub const NAMES_BYTES: usize = 8192;
/// Most bytes of a file's name, and the zero behind it (`NAME_MAX`).
pub const NAME_BYTES: usize = 256;

/// The program's file has no name any more.
pub const DELETED: u32 = 1;
/// The path of the program, or of the cgroup, is longer than the record, which has its end.
pub const PROGRAM_CUT: u32 = 2;
pub const CGROUP_CUT: u32 = 4;
/// There are more arguments than in the record.
pub const ARGUMENTS_CUT: u32 = 8;
/// Another process's memory is out of reach.
pub const ARGUMENTS_UNREAD: u32 = 16;
/// The path of the working directory is longer than the record.
pub const DIRECTORY_CUT: u32 = 32;
/// The working directory is the one that the process was made in: the record has it.
pub const DIRECTORY_KNOWN: u32 = 64;

/// Nobody logged in (`AUDIT_UID_UNSET`), or this kernel does not keep who did.
pub const NO_LOGIN: u32 = u32::MAX;

/// A process above.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Ancestor {
    pub start_time_ns: u64,
    pub comm: [u8; 16],
    pub tgid: u32,
    pub uid: u32,
}

/// The record. Names follow: the components of the program's path from the file up, those of the cgroup's path likewise, each
/// with a zero behind it; then the arguments as the process has them, and the components of the working directory.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct ProcessRecord {
    pub key: OwnerKey,
    /// [`DELETED`], [`PROGRAM_CUT`], [`CGROUP_CUT`], [`ARGUMENTS_CUT`], [`ARGUMENTS_UNREAD`], [`DIRECTORY_CUT`],
    /// [`DIRECTORY_KNOWN`].
    pub flags: u32,
    /// How many of `above` there are, the parent first.
    pub ancestors: u32,
    pub program_bytes: u32,
    pub cgroup_bytes: u32,
    pub argument_bytes: u32,
    pub directory_bytes: u32,
    /// Who logged in, as audit has it, or [`NO_LOGIN`].
    pub login_uid: u32,
    pub padding: u32,
    /// The leader of the session: only its pid where it has ended, all zero where there is no session.
    pub session: Ancestor,
    pub above: [Ancestor; MAX_ANCESTORS],
}
