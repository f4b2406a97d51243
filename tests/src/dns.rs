//! A name server, and processes that ask it as programs do: by messages that are made here.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{Namespace, amount};

/// Types of records.
pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const HTTPS: u16 = 65;

/// The message has more than fits a datagram.
const TRUNCATED: u8 = 2;

/// dnsmasq in a namespace, ended when dropped.
pub struct Resolver(Child);

impl Resolver {
    /// Starts it with these names, as a hosts file has them, and waits until it answers.
    pub fn start(namespace: &Namespace, address: &str, folder: &Path, hosts: &str, args: &[&str]) -> Self {
        let file = folder.join(format!("hosts-{address}"));
        fs::write(&file, format!("192.0.2.1 is.there\n{hosts}")).unwrap();
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
        command.args(["--bind-interfaces", "--cache-size=0"]).args(args);
        command.arg(format!("--listen-address={address}")).arg(format!("--addn-hosts={}", file.display()));
        command.arg(format!("--pid-file={}", folder.join(format!("pid-{address}")).display()));
        let resolver = Self(namespace.inside(command).stdout(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(amount(20, 80));
        let server: SocketAddr = format!("{address}:53").parse().unwrap();
        let answers = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket.connect(server).unwrap();
            socket.send(&query("is.there", A)).is_ok() && socket.recv(&mut [0; 512]).is_ok()
        };
        while !namespace.enter(answers) {
            assert!(Instant::now() < deadline, "dnsmasq does not answer");
            sleep(Duration::from_millis(50));
        }
        resolver
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A question for a name, without extensions.
fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// Asks from the calling process, through a socket without a connection. Returns the response to the datagram.
pub fn ask(server: &str, name: &str, kind: u16) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(amount(10, 40)))).unwrap();
    ask_through(&socket, server, name, kind)
}

/// The same through a socket that is there.
pub fn ask_through(socket: &UdpSocket, server: &str, name: &str, kind: u16) -> Vec<u8> {
    socket.send_to(&query(name, kind), (server, 53)).unwrap();
    let mut response = vec![0; 65_535];
    let (length, _) = socket.recv_from(&mut response).unwrap();
    response.truncate(length);
    assert_eq!(response[3] & 0x0f, 0, "{name}: an error");
    response
}

/// Whether a response has to be asked for again over TCP.
pub fn is_truncated(response: &[u8]) -> bool {
    response[2] & TRUNCATED != 0
}

/// Asks over TCP.
pub fn ask_by_stream(server: &str, name: &str, kind: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect((server, 53)).unwrap();
    let query = query(name, kind);
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut response = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut response).unwrap();
    response
}
