//! Whose limit an entry of a table counts against. For slow paths.

use aya_ebpf::Global;
use nettop_common::{Netns, Share, Stats, abi::EEXIST, share};

use crate::{
    atomic::{add, add_word},
    kernel::{self, probe},
    maps::{SHARES, stats},
    task,
};

/// Cookie of the network namespace where nettopd runs.
#[unsafe(no_mangle)]
pub static OWN_NETNS_COOKIE: Global<u32> = Global::new(0);

/// For a process of this user: the user who answers for it, or its network namespace if that is root.
#[inline(always)]
pub fn of_process(uid: u32, task: u64) -> u32 {
    match share::of_user(answerable(uid, task::user_ns(task))) {
        share::UNLIMITED => {
            let net = task::net(task);
            if net == 0 { share::UNLIMITED } else { of_namespace(kernel::netns(net), net) }
        }
        user => user,
    }
}

/// For a network namespace, a `struct net`: the user who made it, or itself if that is root.
#[inline(always)]
pub fn of_namespace(netns: Netns, net: u64) -> u32 {
    if netns.cookie == OWN_NETNS_COOKIE.load() {
        return share::UNLIMITED;
    }
    match share::of_user(answerable(0, probe(net, &kernel::NET_USER_NS))) {
        share::UNLIMITED => share::of_namespace(netns.cookie),
        user => user,
    }
}

#[inline(always)]
pub fn get(index: u32) -> Option<&'static mut Share> {
    // SAFETY: elements of an array map live as long as the map; counters are only ever added to.
    SHARES.get_ptr_mut(index).map(|share| unsafe { &mut *share })
}

/// Adds an entry to a table of `limit` entries by `insert`, and counts it there and in its share. False if there is no
/// room; true also if another CPU was first.
#[inline(always)]
pub fn insert(
    insert: impl FnOnce() -> Result<(), i32>,
    share: u32,
    limit: u32,
    in_use: impl Fn(&mut Stats) -> &mut u64,
    of_share: impl Fn(&mut Share) -> &mut u32,
) -> bool {
    let (Some(stats), Some(counts)) = (stats(), get(share)) else { return true };
    let (in_use, of_share) = (in_use(stats), of_share(counts));
    if !share::has_room(share, *of_share, *in_use, limit.into()) {
        return false;
    }
    match insert() {
        Ok(()) => {
            add(in_use, 1);
            add_word(of_share, 1);
            true
        }
        Err(error) => error == -EEXIST,
    }
}

/// The user of the initial user namespace who made the outermost user namespace around this one: a user with
/// subordinate ids may appear as any of them. `uid` if this is the initial one, or if root made it, as for a service or
/// a container: then each uid counts by itself. Namespaces nested deeper than two share one limit: a loop up to the
/// outermost, 32 at most (`create_user_ns`), is too much for the verifier.
#[inline(always)]
fn answerable(uid: u32, user_ns: u64) -> u32 {
    /// No user has it.
    const NESTED_DEEPLY: u32 = u32::MAX;
    let owner = |user_ns| probe(user_ns, &kernel::USER_NS_OWNER);
    let maker = match probe::<u32>(user_ns, &kernel::USER_NS_LEVEL) {
        0 => 0,
        1 => owner(user_ns),
        2 => owner(probe(user_ns, &kernel::USER_NS_PARENT)),
        _ => NESTED_DEEPLY,
    };
    if maker == 0 { uid } else { maker }
}
