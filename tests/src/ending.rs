//! How two processes end a connection so that nothing comes to TIME_WAIT: before 6.11, no hook sees a packet that does.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::eventfd::EventFd,
};

use crate::{amount, sockets::wait_until_acknowledged};

/// The first FIN of a connection. Made before both processes start.
///
/// The other end waits for its acknowledgement: a FIN from another processor can overtake it, and it would come to TIME_WAIT.
pub struct FirstFin(EventFd);

impl FirstFin {
    #[allow(clippy::new_without_default, reason = "it opens a descriptor")]
    pub fn new() -> Self {
        Self(EventFd::new().unwrap())
    }

    /// Sends it when all data are acknowledged, and wakes the other end when the FIN is, too. If data were sent again after
    /// it, the answer would come from TIME_WAIT.
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
        let mut event = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit_ms = u16::try_from(amount(20_000, 60_000)).unwrap();
        assert_eq!(poll(&mut event, limit_ms).unwrap(), 1, "the other end sends no FIN");
        wait_until_acknowledged(&open);
        drop(open);
        result
    }
}
