//! Which RPC programs the local portmapper has at which ports (RFC 1833, version 2), as `lsof +M` shows.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nettop_common::SocketRecord;

use crate::{
    measure::sockets::list::{LISTEN, Socket},
    sys::escape::escape,
};

const PORT: u16 = 111;
const PROGRAM: u32 = 100_000;
const VERSION: u32 = 2;
const DUMP: u32 = 4;
const PORTMAP_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Whether a socket may be its.
pub const fn is_portmapper(record: &SocketRecord) -> bool {
    record.state == LISTEN && record.local_port == PORT
}

/// Names by IP protocol and port. Empty where no portmapper listens or answers.
pub fn programs(sockets: &[Socket]) -> HashMap<(u16, u16), String> {
    if !sockets.iter().any(|socket| is_portmapper(&socket.record)) {
        return HashMap::new();
    }
    let answer = ask((Ipv4Addr::LOCALHOST, PORT).into()).unwrap_or_else(|error| {
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
fn ask(portmapper: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&portmapper, PORTMAP_TIMEOUT)?;
    let deadline = Instant::now() + PORTMAP_TIMEOUT;
    stream.set_write_timeout(Some(PORTMAP_TIMEOUT))?;
    let call = [1_u32, 0, 2, PROGRAM, VERSION, DUMP, 0, 0, 0, 0];
    let last_of = |len: usize| 0x8000_0000 | u32::try_from(len).unwrap_or(0);
    let words = std::iter::once(last_of(call.len() * 4)).chain(call);
    stream.write_all(&words.flat_map(u32::to_be_bytes).collect::<Vec<_>>())?;
    let mut answer = Vec::new();
    loop {
        let mut mark = [0; 4];
        read(&mut stream, &mut mark, deadline)?;
        let mark = u32::from_be_bytes(mark);
        let len = (mark & 0x7fff_ffff) as usize;
        if answer.len() + len > MAX_ANSWER_BYTES {
            return Err(io::Error::other("its answer is too long"));
        }
        let begin = answer.len();
        answer.resize(begin + len, 0);
        read(&mut stream, &mut answer[begin..], deadline)?;
        if mark >> 31 == 1 {
            return Ok(answer);
        }
    }
}

/// Fills the buffer, or fails at the deadline, even if bytes come one by one.
fn read(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => buffer = &mut buffer[n..],
        }
    }
    Ok(())
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
    use std::{net::TcpListener, thread};

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

    #[test]
    fn one_that_answers_byte_by_byte_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let portmapper = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                // A fragment of 4096 bytes, far more than come in time. Writing fails once nobody reads.
                let answer = [0, 0, 16, 0].into_iter().chain(std::iter::repeat_n(0, 4096));
                for byte in answer {
                    if client.write_all(&[byte]).is_err() {
                        break;
                    }
                    thread::sleep(PORTMAP_TIMEOUT / 20);
                }
            });
            let error = ask(portmapper).unwrap_err().kind();
            assert!(matches!(error, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error:?}");
        });
    }
}
