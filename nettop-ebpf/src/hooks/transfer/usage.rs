//! Who uses a socket.

use core::ffi::c_void;

use nettop_common::{Ref, SocketTag, log::Hook};

use crate::{storage::SOCKETS, tags, task::User};

/// The current task uses the socket: its process owns it from now on.
#[inline(always)]
pub fn used(sk: *const c_void, user: &User, then: impl FnOnce(&mut SocketTag, Ref)) {
    let Some(tag) = tag(sk, user.hook) else { return };
    if let Some(owner) = tags::record_use(tag, user) {
        then(tag, owner);
    }
}

#[inline(always)]
pub fn tag(sk: *const c_void, hook: Hook) -> Option<&'static mut SocketTag> {
    let tag = SOCKETS.tag(sk.cast_mut(), hook)?;
    if tag.netns.inode == 0 {
        tag.netns = tags::netns_of(sk as u64);
    }
    Some(tag)
}
