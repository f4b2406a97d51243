//! The tag of a socket: its owner, its place, and what else is known.

use core::{ffi::c_void, mem::offset_of};

use nettop_common::{
    Direction, Netns, OwnerKey, Ref, SocketTag,
    abi::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, SOCK_RAW},
    log::{Hook, What},
    owner,
    tag::{BASELINE_KNOWN, CHILD, COPIES, LISTENING, SHARES, attribution},
};

use crate::{
    atomic::{and_word, or_word},
    kernel::{self, probe},
    log, owners, ports, processes, rows,
    task::{self, Task, User},
};

/// Makes a process the owner of a socket that it uses. A kernel thread owns nothing. `address` is the task's.
#[inline(always)]
pub fn claim_unowned(tag: &mut SocketTag, task: Task, address: u64, attribution: u32, hook: Hook) {
    if owners::get(tag.owner).is_some_and(|owner| task.is(owner)) {
        if tag.attribution < attribution {
            tag.attribution = attribution;
        }
    } else if !task.is_kernel_thread() {
        assign_to(tag, &task.key(), address, attribution, hook);
    }
}

/// Makes the running process the owner.
#[inline(always)]
pub fn assign_owner(tag: &mut SocketTag, user: &User, attribution: u32) -> Ref {
    let owner = assign_to(tag, &user.key, task::current_address(), attribution, user.hook);
    processes::record_new(owner);
    owner
}

#[inline(always)]
fn assign_to(tag: &mut SocketTag, key: &OwnerKey, task: u64, attribution: u32, hook: Hook) -> Ref {
    let before = tag.owner;
    let owner = owners::find_or_make(key, task, tag.address, hook);
    tag.owner = owner;
    tag.attribution = attribution;
    if owner != before && (before != Ref::NONE || attribution != attribution::CREATOR) {
        log_given(tag, before, hook as u32);
    }
    owner
}

/// Logs that a socket has another owner than before.
#[inline(always)]
fn log_given(tag: &SocketTag, before: Ref, hook: u32) {
    let given = u64::from(tag.attribution) << 32 | u64::from(tag.owner.slot());
    log::write(What::SocketGiven, hook, tag.address, before.slot().into(), given);
}

/// The owner of a socket. Read once: another process may use the socket meanwhile.
#[inline(always)]
pub fn owner(tag: &SocketTag) -> Ref {
    // SAFETY: a field of a live value.
    unsafe { (&raw const tag.owner).read_volatile() }
}

/// Sets bits of a tag's flags.
#[inline(always)]
pub fn set_flags(tag: &mut SocketTag, bits: u8) {
    or_word(flags(tag), u32::from(bits));
}

#[inline(always)]
pub fn clear_flags(tag: &mut SocketTag, bits: u8) {
    and_word(flags(tag), !u32::from(bits));
}

/// The word with the flags in its lowest byte: other CPUs may change other flags at the same time.
#[inline(always)]
fn flags(tag: &mut SocketTag) -> *mut u32 {
    const { assert!(offset_of!(SocketTag, flags) % 4 == 0 && cfg!(target_endian = "little")) };
    (&raw mut tag.flags).cast()
}

/// The current task sends or receives through a socket. Returns the owner to bill: none if the kernel moves data
/// through a program's socket (sockmap, nbd).
#[inline(always)]
pub fn record_use(tag: &mut SocketTag, user: &User) -> Option<Ref> {
    let known = owner(tag);
    let owner = owners::get(known);
    if owner.as_ref().is_some_and(|owner| user.is(owner)) {
        tag.attribution = attribution::USER;
        if let Some(owner) = owner {
            processes::record_user(owner);
        }
        return Some(known);
    }
    if user.task.is_kernel_thread() {
        // A program may make a socket, pass it to the kernel and end, as rpc.nfsd does.
        if owner.as_ref().is_some_and(|owner| owner.state == owner::LIVE && owner.is_kernel_thread == 0) {
            return None;
        }
        if user.task.is_worker() {
            // Its process may have been retired, and the slot reused.
            return Some(if owner.is_some() { known } else { Ref::NONE });
        }
    }
    Some(assign_owner(tag, user, attribution::USER))
}

/// Fills in what a tag may lack at its first packet: namespace, and whether it is a listener's child.
#[inline(always)]
pub fn complete(tag: &mut SocketTag, sk: *const c_void, listens: bool, hook: Hook) {
    address(tag, sk);
    complete_tag(tag, u32::from(listens), hook as u32);
}

/// Global, so that the verifier checks it once, and not on each path that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn complete_tag(tag: *mut SocketTag, listens: u32, hook: u32) -> u32 {
    // SAFETY: the verifier admits null, or a whole tag.
    let Some(tag) = (unsafe { tag.as_mut() }) else { return 0 };
    if listens != 0 {
        set_flags(tag, LISTENING);
    } else if tag.flags & LISTENING != 0 {
        set_flags(tag, CHILD);
        clear_flags(tag, LISTENING);
        tag.attribution = attribution::LISTENER;
    }
    let address = tag.address;
    set_flags(tag, traits(address));
    if tag.netns.inode == 0 {
        tag.netns = netns_of(address);
    }
    if listens != 0
        && let Some(holder) = ports::current_holder(tag)
    {
        let before = tag.owner;
        tag.owner = holder;
        tag.attribution = attribution::USER;
        log_given(tag, before, hook);
    }
    if owners::get(tag.owner).is_none() {
        if tag.owner != Ref::NONE {
            log::write(What::OwnerRetired, hook, address, tag.owner.slot().into(), 0);
        }
        tag.owner = Ref::NONE;
        tag.attribution = attribution::NONE;
    }
    if tag.owner == Ref::NONE
        && let Some(owner) = ports::owner_of_association(tag)
    {
        tag.owner = owner;
        tag.attribution = attribution::LISTENER;
        log_given(tag, Ref::NONE, hook);
    }
    0
}

/// The device of a socket's last packet, 0 if none is known.
#[inline(always)]
pub fn device(tag: &SocketTag) -> u32 {
    let of_family = tag.rows[tag.family as usize & 1];
    rows::at(of_family[Direction::Tx as usize])
        .or_else(|| rows::at(of_family[Direction::Rx as usize]))
        .map_or(0, |row| row.key.ifindex)
}

/// Whether others receive the same packets as this socket: `raw_v4_input`, `raw6_local_deliver` and `ping_rcv` clone.
/// And whether a TCP socket that no hook saw when it was made, as the kernel's, is still new.
#[inline(always)]
fn traits(sk: u64) -> u8 {
    let is_raw = probe::<u16>(sk, &kernel::SOCK_TYPE) == SOCK_RAW;
    match probe::<u16>(sk, &kernel::SOCK_PROTOCOL) {
        IPPROTO_TCP | IPPROTO_UDP if is_raw => COPIES,
        IPPROTO_TCP if probe::<u64>(sk, &kernel::TCP_BYTES_RECEIVED) == 0 => BASELINE_KNOWN,
        IPPROTO_ICMP | IPPROTO_ICMPV6 => SHARES,
        _ if is_raw => SHARES,
        _ => 0,
    }
}

/// The address of a socket as a number.
#[inline(always)]
pub fn address(tag: &mut SocketTag, sk: *const c_void) -> u64 {
    // SAFETY: a field of our own. Volatile, or the compiler would hand on the pointer itself, which the verifier lets
    // nobody add to.
    unsafe {
        (&raw mut tag.address).write_volatile(sk as u64);
        (&raw const tag.address).read_volatile()
    }
}

/// The network namespace of a socket.
#[inline(always)]
pub fn netns_of(sk: u64) -> Netns {
    kernel::netns(probe(sk, &kernel::SOCK_NET))
}

/// The `struct net` of a completed socket.
#[inline(always)]
pub fn net_of(tag: &SocketTag) -> u64 {
    probe(tag.address, &kernel::SOCK_NET)
}
