//! The right owner: the process that used the socket, both ways, however it got it and however briefly it lived.

mod sharing;

use std::{
    io::{IoSlice, IoSliceMut, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _},
};

use nettop_tests::{
    Moved, Namespace, Nettopd, Process, amount, app, assert_app, assert_app_bytes, owner_row, rows_of, set_name, wire,
};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A datagram of `size` bytes over IPv4.
const fn datagram(size: u64) -> u64 {
    size + 28
}

/// A UDP socket that swallows everything, so that nothing is refused.
fn sink(namespace: &Namespace) -> Process {
    let sink = Process::start(Some(namespace), |parent| {
        let _socket = UdpSocket::bind("127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    sink.wait_until_ready();
    sink
}

#[test]
fn hundreds_of_processes_that_hardly_live_are_all_named_and_billed() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = sink(&alone);
    // Rows of those that ended stay for a minute.
    let pids: Vec<(usize, u32)> = (0..usize::try_from(amount(500, 100)).unwrap())
        .map(|number| {
            let (pid, _) = Process::run(Some(&alone), |_| {
                set_name(format!("brief-{number}").as_bytes());
                UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&vec![0; number + 1], "127.0.0.1:7000").unwrap();
                Moved::default()
            });
            (number, pid)
        })
        .collect();
    let document = nettopd.settled();
    for (number, pid) in pids {
        let row = owner_row(&document, pid);
        assert_eq!(row.comm, format!("brief-{number}"));
        assert!(row.exited);
        assert_app_bytes(&document, app(&document, pid).sent, number as u64 + 1);
        assert_eq!(wire(&document, pid).sent, datagram(number as u64 + 1));
    }
}

#[test]
fn a_connection_older_than_nettopd_belongs_to_its_holder_even_if_it_only_waits() {
    let alone = Namespace::new();
    let receiver = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1000];
        // Read before nettopd started: not counted.
        stream.read_exact(&mut buffer[..123]).unwrap();
        parent.signal_ready();
        // Blocks here when nettopd starts, and until there is data.
        let received = stream.read(&mut buffer).unwrap() as u64;
        parent.wait_for_parent();
        Moved { sent: 0, received }
    });
    let port = u16::try_from(receiver.wait_until_ready()).unwrap();
    let sender = Process::start(Some(&alone), move |parent| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&[1; 123]).unwrap();
        parent.wait_for_parent();
        stream.write_all(&[1; 777]).unwrap();
        parent.wait_for_parent();
        Moved { sent: 777, received: 0 }
    });
    receiver.wait_until_ready();
    let nettopd = Nettopd::start(&[]);
    sender.go();
    let document = nettopd.settled();
    let (from, to) = (sender.pid(), receiver.pid());
    assert_app(&document, from, Moved { sent: 777, received: 0 });
    assert_app(&document, to, Moved { sent: 0, received: 777 });
    assert_eq!(wire(&document, to).received, 777 + 52);
    assert_eq!(wire(&document, from).received, 52, "the acknowledgement");
}

#[test]
fn what_waits_in_an_older_socket_is_counted_when_it_is_taken() {
    let alone = Namespace::new();
    let both = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[1; 500]).unwrap();
        let mut buffer = [0; 500];
        server.read_exact(&mut buffer[..100]).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        server.read_exact(&mut buffer[..400]).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        Moved::default()
    });
    both.wait_until_ready();
    let nettopd = Nettopd::start(&[]);
    both.go();
    both.wait_until_ready();
    assert_app(&nettopd.settled(), both.pid(), Moved { sent: 0, received: 400 });
}

#[test]
fn peeking_is_not_receiving_and_the_end_of_a_stream_is_no_byte() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let (pid, _) = Process::run(Some(&alone), |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[1; 300]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut buffer = vec![0; 300];
        for _ in 0..3 {
            server.peek(&mut buffer).unwrap();
        }
        buffer.clear();
        server.read_to_end(&mut buffer).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 40], socket.local_addr().unwrap()).unwrap();
        socket.peek(&mut [0; 40]).unwrap();
        socket.recv(&mut [0; 10]).unwrap();
        Moved::default()
    });
    assert_app(&nettopd.settled(), pid, Moved { sent: 340, received: 310 });
}

/// Takes one connection and sends back what came.
fn echo_one(listener: &TcpListener) -> Moved {
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    stream.write_all(&received).unwrap();
    Moved { sent: received.len() as u64, received: received.len() as u64 }
}

/// Connects, sends `size` bytes and reads to the end.
fn visit(namespace: &Namespace, port: u16, size: usize) {
    Process::run(Some(namespace), |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&vec![0; size]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        Moved::default()
    });
}

fn has_ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn an_exec_renames_the_rows_of_its_process() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = sink(&alone);
    let process = Process::start(Some(&alone), |parent| {
        set_name(b"before");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 5], "127.0.0.1:7000").unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        let sleep = std::ffi::CString::new("sleep").unwrap();
        let seconds = std::ffi::CString::new("20").unwrap();
        nix::unistd::execvp(&sleep, &[sleep.clone(), seconds]).unwrap();
        Moved::default()
    });
    process.wait_until_ready();
    assert_eq!(owner_row(&nettopd.settled(), process.pid()).comm, "before");
    process.go();
    let document = nettopd.settled();
    let row = owner_row(&document, process.pid());
    assert_eq!(row.comm, "sleep");
    let exe = row.process.exe.as_ref().unwrap();
    assert!(exe.ends_with("sleep") || exe.contains("coreutils"));
    assert_app_bytes(&document, app(&document, process.pid()).sent, 5);
}

#[test]
fn a_change_of_user_between_sends_splits_the_rows() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = sink(&alone);
    let (pid, _) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (uid, size) in [(0, 10), (54_321, 20), (54_322, 30)] {
            nix::unistd::setresuid(uid.into(), uid.into(), 0.into()).unwrap();
            socket.send_to(&vec![0; size], "127.0.0.1:7000").unwrap();
            nix::unistd::setresuid(0.into(), 0.into(), 0.into()).unwrap();
        }
        Moved::default()
    });
    let document = nettopd.settled();
    let rows = rows_of(&document, pid);
    assert_eq!(rows.len(), 3);
    for (uid, size) in [(0, 10), (54_321, 20), (54_322, 30)] {
        let row = rows.iter().find(|row| row.uid == Some(uid)).unwrap();
        assert_app_bytes(&document, row.total.tx.app_bytes, size);
        assert_eq!(row.total.tx.bytes, datagram(size));
    }
}

#[test]
fn data_in_flight_when_its_process_ends_is_still_its_own() {
    const SIZE: usize = 100_000;
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let server = Process::start(Some(&alone), |parent| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        parent.send_number(listener.local_addr().unwrap().port().into());
        let (mut stream, _) = listener.accept().unwrap();
        parent.wait_for_parent();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        Moved { sent: 0, received: received.len() as u64 }
    });
    let port = u16::try_from(server.wait_until_ready()).unwrap();
    let (pid, _) = Process::run(Some(&alone), |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // More than the receiver's window: some of it leaves after the end.
        stream.write_all(&vec![0; SIZE]).unwrap();
        Moved::default()
    });
    server.go();
    assert_eq!(server.finish().received, SIZE as u64);
    let document = nettopd.settled();
    let row = owner_row(&document, pid);
    let tx = &row.total.tx;
    assert_app_bytes(&document, tx.app_bytes, SIZE as u64);
    // Headers of 52 bytes, 60 for the SYN; the last acknowledgement may be the kernel's.
    assert_eq!(tx.bytes, SIZE as u64 + tx.packets * 52 + 8);
    assert!(row.exited);
}

#[test]
fn a_reused_pid_is_another_process() {
    let nettopd = Nettopd::start(&[]);
    let alone = Namespace::new();
    let _sink = sink(&alone);
    // The socket outlives the first process: even the same socket and pid are another owner.
    let socket = alone.enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let send = |name: &str, size: usize| {
        set_name(name.as_bytes());
        socket.send_to(&vec![0; size], "127.0.0.1:7000").unwrap();
    };
    let (pid, _) = Process::run(Some(&alone), |_| {
        send("first", 10);
        Moved::default()
    });
    let again = clone_with_pid(pid, || send("second", 20));
    assert_eq!(again, pid);
    let document = nettopd.settled();
    let rows = rows_of(&document, pid);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    for (name, size) in [("first", 10), ("second", 20)] {
        let row = rows.iter().find(|row| row.comm == name).unwrap();
        assert_app_bytes(&document, row.total.tx.app_bytes, size);
        assert_eq!(row.total.tx.bytes, datagram(size));
    }
    assert_ne!(rows[0].start_time_ns, rows[1].start_time_ns);
}

/// Forks a child with a pid of our choice, and waits for its end.
fn clone_with_pid(pid: u32, work: impl FnOnce()) -> u32 {
    let tid = pid.cast_signed();
    // SAFETY: all-zero clone_args are a plain fork.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = u64::try_from(libc::SIGCHLD).unwrap();
    args.set_tid = (&raw const tid) as u64;
    args.set_tid_size = 1;
    // SAFETY: like fork; the child runs its work and exits without returning.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    assert!(child >= 0, "clone3: {}", std::io::Error::last_os_error());
    if child == 0 {
        work();
        // SAFETY: ends the child without the test harness's exit handlers.
        unsafe { libc::_exit(0) };
    }
    let child = i32::try_from(child).unwrap();
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
    child.cast_unsigned()
}

#[test]
fn two_instances_count_the_same() {
    let (one, two) = (Nettopd::start(&[]), Nettopd::start(&[]));
    let alone = Namespace::new();
    let _sink = sink(&alone);
    let (pid, _) = Process::run(Some(&alone), |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            socket.send_to(&[0; 64], "127.0.0.1:7000").unwrap();
        }
        Moved::default()
    });
    for nettopd in [one, two] {
        let document = nettopd.settled();
        assert_app_bytes(&document, app(&document, pid).sent, 6400);
        assert_eq!(wire(&document, pid).sent, 100 * datagram(64));
    }
}

#[test]
fn a_recovery_probe_counts_nothing_twice() {
    let nettopd = Nettopd::start(&["--recovery-probe"]);
    let alone = Namespace::new();
    let (pid, moved) = Process::run(Some(&alone), |_| {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut into = listener.accept().unwrap().0;
        for _ in 0..200 {
            from.send_to(&[0; 10], to.local_addr().unwrap()).unwrap();
            to.recv(&mut [0; 10]).unwrap();
            out.write_all(&[0; 20]).unwrap();
            into.read_exact(&mut [0; 20]).unwrap();
        }
        Moved { sent: 200 * 30, received: 200 * 30 }
    });
    assert_app(&nettopd.settled(), pid, moved);
}
