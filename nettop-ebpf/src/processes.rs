//! Who a process is: program, cgroup, arguments, session and ancestors, read while it lives and sent to the daemon once.
//!
//! A process that ends before the next report is in no /proc then.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use nettop_common::{
    Owner, OwnerKey, ProcessRecord, Ref,
    owner::{RECORDED, UNSENT, WITHOUT_ARGUMENTS},
    process::{
        ARGUMENTS_CUT, ARGUMENTS_UNREAD, Ancestor, CGROUP_CUT, DELETED, DIRECTORY_CUT, DIRECTORY_KNOWN, MAX_ANCESTORS,
        NAME_BYTES, NAMES_BYTES, NO_LOGIN, PROGRAM_CUT,
    },
};

use crate::{
    atomic::{add, next},
    kernel::{self, probe, probe_at, probe_if_there},
    maps::{Draft, EXECUTED, PROCESS_DRAFT, PROCESSES, count},
    owners, task,
};

/// Components of the path of a program or a directory, mounts on its way, and the root.
const MAX_PATH_STEPS: usize = 128;
/// Components of a cgroup's path, and the root.
const MAX_CGROUP_STEPS: usize = 33;
/// Hierarchies of cgroups.
const MAX_HIERARCHIES: usize = 24;
/// `cgroup_root.name` of the one in which systemd keeps units where it does not use cgroup2 for that.
const SYSTEMD: u64 = u64::from_ne_bytes(*b"systemd\0");
/// `PIDTYPE_SID`, times the size of a pointer.
const SESSION_OFFSET: u64 = 3 * 8;
/// Bytes of arguments.
const ARGUMENT_MASK: u64 = 255;
/// Bytes of names from which on a path gets no further component: what comes after it has room.
/// More would be the daemon's memory, for each process.
const PROGRAM_END_BYTES: u32 = 1024;
const CGROUP_END_BYTES: u32 = 3072;
/// Behind what comes before it; never [`PROGRAM_END_BYTES`] from the begin.
const DIRECTORY_BYTES: u32 = 1025;
/// Into which ring a record goes.
const FOR_OWNERS: u32 = 0;
const FOR_USAGE: u32 = 1;
/// What a step up a tree returns: a global function must return a number.
const STEP_IS_LAST: u32 = 0;
const STEP_HAS_NEXT: u32 = 1;

/// Records the running process as the owner of a socket that it makes or begins to use.
#[inline(always)]
pub fn record_new(owner: Ref) {
    if let Some(owner) = owners::get(owner).filter(|owner| owner.recorded != RECORDED) {
        record(owner, task::current_address());
    }
}

/// The same with each use: what found no room is not tried again here.
#[inline(always)]
pub fn record_user(owner: &mut Owner) {
    if owner.recorded < RECORDED {
        record(owner, task::current_address());
    }
}

/// Records a process. `task` is the address of one of its tasks.
#[inline(always)]
pub fn record(owner: &mut Owner, task: u64) {
    // To the stack: the verifier admits no part of a map value where a function wants a whole one.
    let key = owner.key;
    // Nor is the owner of what found no room a process.
    if owner.is_kernel_thread != 0 || key.tgid == 0 {
        owner.recorded = RECORDED;
        return;
    }
    owner.recorded = send_process_record(&key, task, FOR_OWNERS);
}

/// Sends the record of a process that is no owner. `task` is the address of one of its tasks.
#[inline(always)]
pub fn send(key: &OwnerKey, task: u64) {
    send_process_record(key, task, FOR_OWNERS);
}

/// Sends the record of the running process, which has executed a program, to whoever reads what processes use.
#[inline(always)]
pub fn send_executed(key: &OwnerKey) {
    send_process_record(key, task::current_address(), FOR_USAGE);
}

/// Returns what is recorded now. Global, as are the steps below, so that the verifier checks it once, and not on each path
/// that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_process_record(key: *const OwnerKey, task: u64, ring: u32) -> u32 {
    if key.is_null() {
        return UNSENT;
    }
    let Some(draft) = draft() else { return UNSENT };
    // Another task may run here while this one is preempted.
    let is_used = next(&raw mut draft.users) != 0;
    if !is_used {
        // SAFETY: the verifier admits null, or a whole key.
        draft.record.key = unsafe { key.read_volatile() };
        fill(task);
    }
    let is_sent = !is_used && put(ring);
    if !is_sent {
        count(|stats| &raw mut stats.processes_lost);
    }
    if let Some(draft) = self::draft() {
        add(&raw mut draft.users, u64::MAX);
    }
    match is_sent {
        false => UNSENT,
        true if task == task::current_address() => RECORDED,
        true => WITHOUT_ARGUMENTS,
    }
}

/// The draft of this CPU, looked up by each function: a global one takes no pointer into it, and may be called in between.
#[inline(always)]
fn draft() -> Option<&'static mut Draft> {
    // SAFETY: the element exists for the life of the map; who works on it is counted.
    PROCESS_DRAFT.get_ptr_mut(0).map(|draft| unsafe { &mut *draft })
}

#[inline(always)]
fn fill(task: u64) {
    let Some(draft) = draft() else { return };
    draft.record.flags = 0;
    draft.record.padding = 0;
    draft.used = 0;
    draft.end = PROGRAM_END_BYTES;
    begin_program(draft, task);
    run_steps(MAX_PATH_STEPS, append_directory, PROGRAM_CUT);
    let Some(draft) = self::draft() else { return };
    draft.record.program_bytes = used(draft);
    begin_cgroup(draft, task);
    run_steps(MAX_CGROUP_STEPS, append_cgroup, CGROUP_CUT);
    let Some(draft) = self::draft() else { return };
    if used(draft) == draft.record.program_bytes {
        begin_hierarchies(draft, task);
        run_steps(MAX_HIERARCHIES, find_systemd, 0);
        if is_found() {
            run_steps(MAX_CGROUP_STEPS, append_cgroup, CGROUP_CUT);
        }
    }
    let Some(draft) = self::draft() else { return };
    let names = used(draft);
    draft.record.cgroup_bytes = names.wrapping_sub(draft.record.program_bytes);
    append_arguments(draft, task);
    let names_and_arguments = used(draft);
    draft.record.argument_bytes = names_and_arguments.wrapping_sub(names);
    draft.end = names_and_arguments.wrapping_add(DIRECTORY_BYTES);
    begin_directory(draft, task);
    run_steps(MAX_PATH_STEPS, append_directory, DIRECTORY_CUT);
    let Some(draft) = self::draft() else { return };
    draft.record.directory_bytes = used(draft).wrapping_sub(names_and_arguments);
    draft.record.login_uid = probe_if_there(task, &kernel::TASK_LOGIN_UID).unwrap_or(NO_LOGIN);
    draft.record.session = session(task);
    draft.record.ancestors = 0;
    draft.at = probe(task, &kernel::TASK_GROUP_LEADER);
    run_steps(MAX_ANCESTORS, add_ancestor, 0);
}

/// Runs a step so many times, or until it returns [`STEP_IS_LAST`]. If it does not, the record gets the flag `cut`.
#[inline(always)]
fn run_steps(steps: usize, step: extern "C" fn() -> u32, cut: u32) {
    for _ in 0..steps {
        if step() == STEP_IS_LAST {
            return;
        }
    }
    if let Some(draft) = draft() {
        draft.record.flags |= cut;
    }
}

/// Bytes of names so far. From memory: to the verifier any number, the same wherever it comes from, so that it follows each
/// step of a path once.
#[inline(always)]
fn used(draft: &Draft) -> u32 {
    // SAFETY: a field of a live value.
    unsafe { (&raw const draft.used).read_volatile() }
}

/// Copies a name behind the others; a null one is none.
#[inline(always)]
fn append(draft: &mut Draft, name: u64) {
    let at = used(draft) & (NAMES_BYTES as u32 - 1);
    // SAFETY: the names have room for one behind each place.
    let to = unsafe { draft.names.as_mut_ptr().add(at as usize) };
    // SAFETY: the helper checks the source, and writes at most the size given.
    let bytes = unsafe { bpf_probe_read_kernel_str(to.cast(), NAME_BYTES as u32, name as *const c_void) };
    // SAFETY: a field of a live value.
    unsafe { (&raw mut draft.used).write_volatile(at + bytes.max(0) as u32) };
}

#[inline(always)]
fn begin_program(draft: &mut Draft, task: u64) {
    let file: u64 = probe(probe(task, &kernel::TASK_MM), &kernel::MM_EXE_FILE);
    (draft.at, draft.mount) = (probe(file, &kernel::FILE_DENTRY), probe(file, &kernel::FILE_MOUNT));
    if probe::<u64>(draft.at, &kernel::DENTRY_HASHED) == 0 {
        draft.record.flags |= DELETED;
    }
}

/// `d_path`: up the tree, and at the root of a mount on from where it is mounted.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn append_directory() -> u32 {
    let Some(draft) = draft() else { return STEP_IS_LAST };
    let (entry, mount) = (draft.at, draft.mount);
    let of = mount.wrapping_sub(kernel::MOUNT_VFSMOUNT.load());
    let upper: u64 = probe(of, &kernel::MOUNT_PARENT);
    let is_root = entry == probe(mount, &kernel::VFSMOUNT_ROOT);
    if entry == 0 || is_root && upper == of {
        return STEP_IS_LAST;
    }
    if is_root {
        draft.at = probe(of, &kernel::MOUNT_MOUNTPOINT);
        draft.mount = upper.wrapping_add(kernel::MOUNT_VFSMOUNT.load());
        return STEP_HAS_NEXT;
    }
    if used(draft) >= draft.end {
        draft.record.flags |= if draft.end == PROGRAM_END_BYTES { PROGRAM_CUT } else { DIRECTORY_CUT };
        return STEP_IS_LAST;
    }
    append(draft, probe(entry, &kernel::DENTRY_NAME));
    draft.at = probe(entry, &kernel::DENTRY_PARENT);
    // A file that has no place in a tree, as memfd's.
    if draft.at == entry { STEP_IS_LAST } else { STEP_HAS_NEXT }
}

#[inline(always)]
fn begin_cgroup(draft: &mut Draft, task: u64) {
    let cgroup: u64 = probe(probe(task, &kernel::TASK_CGROUPS), &kernel::CSS_SET_CGROUP);
    draft.at = probe(cgroup, &kernel::CGROUP_NODE);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn append_cgroup() -> u32 {
    let Some(draft) = draft() else { return STEP_IS_LAST };
    let node = draft.at;
    // One of the two is absent, and zero.
    draft.at = probe::<u64>(node, &kernel::KERNFS_PARENT) | probe::<u64>(node, &kernel::KERNFS_RCU_PARENT);
    if draft.at == 0 {
        return STEP_IS_LAST;
    }
    if used(draft) >= CGROUP_END_BYTES {
        draft.record.flags |= CGROUP_CUT;
        return STEP_IS_LAST;
    }
    append(draft, probe(node, &kernel::KERNFS_NAME));
    STEP_HAS_NEXT
}

/// The hierarchies of a task's cgroups (`css_set.cgrp_links`).
#[inline(always)]
fn begin_hierarchies(draft: &mut Draft, task: u64) {
    let set: u64 = probe(task, &kernel::TASK_CGROUPS);
    draft.mount = set.wrapping_add(kernel::CSS_SET_LINKS.load());
    draft.at = probe_at(draft.mount);
}

/// Looks at one hierarchy. In systemd's, `draft.at` is the group, and there is no end of the list any more.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_systemd() -> u32 {
    let Some(draft) = draft() else { return STEP_IS_LAST };
    let node = draft.at;
    if node == draft.mount {
        return STEP_IS_LAST;
    }
    let cgroup: u64 = probe(node.wrapping_sub(kernel::LINK_NODE.load()), &kernel::LINK_CGROUP);
    if probe::<u64>(probe(cgroup, &kernel::CGROUP_ROOT), &kernel::ROOT_NAME) == SYSTEMD {
        (draft.at, draft.mount) = (probe(cgroup, &kernel::CGROUP_NODE), 0);
        return STEP_IS_LAST;
    }
    draft.at = probe_at(node);
    if draft.at == 0 { STEP_IS_LAST } else { STEP_HAS_NEXT }
}

/// Whether [`find_systemd`] did.
#[inline(always)]
fn is_found() -> bool {
    draft().is_some_and(|draft| draft.mount == 0)
}

/// The working directory, if it is still the one that the process was made in: with another, relative names among the
/// arguments would name other files. Each change counts up (`set_fs_pwd`), from zero (`copy_fs_struct`).
#[inline(always)]
fn begin_directory(draft: &mut Draft, task: u64) {
    let fs: u64 = probe(task, &kernel::TASK_FS);
    (draft.at, draft.mount) = (0, 0);
    let changes = probe_if_there::<u32>(fs, &kernel::FS_CHANGES);
    let is_first = changes.or_else(|| probe_if_there(fs, &kernel::FS_CHANGES_OF_LOCK)) == Some(0);
    let directory: u64 = probe(fs, &kernel::FS_DIRECTORY);
    // One that was removed has no name (`d_unlinked`).
    let has_name = probe::<u64>(directory, &kernel::DENTRY_HASHED) != 0
        || probe::<u64>(directory, &kernel::DENTRY_PARENT) == directory;
    if is_first && has_name && task == task::current_address() {
        draft.record.flags |= DIRECTORY_KNOWN;
        (draft.at, draft.mount) = (directory, probe(fs, &kernel::FS_MOUNT));
    }
}

/// The leader of a task's session, which may have ended (`pid_task`): then it is a number.
#[inline(always)]
fn session(task: u64) -> Ancestor {
    let signal: u64 = probe(task, &kernel::TASK_SIGNAL);
    let session: u64 = probe_at(signal.wrapping_add(kernel::SIGNAL_PIDS.load() + SESSION_OFFSET));
    let node: u64 = probe(session, &kernel::PID_TASKS);
    let leader = if node == 0 { 0 } else { node.wrapping_sub(kernel::TASK_PID_LINKS.load()) };
    Ancestor {
        start_time_ns: probe(leader, &kernel::TASK_START_BOOTTIME),
        comm: probe(leader, &kernel::TASK_COMM),
        tgid: probe(session, &kernel::PID_NUMBERS),
        uid: probe(probe(leader, &kernel::TASK_CRED), &kernel::CRED_UID),
    }
}

/// Of the running process alone: the memory of others is out of reach.
#[inline(always)]
fn append_arguments(draft: &mut Draft, task: u64) {
    let at = used(draft) & (NAMES_BYTES as u32 - 1);
    let mm: u64 = probe(task, &kernel::TASK_MM);
    let (begin, end): (u64, u64) = (probe(mm, &kernel::MM_ARG_START), probe(mm, &kernel::MM_ARG_END));
    if task != task::current_address() {
        draft.record.flags |= ARGUMENTS_UNREAD;
        return;
    }
    if begin == 0 || end <= begin {
        return;
    }
    if end - begin > ARGUMENT_MASK {
        draft.record.flags |= ARGUMENTS_CUT;
    }
    let bytes = (end - begin).min(ARGUMENT_MASK) & ARGUMENT_MASK;
    // SAFETY: the names have room for one behind each place.
    let to = unsafe { draft.names.as_mut_ptr().add(at as usize) };
    // SAFETY: the helper checks the source, and writes at most the size given.
    if unsafe { bpf_probe_read_user(to.cast(), bytes as u32, begin as *const c_void) } == 0 {
        draft.used = at + bytes as u32;
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_ancestor() -> u32 {
    let Some(draft) = draft() else { return STEP_IS_LAST };
    let process: u64 = probe(probe(draft.at, &kernel::TASK_REAL_PARENT), &kernel::TASK_GROUP_LEADER);
    let tgid: u32 = probe(process, &kernel::TASK_TGID);
    let Some(ancestor) = draft.record.above.get_mut(draft.record.ancestors as usize).filter(|_| tgid != 0) else {
        return STEP_IS_LAST;
    };
    *ancestor = Ancestor {
        start_time_ns: probe(process, &kernel::TASK_START_BOOTTIME),
        comm: probe(process, &kernel::TASK_COMM),
        tgid,
        uid: probe(probe(process, &kernel::TASK_CRED), &kernel::CRED_UID),
    };
    draft.record.ancestors += 1;
    draft.at = process;
    if (draft.record.ancestors as usize) < MAX_ANCESTORS { STEP_HAS_NEXT } else { STEP_IS_LAST }
}

/// Puts what is filled of the draft into a ring.
#[inline(always)]
fn put(ring: u32) -> bool {
    let Some(draft) = draft() else { return false };
    let record = &draft.record;
    let names = (record.program_bytes + record.cgroup_bytes + record.argument_bytes + record.directory_bytes) as usize;
    let bytes = size_of::<ProcessRecord>() + (names & (2 * NAMES_BYTES - 1)).min(NAMES_BYTES);
    // SAFETY: record and names lie in one map value, one behind the other.
    let data = unsafe { core::slice::from_raw_parts((&raw const draft.record).cast::<u8>(), bytes) };
    let ring = if ring == FOR_USAGE { &EXECUTED } else { &PROCESSES };
    ring.output::<[u8]>(data, 0).is_ok()
}
