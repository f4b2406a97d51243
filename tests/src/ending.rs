//! How two processes end a connection so that nothing comes to TIME_WAIT: before 6.11, no hook sees a packet that does.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
};

use nix::sys::eventfd::EventFd;

use crate::sockets::wait_until_acknowledged;

/// The first FIN of a connection. Made before both processes start.
///
/// The other end waits for its acknowledgement: a FIN from another processor can overtake it, and it would come to TIME_WAIT.
pub struct FirstFin(EventFd);

impl FirstFin {
    #[allow(clippy::new_without_default, reason = "it opens a descriptor")]
    pub fn new() -> Self {
        Self(EventFd::new().unwrap())
    }

    /// Sends it once all data are acknowledged, and lets the other end go on once it is itself. Of data that are sent again
    /// after it, the answer would come from TIME_WAIT.
    pub fn send(&self, stream: &TcpStream) {
        wait_until_acknowledged(stream);
        stream.shutdown(Shutdown::Write).unwrap();
        wait_until_acknowledged(stream);
        self.0.write(1).unwrap();
    }

    /// The work of the other end, which closes only after this and its own data are acknowledged.
    pub fn answer<S: AsFd, T>(&self, stream: S, work: impl FnOnce(S) -> T) -> T {
        let open = stream.as_fd().try_clone_to_owned().unwrap();
        let result = work(stream);
        self.0.read().unwrap();
        wait_until_acknowledged(&open);
        drop(open);
        result
    }
}
