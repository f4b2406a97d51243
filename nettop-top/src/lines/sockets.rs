//! Lines of sockets, with those that hold them.

use nettop_model::sockets::{HolderReport, SocketReport};

use super::line::{Input, Line, Lines, Value, process_key, text};
use crate::{
    filter::{Field, Numbers, Subject},
    views::{Kind, What},
};

pub(super) fn lines(input: &Input<'_>) -> Lines {
    let sockets = input.sockets.map_or(&[][..], |document| &document.sockets);
    let sockets: Vec<_> = sockets.iter().enumerate().filter(|(_, socket)| is_in_scope(input, socket)).collect();
    let of = sockets.len();
    let wanted = sockets.into_iter().filter(|(_, socket)| input.filter.admits(&OfSocket(socket), &Numbers::default()));
    Lines { lines: wanted.map(|(at, socket)| line(input, at, socket)).collect(), of }
}

fn line(input: &Input<'_>, at: usize, socket: &SocketReport) -> Line {
    let tcp = socket.tcp.as_ref();
    let number = |number: Option<u32>| number.map_or(Value::None, |number| Value::Number(number.into()));
    let end = |name: &str, address: Option<&String>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) if !input.has_names => text(Some(&format!("{}:{port}", bracketed(address)))),
        (Some(address), None) if !input.has_names => text(Some(address)),
        _ => text(Some(name)),
    };
    let value = |what: What| match what {
        What::Protocol => text(Some(&socket.protocol)),
        What::Name => end(&socket.local, socket.local_address.as_ref(), socket.local_port),
        What::Remote => end(&socket.remote, socket.remote_address.as_ref(), socket.remote_port),
        What::State => text(Some(&socket.state)),
        What::Owner => text(owner(socket).as_deref()),
        What::RoundTrip => number(tcp.and_then(|tcp| tcp.rtt_us)),
        What::Retransmits => number(tcp.and_then(|tcp| tcp.retransmits)),
        What::ReceiveQueue => number(socket.receive_queue),
        What::SendQueue => number(socket.send_queue),
        _ => Value::None,
    };
    let (netns, inode) = (socket.netns, socket.inode.unwrap_or(0));
    Line {
        key: format!("{netns}|{inode}|{}|{}|{}", socket.protocol, socket.local, socket.remote),
        values: input.view.columns.iter().map(|column| value(column.what)).collect(),
        has_ended: false,
        is_bad: false,
        depth: 0,
        rows: Vec::new(),
        item: Some(at),
        weight: socket.receive_queue.unwrap_or(0).into(),
    }
}

/// An address in front of a port.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn owner(socket: &SocketReport) -> Option<String> {
    let first = socket.holders.first()?;
    let mut pids: Vec<u32> = socket.holders.iter().map(|holder| holder.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let more = if pids.len() > 1 { format!(" +{}", pids.len() - 1) } else { String::new() };
    Some(format!("{} {}{more}", first.comm, first.pid))
}

fn is_in_scope(input: &Input<'_>, socket: &SocketReport) -> bool {
    input.scope.iter().all(|crumb| match crumb.kind {
        Kind::Process | Kind::Hogs => {
            socket.holders.iter().any(|holder| process_key(holder.pid, Some(holder.start_time_ns)) == crumb.key)
        }
        Kind::Program => {
            socket.holders.iter().any(|holder| holder.process.exe.as_ref().unwrap_or(&holder.comm) == &crumb.key)
        }
        Kind::Unit => socket.holders.iter().any(|holder| unit(holder) == crumb.key),
        // A socket is of no device unless it is bound to one.
        Kind::Device | Kind::Drops | Kind::Sockets => true,
    })
}

/// As processes have it.
fn unit(holder: &HolderReport) -> &str {
    let names = &holder.process.names;
    let container = names.pod.as_ref().or(names.container_name.as_ref()).or(holder.process.container.as_ref());
    container.or(holder.process.unit.as_ref()).map_or("-", String::as_str)
}

struct OfSocket<'a>(&'a SocketReport);

impl Subject for OfSocket<'_> {
    fn any(&self, field: Field, is_wanted: &mut dyn FnMut(&str) -> bool) -> bool {
        let socket = self.0;
        let texts: Vec<Option<String>> = match field {
            Field::User => vec![Some(socket.uid.to_string()), socket.user.clone()],
            Field::Dev => vec![socket.device.clone()],
            Field::Peer => vec![Some(socket.remote.clone()), socket.remote_address.clone()],
            Field::Port => [socket.local_port, socket.remote_port].map(|port| port.map(|port| port.to_string())).into(),
            Field::State => vec![Some(socket.state.to_string())],
            Field::Reason => Vec::new(),
            _ => socket.holders.iter().flat_map(|holder| of_holder(holder, field)).collect(),
        };
        texts.into_iter().flatten().any(|text| is_wanted(&text))
    }
}

fn of_holder(holder: &HolderReport, field: Field) -> Vec<Option<String>> {
    let names = &holder.process.names;
    match field {
        Field::Program => vec![Some(holder.comm.clone()), holder.process.exe.clone(), holder.process.script.clone()],
        Field::Unit => vec![holder.process.unit.clone(), names.pod.clone(), names.container_name.clone()],
        Field::Container => vec![holder.process.container.clone(), names.container_name.clone(), names.pod.clone()],
        Field::Pid => vec![Some(holder.pid.to_string())],
        _ => Vec::new(),
    }
}
