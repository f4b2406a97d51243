//! Names of addresses: from the hosts file, which costs nothing, and from the resolver only if that is asked for, many at a
//! time and for a limited time.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use crate::sys::{escape::escape, lock::lock};

/// All questions together.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions at a time: most of them wait.
const MAX_THREADS: usize = 32;

/// Escaped names by address.
#[derive(Default, Debug)]
pub struct Hosts {
    names: HashMap<IpAddr, String>,
    /// Addresses for which the resolver had no answer in time.
    pub unanswered: u64,
}

impl Hosts {
    /// The names of a hosts file. The first of an address counts, as for the resolver.
    pub fn from_file(text: &[u8]) -> Self {
        let mut names = HashMap::new();
        for (address, mut words) in entries(text) {
            if let Some(name) = words.next().and_then(name) {
                names.entry(address).or_insert(name);
            }
        }
        Self { names, unanswered: 0 }
    }

    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }

    /// Asks for the name of each address that has none yet, and waits for the answers that come in time.
    pub fn resolve(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
        wait: Duration,
        lookup: fn(IpAddr) -> Option<String>,
    ) {
        let asked: HashSet<IpAddr> =
            addresses.into_iter().filter(|address| !self.names.contains_key(address)).collect();
        let mut missing = asked.len();
        let threads = missing.min(MAX_THREADS);
        let questions = Arc::new(Mutex::new(asked.into_iter()));
        let (send, answers) = channel();
        for _ in 0..threads {
            let (questions, send) = (Arc::clone(&questions), send.clone());
            // Never waited for: one that hangs in the resolver ends with the process.
            let asker = move || {
                while let Some(address) = { lock(&questions).next() } {
                    if send.send((address, lookup(address))).is_err() {
                        return;
                    }
                }
            };
            // What cannot be asked stays a number.
            drop(std::thread::Builder::new().stack_size(256 << 10).spawn(asker));
        }
        drop(send);
        let deadline = Instant::now() + wait;
        while missing > 0 {
            match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((address, answer)) => {
                    missing -= 1;
                    if let Some(name) = answer.and_then(|answer| name(answer.as_bytes())) {
                        self.names.insert(address, name);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.unanswered += missing as u64;
    }
}

/// All addresses that a hosts file has for a name. The C library stops at the first line unless /etc/host.conf has
/// `multi on`.
pub fn addresses(text: &[u8], name: &str) -> Vec<IpAddr> {
    let is_named = |word: &[u8]| word.eq_ignore_ascii_case(name.as_bytes());
    entries(text).filter_map(|(address, mut words)| words.any(is_named).then_some(address)).collect()
}

/// Address and names of each line of a hosts file.
fn entries(text: &[u8]) -> impl Iterator<Item = (IpAddr, impl Iterator<Item = &[u8]>)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let address: IpAddr = str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some((address.to_canonical(), words))
    })
}

/// The name from the system's resolver: the address's owner chose it.
pub fn ask(address: IpAddr) -> Option<String> {
    dns_lookup::getnameinfo(&SocketAddr::new(address, 0), libc::NI_NAMEREQD).ok().map(|(host, _)| host)
}

/// A name fit to be shown. One that reads as an address, or as an end with its port, would lie.
fn name(raw: &[u8]) -> Option<String> {
    let name = escape(raw).replace(' ', "\\x20").replace(':', "\\x3a");
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    (!last.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// All addresses of a host, as shown for sockets.
///
/// # Errors
///
/// If it is no address, and no name that /etc/hosts or the resolver has; in words for the user.
pub fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if host.is_empty() {
        return Err("no host is named".into());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    // No name server is asked for what the hosts file has.
    let known = addresses(&fs::read("/etc/hosts").unwrap_or_default(), host);
    if !known.is_empty() {
        return Ok(known);
    }
    let found = (host, 0).to_socket_addrs().map_err(|error| format!("'{host}' is not found: {error}"))?;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_hosts_file_gives_the_first_name_of_each_address_and_hostile_ones_do_no_harm() {
        let hosts = Hosts::from_file(
            b"# comment\n127.0.0.1\tlocalhost loopback # first\n127.0.0.1 later\n::1 localhost ip6\n10.0.0.1\n\
              10.0.0.2 evil\x1b[2J\xff\n10.0.0.3 10.0.0.4.\n10.0.0.7 a:22\nnonsense x\n10.0.0.5 a\xe2\x80\xaeb\n::ffff:10.0.0.6 mapped",
        );
        assert_eq!(hosts.name(address("127.0.0.1")), Some("localhost"));
        assert_eq!(hosts.name(address("::1")), Some("localhost"));
        assert_eq!(hosts.name(address("10.0.0.1")), None);
        assert_eq!(hosts.name(address("10.0.0.2")), Some("evil\\x1b[2J\\xff"));
        assert_eq!(hosts.name(address("10.0.0.3")), None, "an address is no name");
        assert_eq!(hosts.name(address("10.0.0.5")), Some("a\\xe2\\x80\\xaeb"));
        assert_eq!(hosts.name(address("10.0.0.6")), Some("mapped"));
        assert_eq!(hosts.name(address("10.0.0.7")), Some("a\\x3a22"));
        assert_eq!(hosts.names.len(), 6);
    }

    #[test]
    fn a_name_in_the_hosts_file_is_all_of_its_addresses() {
        let text = b"127.0.0.1 a twin # b\n::1 Twin\n10.0.0.1 b\n::ffff:10.0.0.2 twin";
        assert_eq!(addresses(text, "twin"), ["127.0.0.1", "::1", "10.0.0.2"].map(address));
        assert_eq!(addresses(text, "b"), [address("10.0.0.1")]);
        assert!(addresses(text, "10.0.0.1").is_empty());
    }

    #[test]
    fn what_the_resolver_does_not_answer_in_time_stays_a_number_and_is_counted() {
        // Answers for one, has no name for another, and never comes back from two.
        fn lookup(address: IpAddr) -> Option<String> {
            match address.to_string().as_str() {
                "10.0.0.1" => Some("one\n".into()),
                "10.0.0.2" => None,
                "10.0.0.3" => Some("10.9.9.9".into()),
                _ => loop {
                    std::thread::park();
                },
            }
        }
        let mut hosts = Hosts::from_file(b"10.0.0.9 known");
        // This many are known at the timeout, on a slow machine none; all others are counted.
        let all = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.9"];
        hosts.resolve(all.map(address), Duration::from_millis(50), lookup);
        assert!((2..=5).contains(&hosts.unanswered), "{}", hosts.unanswered);
        hosts.unanswered = 0;
        hosts.resolve(["10.0.0.4", "10.0.0.5"].map(address), Duration::from_millis(1), lookup);
        let answered = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"];
        hosts.resolve(answered.map(address), Duration::from_secs(300), lookup);
        assert_eq!(hosts.name(address("10.0.0.1")), Some("one\\x0a"));
        assert_eq!(hosts.name(address("10.0.0.2")), None);
        assert_eq!(hosts.name(address("10.0.0.3")), None, "an address is no name");
        assert_eq!(hosts.name(address("10.0.0.9")), Some("known"));
        assert_eq!(hosts.unanswered, 2);
    }

    #[test]
    fn every_address_is_asked_for_though_there_are_more_than_threads() {
        let mut hosts = Hosts::default();
        let many = (0..=255).map(|last| IpAddr::from([10, 0, 0, last]));
        hosts.resolve(many, Duration::from_secs(60), |address| Some(format!("{address}.example")));
        assert_eq!((hosts.names.len(), hosts.unanswered), (256, 0));
        assert_eq!(hosts.name(address("10.0.0.77")), Some("10.0.0.77.example"));
    }
}
