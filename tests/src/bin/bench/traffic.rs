//! The loads that are timed: one thread, small messages, loopback.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Instant,
};

use nix::sys::socket::{setsockopt, sockopt};

/// What one operation is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Send and receive a datagram of 64 bytes.
    Udp,
    /// Write and read 128 bytes, without delay.
    Tcp,
    /// Send a datagram of 64 bytes to a socket whose buffer is full.
    Drop,
}

impl Load {
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Drop];
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP send + receive, 64 bytes",
            Self::Tcp => "TCP_NODELAY write + read, 128 bytes",
            Self::Drop => "UDP send, 64 bytes, and drop",
        })
    }
}

impl Load {
    /// Time of one operation: the lower quartile of many short windows, most of which nothing disturbed.
    /// The first half is not taken: the CPU may have slept.
    pub fn ns_per_operation(self, windows: usize) -> anyhow::Result<f64> {
        const WINDOW: u32 = 500;
        let mut operation = self.operation()?;
        let mut ns = Vec::with_capacity(windows);
        for window in 0..windows * 2 {
            let start = Instant::now();
            for _ in 0..WINDOW {
                operation()?;
            }
            if window >= windows {
                ns.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(WINDOW));
            }
        }
        ns.sort_by(f64::total_cmp);
        Ok(ns[windows / 4])
    }

    fn operation(self) -> anyhow::Result<Box<dyn FnMut() -> anyhow::Result<()>>> {
        match self {
            Self::Udp => {
                let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
                from.connect(to.local_addr()?)?;
                let mut buffer = [0; 64];
                Ok(Box::new(move || {
                    from.send(&buffer)?;
                    to.recv(&mut buffer)?;
                    Ok(())
                }))
            }
            Self::Drop => {
                let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
                from.connect(to.local_addr()?)?;
                setsockopt(&to, sockopt::RcvBuf, &0)?;
                Ok(Box::new(move || {
                    let _is_full = &to;
                    from.send(&[0; 64])?;
                    Ok(())
                }))
            }
            Self::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                let mut from = TcpStream::connect(listener.local_addr()?)?;
                let (mut to, _) = listener.accept()?;
                from.set_nodelay(true)?;
                let mut buffer = [0; 128];
                Ok(Box::new(move || {
                    from.write_all(&buffer)?;
                    to.read_exact(&mut buffer)?;
                    Ok(())
                }))
            }
        }
    }
}
