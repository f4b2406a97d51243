//! The server over a real socket, with small limits: what it answers, and whom it cuts off.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nettop_model::{Snapshot, snapshot::HookReport, status::Clients};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Latest, Server, Socket, Sources, shared::Limits};
use crate::{example::snapshot, identity::users};

/// A limit that is reached.
const SOON: Duration = Duration::from_millis(300);
/// One that must not be: no machine is that slow.
const FOR_EVER: Duration = Duration::from_secs(300);
/// Longer than any test waits: what it waits for is not done by the clock.
const NEVER: Duration = Duration::from_secs(3600);

/// A server with what it is fed by.
struct Fixture {
    folder: TempDir,
    publish: watch::Sender<Option<Arc<Latest>>>,
    server: Server,
}

impl Fixture {
    fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (publish, latest) = watch::channel(None);
        let socket = Socket::bind(&folder.path().join("api.sock")).unwrap();
        let sources = Sources { latest, iterators: None, history: None, users: users::numbers() };
        Self { folder, publish, server: Server::with_limits(socket, sources, limits).unwrap() }
    }

    fn publish(&self, rows: u32) {
        self.publish_snapshot(snapshot(rows));
    }

    fn publish_snapshot(&self, snapshot: Snapshot) {
        let latest = Latest::new(self.publish.borrow().as_deref(), snapshot);
        self.publish.send_replace(Some(Arc::new(latest)));
    }

    fn connect(&self) -> UnixStream {
        connect(&self.folder.path().join("api.sock"))
    }

    /// Sends, shuts its end, and reads all there is.
    fn say(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may have been refused already.
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

    fn clients(&self) -> Clients {
        self.server.clients.clients()
    }

    /// Waits until the clients are so.
    fn wait_for(&self, are_so: impl Fn(&Clients) -> bool) {
        let deadline = Instant::now() + FOR_EVER;
        while !are_so(&self.clients()) {
            assert!(Instant::now() < deadline, "{:?}", self.clients());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client that has sent its request.
    fn asking(&self, target: &str) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: n\r\n\r\n").as_bytes()).unwrap();
        stream
    }

    /// One that has the head of an endless answer, and so gets each document from now on.
    fn following(&self, target: &str) -> UnixStream {
        let mut stream = self.asking(target);
        read_until(&mut stream, |head| head.ends_with("\r\n\r\n"));
        stream
    }
}

/// Reads, byte by byte, no further than is enough.
fn read_until(stream: &mut UnixStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    while !is_enough(&text) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {text}"));
        text.push(byte[0].into());
    }
    text
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(FOR_EVER)).unwrap();
    stream
}

fn patient() -> Limits {
    Limits { asking: NEVER, reading: NEVER, staying: NEVER, answering: NEVER, ..Limits::default() }
}

#[test]
fn each_path_has_its_document() {
    let fixture = Fixture::start(patient());
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
fn arguments_of_processes_are_in_no_answer_that_was_not_asked_for_them() {
    let fixture = Fixture::start(patient());
    let mut with_arguments = snapshot(2);
    with_arguments.rows[1].process.arguments = Some(["curl".to_owned(), "--key=secret".to_owned()].into());
    fixture.publish_snapshot(with_arguments);
    for target in
        ["/v1/snapshot", "/v1/snapshot?user=0", "/v1/snapshot?by=user", "/v1/snapshot?arguments=0", "/v1/drops"]
    {
        let (status, document) = fixture.get(target);
        assert!(status == 200 && !document.to_string().contains("secret"), "{target}: {document}");
    }
    let (_, document) = fixture.get("/v1/snapshot?arguments=1");
    assert_eq!(document["rows"][1]["argv"], serde_json::json!(["curl", "--key=secret"]));
    assert_eq!(document["rows"][0].get("argv"), None);
    let mut stream = fixture.following("/v1/stream");
    fixture.publish(1);
    assert!(!read_until(&mut stream, |text| text.contains("\"loss\"")).contains("argv"));
}

#[test]
fn what_is_not_there_is_refused_in_one_line() {
    let fixture = Fixture::start(patient());
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
    let fixture = Fixture::start(Limits { asking: SOON, reading: SOON, ..patient() });
    // Larger than all buffers on the way.
    fixture.publish(10_000);
    let silent = fixture.connect();
    let mut half = fixture.connect();
    // On a slow machine it may be cut off already.
    let _ = half.write_all(b"GET /v1/snapshot HTTP/1.1\r\nHo");
    for (mut stream, most) in [(silent, 200), (half, 200)] {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < most, "{} bytes", answer.len());
    }
    fixture.wait_for(|clients| clients.dropped == 2);
    let fixture = Fixture::start(Limits { reading: SOON, ..patient() });
    fixture.publish(10_000);
    let mut slow = fixture.asking("/v1/snapshot");
    fixture.wait_for(|clients| clients.dropped == 1);
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(answer.len() < serde_json::to_vec(&snapshot(10_000)).unwrap().len() / 2, "{} bytes", answer.len());
    fixture.wait_for(|clients| clients.connected == 0);
}

#[test]
fn beyond_the_limit_clients_are_refused_at_once() {
    let fixture = Fixture::start(Limits { clients: 2, turned_away: 2, ..patient() });
    let inside = [fixture.connect(), fixture.connect()];
    fixture.wait_for(|clients| clients.connected == 2);
    let (status, document) = fixture.get("/v1/status");
    assert_eq!((status, &document["error"]), (503, &"too many clients; try again later".into()));
    let outside = [fixture.connect(), fixture.connect()];
    fixture.wait_for(|clients| clients.refused == 3);
    assert_eq!(fixture.get("/v1/status").0, 0, "beyond these, they are not even answered");
    drop((inside, outside));
    fixture.wait_for(|clients| clients.connected == 0);
    let (status, document) = fixture.get("/v1/status");
    assert_eq!((status, document["clients"]["refused"].as_u64()), (200, Some(4)));
}

/// More rows than all buffers on the way take.
const LARGE: u32 = 5_000;

#[test]
fn a_stream_has_each_interval() {
    let fixture = Fixture::start(patient());
    fixture.publish(1);
    let mut stream = fixture.asking("/v1/stream?pid=1");
    assert!(read_until(&mut stream, |head| head.ends_with("\r\n\r\n")).contains("application/x-ndjson"));
    for rows in 2..=4 {
        fixture.publish(rows);
        let line = read_until(&mut stream, |text| text.ends_with("}\n"));
        assert!(line.contains("nettop.snapshot/1"), "{line}");
    }
    // A reader one behind gets both, however late.
    let mut late = fixture.following("/v1/stream");
    fixture.publish(LARGE);
    read_until(&mut late, |text| text.contains("nettop.snapshot/1"));
    fixture.publish(7);
    let mut text = String::new();
    while text.matches("}\n").count() < 2 {
        let mut bytes = [0; 65_536];
        let read = late.read(&mut bytes).unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert_eq!(fixture.clients().dropped, 0);
}

#[test]
fn a_stream_repeats_what_changed_unless_it_is_to_be_whole() {
    let fixture = Fixture::start(patient());
    let with_hooks = |attached: bool| Snapshot {
        hooks: vec![HookReport { purpose: "app tx".into(), attached, kind: "k".into(), reason: None }],
        ..snapshot(1)
    };
    fixture.publish_snapshot(with_hooks(true));
    for (path, shown) in [
        ("/v1/stream", [true, false, true, false]),
        ("/v1/stream?pid=1", [true, false, true, false]),
        ("/v1/stream?whole=1", [true; 4]),
        ("/v1/stream?whole=1&pid=1", [true; 4]),
    ] {
        let mut stream = fixture.following(path);
        for (attached, is_shown) in [true, true, false, false].into_iter().zip(shown) {
            fixture.publish_snapshot(with_hooks(attached));
            let line = read_until(&mut stream, |text| text.ends_with("}\n"));
            let document: Snapshot = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
            assert_eq!(!document.hooks.is_empty(), is_shown, "{path} {attached}");
        }
    }
}

#[test]
fn who_does_not_read_a_stream_is_cut_off_when_a_document_is_left_out() {
    let fixture = Fixture::start(patient());
    fixture.publish(1);
    let mut lazy = fixture.following("/v1/stream");
    fixture.publish(LARGE);
    // It is on its way, and no farther.
    read_until(&mut lazy, |text| text.contains("nettop.snapshot/1"));
    // One may wait.
    fixture.publish(LARGE);
    assert_eq!(fixture.get("/v1/status").1["clients"]["dropped"], 0);
    fixture.publish(LARGE);
    fixture.wait_for(|clients| clients.dropped == 1);
    let mut all = Vec::new();
    lazy.read_to_end(&mut all).unwrap();
    assert!(!all.ends_with(b"0\r\n\r\n"), "it was broken off");
}

#[test]
fn who_misses_a_document_is_cut_off_though_it_reads() {
    let fixture = Fixture::start(patient());
    fixture.publish(1);
    let mut stream = fixture.following("/v1/stream");
    let missed = Latest::new(fixture.publish.borrow().as_deref(), snapshot(1));
    fixture.publish.send_replace(Some(Arc::new(Latest::new(Some(&missed), snapshot(1)))));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.is_empty(), "not even an end: {all:?}");
    fixture.wait_for(|clients| (clients.dropped, clients.connected) == (1, 0));
}

#[test]
fn all_that_is_sent_has_so_much_room() {
    let one = serde_json::to_vec(&snapshot(3_000)).unwrap().len() / 1024;
    let fixture = Fixture::start(Limits { room_kib: one * 3 / 2, ..patient() });
    fixture.publish(3_000);
    // All who want the same share it.
    let readers: Vec<UnixStream> = (0..5)
        .map(|_| {
            let mut stream = fixture.asking("/v1/snapshot");
            // It has begun.
            read_until(&mut stream, |text| text.ends_with("H"));
            stream
        })
        .collect();
    fixture.publish(3_001);
    let (status, document) = fixture.get("/v1/snapshot");
    assert!(status == 503 && document["error"].as_str().unwrap().contains("select less"), "{status} {document}");
    assert_eq!(fixture.get("/v1/snapshot?pid=1").0, 200);
    for mut reader in readers {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(b"}\n"));
    }
    fixture.wait_for(|clients| clients.connected == 0);
    assert_eq!(fixture.get("/v1/snapshot").0, 200, "the room is given back");
}
