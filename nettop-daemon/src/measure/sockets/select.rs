//! Which sockets a question selects.

use nettop_common::SocketRecord;

use super::list::{LISTEN, Socket, is_tcp};
use crate::query::sockets::SocketsQuery;

impl SocketsQuery {
    /// Whether a socket is asked for. `uids` are those of the users.
    pub fn selects(&self, socket: &Socket, uids: &[u32]) -> bool {
        let Socket { record, holders } = socket;
        let is_named = |name: &String| holders.iter().any(|holder| holder.comm.starts_with(name.as_bytes()));
        self.selects_socket(record, uids)
            && (self.pid.is_empty() || holders.iter().any(|holder| self.pid.contains(&holder.tgid)))
            && (self.command.is_empty() || self.command.iter().any(is_named))
    }

    /// The same, by the socket's own fields.
    pub fn selects_socket(&self, record: &SocketRecord, uids: &[u32]) -> bool {
        let listens = record.state == LISTEN || record.remote_port == 0 && !is_tcp(record);
        (!self.listening || listens)
            && (self.internet.is_empty() || self.internet.iter().any(|selector| selector.selects(record)))
            && (uids.is_empty() || uids.contains(&record.uid))
    }

    /// The same, by one of its holders: if it selects none of them, the socket is not asked for.
    pub fn selects_holder(&self, pid: u32, comm: &[u8; 16]) -> bool {
        self.pid.contains(&pid) || self.command.iter().any(|name| comm.starts_with(name.as_bytes()))
    }
}
