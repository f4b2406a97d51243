//! The server over a real socket, with small limits: what it answers, and whom it cuts off.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Server, Socket, Sources, server::Limits};
use crate::report::{Loss, RowReport, Snapshot};

const SOON: Duration = Duration::from_millis(300);

/// A server with what it is fed by.
struct Fixture {
    folder: TempDir,
    publish: watch::Sender<Option<Arc<Snapshot>>>,
    _server: Server,
}

impl Fixture {
    fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (publish, snapshots) = watch::channel(None);
        let socket = Socket::bind(&folder.path().join("api.sock")).unwrap();
        let sources = Sources { snapshots, walks: None, history: None };
        Self { folder, publish, _server: Server::with_limits(socket, sources, limits).unwrap() }
    }

    fn publish(&self, rows: u32) {
        self.publish.send_replace(Some(Arc::new(snapshot(rows))));
        // The server's own thread takes it over.
        std::thread::sleep(Duration::from_millis(50));
    }

    fn connect(&self) -> UnixStream {
        connect(&self.folder.path().join("api.sock"))
    }

    /// Sends, shuts its end, and reads all there is.
    fn say(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have been told already that there is no room.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Status and document.
    fn get(&self, target: &str) -> (u16, Value) {
        let answer = self.say(format!("GET {target} HTTP/1.1\r\nHost: n\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn dropped(&self) -> u64 {
        self.get("/v1/status").1["clients"]["dropped"].as_u64().unwrap()
    }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn small() -> Limits {
    Limits { asking: SOON, reading: SOON, answering: Duration::from_secs(5), ..Limits::default() }
}

fn snapshot(rows: u32) -> Snapshot {
    let amount = json!({ "bytes": 1, "packets": 1, "app_bytes": 0 });
    let traffic = json!({ "tx": amount, "rx": amount });
    let count = json!({ "interval": 1, "total": 2 });
    let row = json!({
            "pid": 1, "comm": "x", "uid": 1, "netns": 1, "netns_cookie": 1, "device": "lo",
            "owner": "user", "exited": false, "interval": traffic, "total": traffic, "drops": count, "retransmits": count,
    });
    let lost = json!({ "packets": 1, "bytes": 1 });
    let drop = |class: &str| {
        json!({
            "reason": "NO_SOCKET", "class": class, "location": "x+0x1", "owner": "none", "interval": lost, "total": lost,
        })
    };
    let document = json!({
        "schema": "nettop.snapshot/1", "version": "0", "host": "h", "boot_id": "b", "kernel": "k", "time": "t",
        "interval_ms": 1000, "read_us": 1, "accounting_since": "t", "hooks": [],
        "rows": [row], "devices": [], "drops": [drop("routing"), drop("lifecycle")],
        "other_drops": { "interval": lost, "total": lost }, "uncounted_drops": 0, "tcp": [], "exited": traffic, "loss": Loss::default(),
    });
    let mut snapshot: Snapshot = serde_json::from_value(document).unwrap();
    let row = snapshot.rows.remove(0);
    snapshot.rows = (1..=rows).map(|pid| RowReport { pid, uid: Some(pid % 2), ..row.clone() }).collect();
    snapshot
}

#[test]
fn each_path_has_its_document() {
    let fixture = Fixture::start(small());
    assert_eq!(fixture.get("/v1/snapshot").0, 503, "there is none so far");
    let (status, document) = fixture.get("/v1/status");
    assert_eq!((status, &document["schema"], &document["last"]), (200, &"nettop.status/1".into(), &Value::Null));
    fixture.publish(4);
    let (status, document) = fixture.get("/v1/snapshot");
    assert_eq!((status, &document), (200, &serde_json::to_value(snapshot(4)).unwrap()));
    let (_, document) = fixture.get("/v1/snapshot?user=1&pid=3&pid=4");
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.len() == 1 && rows[0]["pid"] == 3, "{rows:?}");
    let (status, document) = fixture.get("/v1/drops");
    assert_eq!(
        (status, &document["schema"], &document["lifecycle_hidden"]),
        (200, &"nettop.drops/1".into(), &1.into())
    );
    assert_eq!(document["drops"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.get("/v1/drops?all=1").1["drops"].as_array().unwrap().len(), 2);
    let (_, document) = fixture.get("/v1/status");
    assert_eq!(document["last"]["rows"], 4);
    assert_eq!(document["clients"]["dropped"], 0);
}

#[test]
fn what_is_not_there_is_refused_in_one_line() {
    let fixture = Fixture::start(small());
    fixture.publish(1);
    for (target, refused) in [
        ("/", 404),
        ("/v1", 404),
        ("/v2/snapshot", 404),
        ("/v1/sockets", 404),
        ("/v1/history", 404),
        ("/v1/snapshot?pid=x", 400),
        ("/v1/snapshot?nonsense=1", 400),
        ("/v1/status?pid=1", 400),
        ("/v1/stream?pid=x", 400),
        ("/v1/sockets?internet=@example.com", 400),
        ("/v1/history?top=many", 400),
    ] {
        let (status, document) = fixture.get(target);
        let error = document["error"].as_str().unwrap_or_default();
        assert!(status == refused && !error.is_empty() && !error.contains('\n'), "{target}: {status} {document}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let answer =
            fixture.say(format!("{method} /v1/status HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"), "{method}: {answer}");
    }
    let answer = fixture.say(b"HEAD /v1/snapshot HTTP/1.1\r\nHost: n\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"), "{answer}");
    let large = [b"GET /v1/status HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 64 << 10]].concat();
    assert!(fixture.say(&large).starts_with("HTTP/1.1 431 "), "a head is 16 KiB at most");
}

#[test]
fn the_silent_and_the_slow_are_cut_off_and_counted() {
    let fixture = Fixture::start(small());
    // Larger than all buffers on the way.
    fixture.publish(10_000);
    let begun = Instant::now();
    let silent = fixture.connect();
    let mut half = fixture.connect();
    half.write_all(b"GET /v1/snapshot HTTP/1.1\r\nHo").unwrap();
    let mut slow = fixture.connect();
    slow.write_all(b"GET /v1/snapshot HTTP/1.1\r\nHost: n\r\n\r\n").unwrap();
    while fixture.dropped() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} dropped", fixture.dropped());
        std::thread::sleep(SOON);
    }
    let whole = serde_json::to_vec(&snapshot(10_000)).unwrap().len();
    for (mut stream, most) in [(silent, 200), (half, 200), (slow, whole / 2)] {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < most, "{} bytes", answer.len());
    }
    assert_eq!(fixture.get("/v1/snapshot").0, 200);
}

#[test]
fn beyond_the_limit_clients_are_told_at_once() {
    let limits = Limits { clients: 2, turned_away: 2, asking: Duration::from_secs(10), ..small() };
    let fixture = Fixture::start(limits);
    let inside = [fixture.connect(), fixture.connect()];
    std::thread::sleep(SOON);
    let (status, document) = fixture.get("/v1/status");
    assert_eq!((status, &document["error"]), (503, &"too many clients; try again later".into()));
    let outside = [fixture.connect(), fixture.connect()];
    std::thread::sleep(SOON);
    assert_eq!(fixture.get("/v1/status").0, 0, "beyond these, they are not even told");
    drop((inside, outside));
    std::thread::sleep(SOON);
    let (status, document) = fixture.get("/v1/status");
    assert_eq!((status, document["clients"]["refused"].as_u64()), (200, Some(4)));
}

#[test]
fn a_stream_has_each_interval_and_who_misses_one_is_dropped() {
    let fixture = Fixture::start(Limits { reading: Duration::from_secs(20), ..small() });
    fixture.publish(1);
    let request = b"GET /v1/stream?pid=1 HTTP/1.1\r\nHost: n\r\n\r\n";
    let mut stream = fixture.connect();
    stream.write_all(request).unwrap();
    std::thread::sleep(SOON);
    let mut text = String::new();
    for rows in 1..=3 {
        fixture.publish(rows);
        while text.matches("nettop.snapshot/1").count() < rows as usize {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }
    assert!(text.contains("application/x-ndjson"));
    drop(stream);
    let mut lazy = fixture.connect();
    lazy.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: n\r\n\r\n").unwrap();
    std::thread::sleep(SOON);
    let begun = Instant::now();
    while fixture.dropped() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is not dropped");
        fixture.publish(5_000);
    }
    let mut all = Vec::new();
    lazy.read_to_end(&mut all).unwrap();
    assert!(!all.ends_with(b"0\r\n\r\n"), "it was broken off");
}

#[test]
fn all_that_is_sent_has_so_much_room() {
    let one = serde_json::to_vec(&snapshot(3_000)).unwrap().len() / 1024;
    let fixture = Fixture::start(Limits { room_kib: one * 3 / 2, reading: Duration::from_secs(20), ..small() });
    fixture.publish(3_000);
    // All who want the same share it.
    let readers: Vec<UnixStream> = std::iter::repeat_with(|| {
        let mut stream = fixture.connect();
        stream.write_all(b"GET /v1/snapshot HTTP/1.1\r\nHost: n\r\n\r\n").unwrap();
        stream
    })
    .take(5)
    .collect();
    std::thread::sleep(SOON);
    fixture.publish(3_001);
    let (status, document) = fixture.get("/v1/snapshot");
    assert!(status == 503 && document["error"].as_str().unwrap().contains("select less"), "{status} {document}");
    assert_eq!(fixture.get("/v1/snapshot?pid=1").0, 200);
    for mut reader in readers {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(b"}\n"));
    }
    assert_eq!(fixture.get("/v1/snapshot").0, 200, "the room is given back");
}
