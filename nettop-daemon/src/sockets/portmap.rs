//! Which RPC programs the local portmapper has at which ports (RFC 1833, version 2), as `lsof +M` tells.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::list::{LISTEN, Socket};
use crate::identity::escape::escape;

const PORT: u16 = 111;
const PROGRAM: u32 = 100_000;
const VERSION: u32 = 2;
const DUMP: u32 = 4;
const WAIT: Duration = Duration::from_millis(500);
/// The longest answer that is read.
const MOST: usize = 1 << 20;

/// Names by IP protocol and port. Empty where no portmapper listens or answers.
pub fn programs(sockets: &[Socket]) -> HashMap<(u16, u16), String> {
    let listens = |socket: &Socket| socket.record.state == LISTEN && socket.record.local_port == PORT;
    if !sockets.iter().any(listens) {
        return HashMap::new();
    }
    let answer = ask().unwrap_or_else(|error| {
        tracing::debug!("the portmapper did not answer: {error}");
        Vec::new()
    });
    let names = fs::read_to_string("/etc/rpc").unwrap_or_default();
    let name = |number: u32| {
        let mut lines = names.lines().map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        let found = lines.find_map(|mut words| {
            let name = words.next()?;
            (words.next()?.parse() == Ok(number)).then(|| escape(name.as_bytes()))
        });
        found.unwrap_or_else(|| number.to_string())
    };
    parse(&answer).into_iter().map(|(program, protocol, port)| ((protocol, port), name(program))).collect()
}

/// Calls over TCP and returns the answer without its record marks.
fn ask() -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let call = [1_u32, 0, 2, PROGRAM, VERSION, DUMP, 0, 0, 0, 0];
    let last_of = |len: usize| 0x8000_0000 | u32::try_from(len).unwrap_or(0);
    let words = std::iter::once(last_of(call.len() * 4)).chain(call);
    stream.write_all(&words.flat_map(u32::to_be_bytes).collect::<Vec<_>>())?;
    let mut answer = Vec::new();
    loop {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let len = (mark & 0x7fff_ffff) as usize;
        if answer.len() + len > MOST {
            return Err(io::Error::other("its answer is too long"));
        }
        let begin = answer.len();
        answer.resize(begin + len, 0);
        stream.read_exact(&mut answer[begin..])?;
        if mark >> 31 == 1 {
            return Ok(answer);
        }
    }
}

/// Program, IP protocol and port of each entry of an accepted answer.
fn parse(answer: &[u8]) -> Vec<(u32, u16, u16)> {
    let mut words = answer.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    // Call, reply, accepted, verifier of no length, success.
    let head: Vec<u32> = words.by_ref().take(6).collect();
    if head.len() < 6 || head[1..4] != [1, 0, 0] || head[4..6] != [0, 0] {
        return Vec::new();
    }
    let mut entries = Vec::new();
    while words.next() == Some(1) {
        let entry: Vec<u32> = words.by_ref().take(4).collect();
        let [program, _version, protocol, port] = entry[..] else { break };
        if let (Ok(protocol), Ok(port)) = (u16::try_from(protocol), u16::try_from(port)) {
            entries.push((program, protocol, port));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_and_a_broken_one_does_no_harm() {
        let words = [1_u32, 1, 0, 0, 0, 0, 1, 100_003, 4, 6, 2049, 1, 100_000, 2, 17, 111, 0];
        let answer: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        assert_eq!(parse(&answer), [(100_003, 6, 2049), (100_000, 17, 111)]);
        for cut in 0..answer.len() {
            let _ = parse(&answer[..cut]);
        }
        assert!(parse(&[0xff; 64]).is_empty());
    }
}
