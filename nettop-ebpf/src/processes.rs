//! Who a process is: program, cgroup, arguments and ancestors, read while it lives and sent to the daemon once.
//!
//! A process that ends before the next report is in no /proc then.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use nettop_common::{
    Owner, OwnerKey, ProcessRecord, Ref,
    owner::{RECORDED, UNSENT, WITHOUT_ARGUMENTS},
    process::{ANCESTORS, Ancestor, CUT, DELETED, NAME_BYTES, NAMES_BYTES},
};

use crate::{
    atomic::{add, next},
    kernel::{self, probe},
    maps::{Draft, PROCESS_DRAFT, PROCESSES, count},
    owners, task,
};

/// Components of a program's path, and mounts on its way.
const MAX_STEPS: usize = 32;
/// Components of a cgroup's path.
const MAX_CGROUPS: usize = 16;
/// Bytes of arguments.
const ARGUMENT_MASK: u64 = 255;
/// The components of both paths end before these.
const PROGRAM_END: u32 = 1024;
const CGROUP_END: u32 = (NAMES_BYTES - NAME_BYTES) as u32;

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
    owner.recorded = send_process_record(&key, task);
}

/// Returns what is recorded now. Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_process_record(key: *const OwnerKey, task: u64) -> u32 {
    if key.is_null() {
        return UNSENT;
    }
    let Some(draft) = PROCESS_DRAFT.get_ptr_mut(0) else { return UNSENT };
    // SAFETY: the element exists for the life of the map; who works on it is counted.
    let draft = unsafe { &mut *draft };
    // Another task may run here while this one is preempted.
    let is_used = next(&raw mut draft.users) != 0;
    if !is_used {
        // SAFETY: the verifier admits null, or a whole key.
        draft.record.key = unsafe { key.read_volatile() };
        fill(draft, task);
    }
    let is_sent = !is_used && send(draft);
    if !is_sent {
        count(|stats| &raw mut stats.processes_lost);
    }
    add(&raw mut draft.users, u64::MAX);
    match is_sent {
        false => UNSENT,
        true if task == task::current_address() => RECORDED,
        true => WITHOUT_ARGUMENTS,
    }
}

#[inline(always)]
fn fill(draft: &mut Draft, task: u64) {
    draft.record.flags = 0;
    draft.record.padding = 0;
    draft.used = 0;
    append_program(draft, task);
    let program = used(draft);
    append_cgroup(draft, task);
    let cgroup = used(draft);
    append_arguments(draft, task);
    draft.record.program_bytes = program;
    draft.record.cgroup_bytes = cgroup.wrapping_sub(program);
    draft.record.argument_bytes = used(draft).wrapping_sub(cgroup);
    draft.record.ancestors = add_ancestors(draft, task);
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

/// `d_path`: up the tree, and at the root of a mount on from where it is mounted.
#[inline(always)]
fn append_program(draft: &mut Draft, task: u64) {
    let file: u64 = probe(probe(task, &kernel::TASK_MM), &kernel::MM_EXE_FILE);
    let (mut entry, mut mount): (u64, u64) = (probe(file, &kernel::FILE_DENTRY), probe(file, &kernel::FILE_MOUNT));
    if probe::<u64>(entry, &kernel::DENTRY_HASHED) == 0 {
        draft.record.flags |= DELETED;
    }
    for _ in 0..MAX_STEPS {
        let of = mount.wrapping_sub(kernel::MOUNT_VFSMOUNT.load());
        let upper: u64 = probe(of, &kernel::MOUNT_PARENT);
        let is_root = entry == probe(mount, &kernel::VFSMOUNT_ROOT);
        if entry == 0 || is_root && upper == of {
            return;
        }
        if is_root {
            entry = probe(of, &kernel::MOUNT_MOUNTPOINT);
            mount = upper.wrapping_add(kernel::MOUNT_VFSMOUNT.load());
        } else {
            append(draft, probe(entry, &kernel::DENTRY_NAME));
            let parent: u64 = probe(entry, &kernel::DENTRY_PARENT);
            // A file that has no place in a tree, as memfd's.
            if parent == entry {
                return;
            }
            entry = parent;
            if used(draft) >= PROGRAM_END {
                break;
            }
        }
    }
    draft.record.flags |= CUT;
}

#[inline(always)]
fn append_cgroup(draft: &mut Draft, task: u64) {
    let cgroup: u64 = probe(probe(task, &kernel::TASK_CGROUPS), &kernel::CSS_SET_CGROUP);
    let mut node: u64 = probe(cgroup, &kernel::CGROUP_NODE);
    for _ in 0..MAX_CGROUPS {
        // One of the two is absent, and zero.
        let parent = probe::<u64>(node, &kernel::KERNFS_PARENT) | probe::<u64>(node, &kernel::KERNFS_RCU_PARENT);
        if parent == 0 {
            return;
        }
        append(draft, probe(node, &kernel::KERNFS_NAME));
        if used(draft) >= CGROUP_END {
            break;
        }
        node = parent;
    }
    draft.record.flags |= CUT;
}

/// Of the running process alone: the memory of others is out of reach.
#[inline(always)]
fn append_arguments(draft: &mut Draft, task: u64) {
    let at = used(draft) & (NAMES_BYTES as u32 - 1);
    let mm: u64 = probe(task, &kernel::TASK_MM);
    let (begin, end): (u64, u64) = (probe(mm, &kernel::MM_ARG_START), probe(mm, &kernel::MM_ARG_END));
    if task != task::current_address() || begin == 0 || end <= begin {
        return;
    }
    let bytes = (end - begin).min(ARGUMENT_MASK) & ARGUMENT_MASK;
    // SAFETY: the names have room for one behind each place.
    let to = unsafe { draft.names.as_mut_ptr().add(at as usize) };
    // SAFETY: the helper checks the source, and writes at most the size given.
    if unsafe { bpf_probe_read_user(to.cast(), bytes as u32, begin as *const c_void) } == 0 {
        draft.used = at + bytes as u32;
    }
}

#[inline(always)]
fn add_ancestors(draft: &mut Draft, task: u64) -> u32 {
    let mut process: u64 = probe(task, &kernel::TASK_GROUP_LEADER);
    for number in 0..ANCESTORS {
        process = probe(probe(process, &kernel::TASK_REAL_PARENT), &kernel::TASK_GROUP_LEADER);
        let tgid: u32 = probe(process, &kernel::TASK_TGID);
        if tgid == 0 {
            return number as u32;
        }
        draft.record.above[number] = Ancestor {
            start_time_ns: probe(process, &kernel::TASK_START_BOOTTIME),
            comm: probe(process, &kernel::TASK_COMM),
            tgid,
            uid: probe(probe(process, &kernel::TASK_CRED), &kernel::CRED_UID),
        };
    }
    ANCESTORS as u32
}

/// Sends what is filled of the draft.
#[inline(always)]
fn send(draft: &Draft) -> bool {
    let record = &draft.record;
    let names = (record.program_bytes + record.cgroup_bytes + record.argument_bytes) as usize;
    let bytes = size_of::<ProcessRecord>() + (names & (2 * NAMES_BYTES - 1)).min(NAMES_BYTES);
    // SAFETY: record and names lie in one map value, one behind the other.
    let data = unsafe { core::slice::from_raw_parts((&raw const draft.record).cast::<u8>(), bytes) };
    PROCESSES.output::<[u8]>(data, 0).is_ok()
}
