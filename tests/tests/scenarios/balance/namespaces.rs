//! Devices and namespaces that could be taken for one another.

use super::*;

#[test]
fn one_process_on_two_devices_has_a_row_for_each() {
    let nettopd = Nettopd::start(&[]);
    let (a, b) = veth_pair();
    let sink = Process::start(Some(&b), |parent| {
        let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
        parent.signal_ready();
        let mut received = 0;
        for _ in 0..10 {
            received += socket.recv(&mut [0; 100]).unwrap() as u64;
        }
        Moved { sent: 0, received }
    });
    sink.wait_until_ready();
    // One socket that alternates between both.
    let (pid, _) = Process::run(Some(&a), |_| {
        let here = UdpSocket::bind("127.0.0.1:4000").unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..10 {
            socket.send_to(&[0; 50], "10.0.0.2:4000").unwrap();
            socket.send_to(&[0; 70], "127.0.0.1:4000").unwrap();
            here.recv(&mut [0; 100]).unwrap();
        }
        Moved::default()
    });
    let sink_pid = sink.pid();
    sink.finish();
    let document = nettopd.settled();
    let [on_v0, on_lo] = ["v0", "lo"].map(|name| {
        let rows = rows_of(&document, pid);
        rows.iter().find(|row| row.device.as_deref() == Some(name)).unwrap().total
    });
    assert_app_bytes(&document, on_v0.tx.app_bytes, 500);
    assert_app_bytes(&document, on_lo.tx.app_bytes, 700);
    assert_app_bytes(&document, on_lo.rx.app_bytes, 700);
    assert_eq!(on_v0.tx.bytes, 10 * 78);
    assert_eq!(on_lo.rx.bytes, 10 * 98);
    assert_eq!(wire(&document, sink_pid), Moved { sent: 0, received: 10 * 78 });
    assert_balanced(&document, &a, "lo", Moved::default());
}

#[test]
fn a_namespace_that_takes_a_dead_ones_inode_number_has_its_own_balance() {
    let nettopd = Nettopd::start(&[]);
    let exchange = |namespace: &Namespace, datagrams: u64| {
        Process::run(Some(namespace), |_| {
            let socket = UdpSocket::bind("127.0.0.1:4000").unwrap();
            for _ in 0..datagrams {
                socket.send_to(&[0; 100], "127.0.0.1:4000").unwrap();
                socket.recv(&mut [0; 200]).unwrap();
            }
            Moved::default()
        })
    };
    let first = Namespace::new();
    let inode = first.inode();
    exchange(&first, 300);
    nettopd.settled();
    drop(first);
    // After the kernel's cleanup, the next namespace gets the lowest free number.
    let deadline = Instant::now() + Duration::from_secs(20);
    let second = loop {
        let next = Namespace::new();
        if next.inode() == inode {
            break next;
        }
        assert!(Instant::now() < deadline, "no namespace got the number again");
        drop(next);
        sleep(Duration::from_millis(50));
    };
    let (pid, _) = exchange(&second, 5);
    let document = nettopd.settled();
    assert_eq!(wire(&document, pid), Moved { sent: 5 * 128, received: 5 * 128 });
    let devices = document.devices.iter().filter(|device| device.netns == inode && device.device == "lo");
    let balance: Vec<DirectionBalance> = devices.map(|device| device.total.rx).collect();
    assert!(balance.iter().all(|balance| balance.unattributed_bytes == 0), "{balance:#?}");
    assert!(balance.iter().any(|balance| balance.packets == 5), "{balance:#?}");
}

#[test]
fn three_namespaces_whose_devices_share_an_index_are_distinguished() {
    let nettopd = Nettopd::start(&[]);
    let namespaces = [Namespace::new(), Namespace::new(), Namespace::new()];
    let names = ["one", "two", "three"];
    for (namespace, name) in namespaces.iter().zip(names) {
        namespace.ip(&format!("link add {name} type veth peer name peer"));
        namespace.ip("link set peer up");
        namespace.ip(&format!("link set {name} address 02:00:00:00:00:01"));
        namespace.ip(&format!("addr add 10.1.0.1/24 dev {name}"));
        namespace.ip(&format!("link set {name} up"));
        namespace.ip(&format!("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev {name}"));
    }
    for (index, (namespace, name)) in namespaces.iter().zip(names).enumerate() {
        let size = 100 * (index + 1);
        let (pid, _) = Process::run(Some(namespace), |_| {
            let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
            socket.send_to(&vec![0; size], "10.1.0.2:9").unwrap();
            Moved::default()
        });
        let document = nettopd.settled();
        let rows = rows_of(&document, pid);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].device.as_deref(), Some(name));
        assert_eq!(rows[0].netns, namespace.inode());
        assert_eq!(wire(&document, pid).sent, size as u64 + 28);
        assert_balanced(&document, namespace, name, Moved::default());
    }
}
