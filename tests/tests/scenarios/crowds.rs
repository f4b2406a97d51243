//! What an unprivileged user can do by making very many of something: nettopd's memory stays bounded, and everybody's
//! accounting exact.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    os::unix::net::UnixStream,
};

use nettop_tests::{
    MemoryCgroup, Moved, Namespace, Nettopd, Process, amount, assert_app, become_nobody,
    cgroup::{PidsLimit, limit_pids},
    device, directions, hang_timeout, ports, skip,
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{ForkResult, Uid, fork, pause, setuid},
};

/// Of the packaged unit.
const MEMORY_MAX_BYTES: u64 = 512 << 20;
const SOMEBODY: u32 = 65_533;
const SOCKETS_OF_EACH: u64 = 10;
const BYTES: usize = 10;
const MAX_PORTS_OF_ONE: u64 = 65_536 / 5 * 4;

/// Forks so many children, which do something with their number, keep what it made, and stay. Waits until all have.
fn children<T>(number: u64, work: impl Fn(u64) -> std::io::Result<T>) {
    let (mut done, theirs) = UnixStream::pair().unwrap();
    done.set_read_timeout(Some(hang_timeout())).unwrap();
    for number in 0..number {
        // SAFETY: this process has one thread, and its child never returns.
        if let ForkResult::Child = unsafe { fork() }.unwrap() {
            set_pdeathsig(Signal::SIGKILL).unwrap();
            let made = work(number);
            // A change of the user has undone it.
            set_pdeathsig(Signal::SIGKILL).unwrap();
            if made.is_ok() && (&theirs).write_all(&[1]).is_ok() {
                loop {
                    pause();
                }
            }
            // SAFETY: ends the child and nothing else.
            unsafe { libc::_exit(1) }
        }
    }
    for _ in 0..number {
        done.read_exact(&mut [0]).unwrap();
    }
}

/// Has a user make processes that each send from ten sockets and keep them, until it is dropped: before their group.
fn crowd(namespace: &Namespace, group: &PidsLimit, processes: u64) -> Process {
    Process::start(Some(namespace), |parent| {
        group.enter();
        setuid(Uid::from_raw(SOMEBODY)).unwrap();
        children(processes, |number| {
            // An address of its own: one has too few ports for all.
            let here = Ipv4Addr::from(0x7f01_0000 + u32::try_from(number).unwrap());
            let sockets = (0..SOCKETS_OF_EACH).map(|_| {
                let socket = UdpSocket::bind((here, 0))?;
                socket.send_to(&[0; BYTES], "127.0.0.1:7000").map(|_| socket)
            });
            sockets.collect::<std::io::Result<Vec<_>>>()
        });
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    })
}

/// Root gives a user ids to use in user namespaces (subuid(5)): one process of each of them is one user's crowd.
#[test]
fn subordinate_users_have_one_share_and_leave_room_to_others() {
    const FIRST: u32 = 100_000;
    const NUMBER: u32 = 200;
    let nettopd = Nettopd::start(&["--rows", "64"]);
    let alone = Namespace::new();
    let _sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    let group = limit_pids(u64::from(NUMBER) + 1);
    let crowd = Process::start(Some(&alone), |parent| {
        group.enter();
        become_nobody();
        parent.send_number(u64::from(unshare(CloneFlags::CLONE_NEWUSER).is_ok()));
        parent.wait_for_parent();
        children(NUMBER.into(), |number| {
            setuid(Uid::from_raw(u32::try_from(number).unwrap()))?;
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.send_to(&[0; BYTES], "127.0.0.1:7000").map(|_| socket)
        });
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    if crowd.wait_until_ready() == 0 {
        return skip("no user namespaces for users");
    }
    std::fs::write(format!("/proc/{}/uid_map", crowd.pid()), format!("0 {FIRST} {NUMBER}")).unwrap();
    crowd.go();
    crowd.wait_until_ready();
    let other = Process::start(Some(&alone), |parent| {
        setuid(Uid::from_raw(SOMEBODY)).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 1000], "127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    other.wait_until_ready();
    let document = nettopd.settled();
    assert_app(&document, other.pid(), Moved { sent: 1000, received: 0 });
    let rows = document.rows.iter().filter(|row| row.netns == alone.inode());
    let of_crowd = rows.filter(|row| row.uid.is_some_and(|uid| (FIRST..FIRST + NUMBER).contains(&uid))).count();
    assert!((20..60).contains(&of_crowd), "{of_crowd} rows");
    assert!(document.loss.rows_full + document.loss.owners_full > 0, "{:#?}", document.loss);
}

#[test]
fn a_crowd_of_processes_and_sockets_costs_others_nothing() {
    let processes = amount(10_000, 200);
    let Some(memory) = MemoryCgroup::new(MEMORY_MAX_BYTES) else {
        return skip("no memory controller");
    };
    let nettopd = memory.enter(|| Nettopd::start(&[]));
    let alone = Namespace::new();
    let sink = alone.enter(|| UdpSocket::bind("127.0.0.1:7000").unwrap());
    sink.set_nonblocking(true).unwrap();
    let bystander = Process::start(Some(&alone), |parent| {
        let [here, there] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut moved = Moved::default();
        let mut bound = Vec::new();
        for _ in 0..2 {
            bound.push(UdpSocket::bind(("127.0.0.1", 7001 + u16::try_from(bound.len()).unwrap())).unwrap());
            for _ in 0..100 {
                moved.sent += here.send_to(&[1; 1000], there.local_addr().unwrap()).unwrap() as u64;
                moved.received += there.recv(&mut [0; 2000]).unwrap() as u64;
            }
            parent.signal_ready();
            parent.wait_for_parent();
        }
        moved
    });
    bystander.wait_until_ready();
    let group = limit_pids(processes + 1);
    let crowd = crowd(&alone, &group, processes);
    crowd.wait_until_ready();
    bystander.go();
    bystander.wait_until_ready();
    let document = nettopd.settled();
    let used = memory.bytes();
    let rows = document.rows.iter().filter(|row| row.netns == alone.inode());
    let of_crowd: Vec<_> = rows.filter(|row| row.uid == Some(SOMEBODY)).collect();
    assert_eq!(of_crowd.len() as u64, processes);
    let each = SOCKETS_OF_EACH * (28 + BYTES as u64);
    for row in of_crowd {
        assert_eq!(row.total.tx.bytes, each, "{row:#?}");
    }
    let moved = Moved { sent: 200_000, received: 200_000 };
    assert_app(&document, bystander.pid(), moved);
    let balance = device(&document, alone.inode(), "lo");
    for (_, side) in directions(balance) {
        assert_eq!(side.bytes, processes * each + 200 * 1028);
        assert_eq!(side.unattributed_bytes, 0, "{balance:#?}");
    }
    // Of 65,536 bound ports one user has four fifths. Everything else found room.
    let sockets = processes * SOCKETS_OF_EACH;
    let loss = document.loss;
    assert_eq!([loss.rows_full, loss.owners_full, loss.index_full], [0; 3], "{loss:#?}");
    assert_eq!([loss.overflow_tx_bytes, loss.overflow_rx_bytes], [0; 2], "{loss:#?}");
    assert_eq!(loss.ports_full > 0, sockets > MAX_PORTS_OF_ONE);
    let ports = ports(nettopd.pid());
    let of_others = ports.iter().filter(|port| port.netns.inode == alone.inode() && [7001, 7002].contains(&port.port));
    assert_eq!(of_others.count(), 2, "{} ports are known", ports.len());
    assert!(used < MEMORY_MAX_BYTES * 3 / 4, "{used} bytes");
    println!("{} MiB with {processes} processes and {sockets} sockets", used >> 20);
    bystander.go();
    assert_eq!(bystander.finish(), moved);
}
