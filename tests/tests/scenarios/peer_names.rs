//! Names and networks of remote addresses, against a resolver and processes that ask it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, TcpStream, UdpSocket},
    path::Path,
    process::Command,
};

use nettop_model::{Snapshot, connections::Record, sockets::Document};
use nettop_tests::{
    Moved, Namespace, Process, Stream,
    api::Daemon,
    dns::{A, AAAA, HTTPS, Resolver, ask, ask_by_stream, ask_through, is_truncated},
    mmdb::{Value, database},
    nettopd_command, veth_pair, wait_until,
};

const SERVER: &str = "10.0.0.2";

/// Two namespaces: in the second, all of 10.0.1.0/24 and fd01::/64 refuses connections.
fn refusing() -> (Namespace, Namespace) {
    let (a, b) = veth_pair();
    b.ip("route add local 10.0.1.0/24 dev lo");
    b.ip("-6 route add local fd01::/64 dev lo");
    a.ip("route add 10.0.1.0/24 via 10.0.0.2");
    a.ip("-6 route add fd01::/64 via fd00::2");
    (a, b)
}

fn connect(address: &str) {
    assert!(TcpStream::connect((address.parse::<IpAddr>().unwrap(), 4000)).is_err());
}

/// Name and source of each address that a process was refused at.
fn refused(events: &[Record], pid: u32) -> BTreeMap<&str, (Option<&str>, Option<&str>)> {
    let of_process = events.iter().filter(|event| event.event == "failed" && event.pid == Some(pid));
    of_process.map(|event| (&*event.remote, (event.remote_name.as_deref(), event.name_source.as_deref()))).collect()
}

#[test]
fn addresses_have_the_names_that_processes_asked_for() {
    let (a, b) = refusing();
    let folder = tempfile::tempdir().unwrap();
    let mut hosts = String::from(
        "10.0.1.11 v4.test\nfd01::12 v6.test\n10.0.1.13 edge.test\n10.0.1.20 one.test\n10.0.1.20 two.test\n",
    );
    for last in 100..180 {
        writeln!(hosts, "10.0.1.{last} many.test").unwrap();
    }
    // Priority 1, the name itself, and as a hint 10.0.1.14.
    let https = "--dns-rr=web.test,65,000100000400040a00010e";
    let aliases = ["--cname=www.test,alias.test", "--cname=alias.test,edge.test", https];
    let _resolver = Resolver::start(&b, SERVER, folder.path(), &hosts, &aliases);
    let _stub = Resolver::start(&a, "127.0.0.53", folder.path(), "", &["--server=10.0.0.2"]);
    let stream = Stream::connections(&[]);
    let first = Process::start(Some(&a), |parent| {
        ask(SERVER, "v4.test", A);
        ask(SERVER, "v6.test", AAAA);
        ask(SERVER, "WWW.test", A);
        ask(SERVER, "web.test", HTTPS);
        ask(SERVER, "one.test", A);
        let datagram = ask(SERVER, "many.test", A);
        assert!(is_truncated(&datagram));
        let is_there = |address: &[u8; 4]| datagram.windows(4).any(|bytes| bytes == address);
        let missing = (100..180).find(|last| !is_there(&[10, 0, 1, *last])).unwrap();
        ask_by_stream(SERVER, "many.test", A);
        for address in ["10.0.1.11", "fd01::12", "10.0.1.13", "10.0.1.14", "10.0.1.20", "10.0.1.99"] {
            connect(address);
        }
        connect(&format!("10.0.1.{missing}"));
        parent.send_number(missing.into());
        Moved::default()
    });
    let missing = format!("10.0.1.{}", first.wait_until_ready());
    let first_pid = first.pid();
    first.finish();
    let (second_pid, _) = Process::run(Some(&a), |_| {
        ask("127.0.0.53", "two.test", A);
        connect("10.0.1.20");
        connect("10.0.1.13");
        Moved::default()
    });
    stream.wait_for(|event| event.pid == Some(second_pid) && event.remote == "10.0.1.13");
    let result = stream.stop();
    let (own, other) = (Some("dns"), Some("dns-other"));
    let expected = BTreeMap::from([
        ("10.0.1.11", (Some("v4.test"), own)),
        ("fd01::12", (Some("v6.test"), own)),
        ("10.0.1.13", (Some("www.test"), own)),
        ("10.0.1.14", (Some("web.test"), own)),
        ("10.0.1.20", (Some("one.test"), own)),
        ("10.0.1.99", (None, None)),
        (&missing, (Some("many.test"), own)),
    ]);
    assert_eq!(refused(&result.events, first_pid), expected);
    let expected = BTreeMap::from([("10.0.1.20", (Some("two.test"), own)), ("10.0.1.13", (Some("www.test"), other))]);
    assert_eq!(refused(&result.events, second_pid), expected);
}

#[test]
fn nothing_is_read_of_answers_that_are_not_wanted() {
    let (a, b) = refusing();
    let folder = tempfile::tempdir().unwrap();
    let _resolver = Resolver::start(&b, SERVER, folder.path(), "10.0.1.11 v4.test\n", &[]);
    let [unread, numeric] = [&["--no-dns"], &["--numeric"]].map(|args| Stream::connections(args));
    let (pid, _) = Process::run(Some(&a), |_| {
        ask(SERVER, "v4.test", A);
        connect("10.0.1.11");
        Moved::default()
    });
    for stream in [unread, numeric] {
        stream.wait_for(|event| event.pid == Some(pid) && event.remote == "10.0.1.11");
        let result = stream.stop();
        assert_eq!(refused(&result.events, pid), BTreeMap::from([("10.0.1.11", (None, None))]));
    }
}

/// A connected datagram socket of a process, as the daemon lists it.
fn listed(daemon: &Daemon, pid: u32, remote: &str) -> Option<(Option<String>, Option<String>)> {
    let document: Document = daemon.get(&format!("/v1/sockets?pid={pid}")).unwrap().document();
    let mut sockets = document.sockets.into_iter();
    let socket = sockets.find(|socket| socket.remote_address.as_deref() == Some(remote))?;
    Some((socket.remote_name, Some(socket.remote)))
}

#[test]
fn the_daemon_knows_ten_thousand_names_and_loses_none() {
    let (a, b) = refusing();
    a.ip("route add 10.1.0.0/16 via 10.0.0.2");
    let folder = tempfile::tempdir().unwrap();
    let mut hosts = String::new();
    for number in 0..10_000_u32 {
        writeln!(hosts, "10.1.{}.{} host{number}.test", number / 250, 1 + number % 250).unwrap();
    }
    let _resolver = Resolver::start(&b, SERVER, folder.path(), &hosts, &[]);
    let daemon = Daemon::start(folder.path(), &["--no-history", "--interval", "0.5"]);
    let client = Process::start(Some(&a), |parent| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let first = UdpSocket::bind("10.0.0.1:0").unwrap();
        first.connect(("10.1.0.1", 4000)).unwrap();
        let last = UdpSocket::bind("10.0.0.1:0").unwrap();
        for number in 0..10_000 {
            ask_through(&socket, SERVER, &format!("host{number}.test"), A);
            // The ring has room for more: the daemon takes them out meanwhile, or now.
            if number % 1000 == 999 {
                last.connect((format!("10.1.{}.250", number / 250), 4000)).unwrap();
                parent.send_number(number);
                parent.wait_for_parent();
            }
        }
        drop(first);
        Moved::default()
    });
    let pid = client.pid();
    let knows = |address: &str, number: u64| {
        let name = format!("host{number}.test");
        let known = Some((Some(name.clone()), Some(format!("{name}:4000"))));
        wait_until("the daemon has read it", || listed(&daemon, pid, address) == known);
    };
    for _ in 0..10 {
        let number = client.wait_until_ready();
        knows(&format!("10.1.{}.250", number / 250), number);
        knows("10.1.0.1", 0);
        if number == 9999 {
            let snapshot: Snapshot = daemon.get("/v1/snapshot").unwrap().document();
            assert_eq!(snapshot.loss.names_lost, 0);
        }
        client.go();
    }
    client.finish();
}

/// What mmdblookup finds, or nothing.
fn mmdblookup(file: &Path, address: &str, path: &[&str]) -> Option<String> {
    let mut command = Command::new("mmdblookup");
    command.arg("--file").arg(file).args(["--ip", address]).args(path);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = text.trim().rsplit_once(" <")?.0;
    Some(value.trim_matches('"').to_owned())
}

#[test]
fn networks_are_those_that_mmdblookup_finds() {
    let folder = tempfile::tempdir().unwrap();
    let geolite = |number, organization, country| {
        Value::Map(vec![
            ("autonomous_system_number", Value::Number(number)),
            ("autonomous_system_organization", Value::Text(organization)),
            ("country", Value::Map(vec![("iso_code", Value::Text(country))])),
        ])
    };
    let ipinfo = Value::Map(vec![
        ("as_name", Value::Text("Other, Inc.")),
        ("asn", Value::Text("AS64498")),
        ("country", Value::Text("Germany")),
        ("country_code", Value::Text("DE")),
    ]);
    let networks = [
        ("10.0.0.0".parse().unwrap(), 25, geolite(64_496, "Evil \u{1b}[2J Networks", "AT")),
        ("10.0.0.192".parse().unwrap(), 26, ipinfo),
        ("fd00::".parse().unwrap(), 64, geolite(64_497, "Six", "FR")),
    ];
    let file = folder.path().join("test.mmdb");
    fs::write(&file, database(&networks)).unwrap();
    let (a, _b) = veth_pair();
    let addresses = ["10.0.0.2", "10.0.0.127", "10.0.0.128", "10.0.0.200", "fd00::2", "127.0.0.1"];
    let client = Process::start(Some(&a), |parent| {
        let sockets = addresses.map(|address| {
            let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect((address, 4000)).unwrap();
            socket
        });
        parent.signal_ready();
        parent.wait_for_parent();
        drop(sockets);
        Moved::default()
    });
    client.wait_until_ready();
    let output = nettopd_command()
        .args(["sockets", "-n", "--format", "json", "-p", &client.pid().to_string(), "--asn"])
        .arg(&file)
        .output()
        .unwrap();
    let document: Document = serde_json::from_slice(&output.stdout).unwrap();
    let found: BTreeMap<String, _> = document
        .sockets
        .into_iter()
        .map(|socket| {
            let asn = socket.asn.map(|asn| (asn.number, asn.organization.clone(), asn.country.clone()));
            (socket.remote_address.unwrap(), asn)
        })
        .collect();
    let expected = |address: &&str| {
        let look = |path: &[&str]| mmdblookup(&file, address, path);
        let number = look(&["autonomous_system_number"]).map(|number| number.parse().unwrap());
        let number = number.or_else(|| look(&["asn"]).map(|number| number[2..].parse().unwrap()));
        let organization = look(&["autonomous_system_organization"]).or_else(|| look(&["as_name"]));
        let country = look(&["country", "iso_code"]).or_else(|| look(&["country_code"]));
        let asn = number
            .map(|number| (Some(number), organization.map(|name: String| name.replace('\u{1b}', "\\x1b")), country));
        ((*address).to_owned(), asn)
    };
    assert_eq!(found, addresses.iter().map(expected).collect());
    assert_eq!(found.values().flatten().count(), 4);
    client.go();
    client.finish();
}
