//! Clients that mean no good.

use super::*;

/// Clients of five kinds, a hundred at once, for as long as they like.
#[test]
fn a_crowd_of_all_kinds_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_alone(folder.path(), &["--interval", "0.2", "--no-history"]);
    let before = rss_kib(daemon.pid());
    let at_first = daemon.intervals().unwrap();
    let crowd: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = daemon.connect().unwrap();
            let said: &[u8] = match n % 5 {
                0 => b"",
                1 => b"GET /v1/snapshot HTTP/1.1\r\nHost: ",
                2 => b"GET /v1/snapshot HTTP/1.1\r\nHost: n\r\n\r\n",
                3 => b"GET /v1/stream HTTP/1.1\r\nHost: n\r\n\r\n",
                _ => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 not HTTP",
            };
            let _ = stream.write_all(said);
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(rss_kib(daemon.pid()) < before + 16 * 1024, "{before} KiB, then {}", rss_kib(daemon.pid()));
    // Silent ones are dropped after five seconds.
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        match daemon.status() {
            // Those of the first 32 who sent nothing, or half of it.
            Some(status) if status.clients.dropped > 9 => break status,
            status => assert!(Instant::now() < deadline, "nobody is seen off: {status:?}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(status.clients.refused > 0, "{status:?}");
    assert_ne!(status.last.unwrap().time, at_first, "it went on measuring");
    drop(crowd);
    // All but this one.
    while daemon.status().is_none_or(|status| status.clients.connected != 1) {
        assert!(Instant::now() < deadline, "clients stay");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..40 {
        assert_eq!(daemon.get("/v1/snapshot").unwrap().status, 200, "there is room for clients again");
    }
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % below
    }
}

#[test]
fn mutilated_requests_are_answered_or_dropped_and_nothing_else() {
    const SOUND: [&str; 8] = [
        "GET /v1/status HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/snapshot?pid=1&user=0&interface=lo HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/drops?all=1 HTTP/1.1\r\nHost: n\r\nAccept: */*\r\n\r\n",
        "GET /v1/sockets?internet=4tcp@%5B127.0.0.1%5D:1-5,22&listening=1 HTTP/1.1\r\nHost: n\r\n\r\n",
        "GET /v1/history?from=-1h&to=now&by=unit&sort=peak&top=3&when=load+%3E+4 HTTP/1.1\r\nHost: n\r\n\r\n",
        "HEAD /v1/snapshot HTTP/1.0\r\n\r\n",
        "POST /v1/status HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET http://n/v1/status HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n",
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.db");
    let daemon = Daemon::start(folder.path(), &["--interval", "0.2", "--history", file.to_str().unwrap()]);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let requests = amount(3000, 300);
    // The first request of each kind makes room.
    for request in SOUND {
        let _ = daemon.say(request.as_bytes());
    }
    let before = rss_kib(daemon.pid());
    let mut answered = 0;
    for _ in 0..requests {
        let mut request = SOUND[dice.roll(SOUND.len())].as_bytes().to_vec();
        for _ in 0..dice.roll(5) {
            if request.is_empty() {
                break;
            }
            let at = dice.roll(request.len());
            match dice.roll(5) {
                0 => request[at] = u8::try_from(dice.roll(256)).unwrap(),
                1 => request.truncate(at.max(1)),
                2 => request.insert(at, b"\r\n\0 %?&=/:\xff"[dice.roll(11)]),
                3 => drop(request.drain(at..(at + dice.roll(9)).min(request.len()).max(at + 1))),
                _ => {
                    let piece = request[at..].to_vec();
                    (0..dice.roll(40)).for_each(|_| request.extend_from_slice(&piece));
                }
            }
        }
        let answer = daemon.say(&request).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&answer));
        answered += u64::from(!answer.is_empty());
    }
    assert!(answered > requests / 4, "{answered} of {requests} were answered");
    let after = rss_kib(daemon.pid());
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} after");
    let deadline = Instant::now() + Duration::from_secs(60);
    let last = daemon.intervals().unwrap();
    while daemon.intervals().unwrap() == last {
        assert!(Instant::now() < deadline, "it measures no more");
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = daemon.log();
    assert!(!log.contains("panicked") && log.lines().count() < 50, "{log}");
}
