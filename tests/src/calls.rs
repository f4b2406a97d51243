//! Many socket calls, right and wrong ones, for what shows calls.

use std::{
    ffi::{c_int, c_void},
    mem::{size_of_val, zeroed},
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    ptr::{null, null_mut},
};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};

/// What [`marker`] looks like.
pub const MARKER: &str = "shutdown(-77, SHUT_RD)";

/// A call that fails, and that nobody else makes.
pub fn marker() {
    shutdown(-77);
}

/// A call that does nothing: with a bad descriptor it just fails.
pub fn shutdown(fd: c_int) {
    // SAFETY: a plain system call.
    unsafe { libc::shutdown(fd, libc::SHUT_RD) };
}

/// A system call as programs of 32 bits make them, without arguments.
#[cfg(target_arch = "x86_64")]
pub fn call_32bit(number: u64) {
    // SAFETY: a system call that fails; where the kernel runs no such programs, a signal ends the process.
    unsafe {
        std::arch::asm!(
            "mov {saved}, rbx", "mov ebx, -1", "int 0x80", "mov rbx, {saved}",
            saved = out(reg) _, inout("rax") number => _, in("rcx") -1_i64, in("rdx") -1_i64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _
        );
    }
}

/// Runs something in a child and waits for it.
pub fn in_child(work: impl FnOnce()) {
    // SAFETY: the child ends without returning; the caller has one thread that matters.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
        }
        ForkResult::Child => {
            work();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
    }
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: a plain system call.
    unsafe { libc::socket(family, kind, protocol) }
}

fn v4(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET.try_into().unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    }
}

fn v6(port: u16) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6.try_into().unwrap(),
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: std::net::Ipv6Addr::LOCALHOST.octets() },
        sin6_scope_id: 0,
    }
}

fn len<T>(value: &T) -> libc::socklen_t {
    size_of_val(value).try_into().unwrap()
}

fn bind<T>(fd: c_int, address: &T) -> c_int {
    // SAFETY: a live address of this length.
    unsafe { libc::bind(fd, std::ptr::from_ref(address).cast(), len(address)) }
}

fn connect<T>(fd: c_int, address: &T) -> c_int {
    // SAFETY: a live address of this length.
    unsafe { libc::connect(fd, std::ptr::from_ref(address).cast(), len(address)) }
}

fn set<T>(fd: c_int, level: c_int, option: c_int, value: &T) {
    // SAFETY: a live value of this length.
    unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(value).cast(), len(value)) };
}

fn get<const N: usize>(fd: c_int, level: c_int, option: c_int) {
    let mut value = [0_u8; N];
    let mut length = len(&value);
    // SAFETY: room of this length.
    unsafe { libc::getsockopt(fd, level, option, value.as_mut_ptr().cast(), &raw mut length) };
}

type Named = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

/// One of the calls that give an address, with room for so many bytes.
fn name(call: Named, fd: c_int, room: u32) -> c_int {
    // SAFETY: all zero is an address; there is more room than is given.
    unsafe {
        let mut address: libc::sockaddr_storage = zeroed();
        let mut length = room;
        call(fd, (&raw mut address).cast(), &raw mut length)
    }
}

/// Binds to a path of any bytes.
pub fn bind_path(path: &[u8]) {
    let fd = socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0);
    unix(fd, path, libc::bind);
}

type Given = unsafe extern "C" fn(c_int, *const libc::sockaddr, libc::socklen_t) -> c_int;

fn unix(fd: c_int, path: &[u8], call: Given) {
    let mut bytes = vec![1, 0];
    bytes.extend(path);
    // SAFETY: a live address of this length.
    unsafe { call(fd, bytes.as_ptr().cast(), bytes.len().try_into().unwrap()) };
}

fn send(fd: c_int, bytes: &[u8], flags: c_int) {
    // SAFETY: live bytes.
    unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
}

fn receive(fd: c_int, room: usize, flags: c_int) {
    let mut bytes = vec![0_u8; room];
    // SAFETY: room of this length.
    unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), room, flags) };
}

/// A bit of everything, and what can go wrong with it. Paths are made in a folder.
pub fn script(folder: &Path) {
    streams();
    datagrams();
    local(folder);
    options();
    others();
    mistakes();
    interrupted();
    std::thread::spawn(streams_refused).join().unwrap();
    in_child(streams_refused);
}

fn streams_refused() {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_TCP);
    connect(fd, &v4(9));
    let fd = socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
    connect(fd, &v6(9));
    get::<4>(fd, libc::SOL_SOCKET, libc::SO_ERROR);
}

fn streams() {
    let listener = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    set(listener, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32);
    bind(listener, &v4(4100));
    // SAFETY: plain system calls on descriptors of ours.
    unsafe {
        libc::listen(listener, 16);
        name(libc::getsockname, listener, 128);
        let [first, second, third] = [0; 3].map(|_| {
            let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            connect(fd, &v4(4100));
            fd
        });
        let accepted = name(libc::accept, listener, 128);
        let mut address: libc::sockaddr_in = zeroed();
        let mut length = len(&address);
        libc::accept4(listener, (&raw mut address).cast(), &raw mut length, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        libc::accept4(listener, null_mut(), null_mut(), 0);
        name(libc::getpeername, accepted, 128);
        // Less room than the address has.
        name(libc::getpeername, accepted, 4);
        send(first, b"hello, \"world\"", libc::MSG_NOSIGNAL);
        receive(accepted, 100, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        receive(accepted, 100, 0);
        receive(accepted, 100, libc::MSG_DONTWAIT);
        send(accepted, &[b'x'; 5000], libc::MSG_MORE);
        receive(first, 5000, libc::MSG_WAITALL);
        send(first, b"", 0);
        libc::shutdown(first, libc::SHUT_WR);
        receive(accepted, 100, 0);
        libc::shutdown(first, libc::SHUT_RDWR);
        libc::shutdown(second, 7);
        libc::close(third);
        libc::fcntl(listener, libc::F_SETFL, libc::O_NONBLOCK);
        name(libc::accept, listener, 16);
    }
}

fn datagrams() {
    let server = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP);
    bind(server, &v4(4101));
    let client = socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    let to = v4(4101);
    let six = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0);
    bind(six, &v6(4102));
    name(libc::getsockname, six, 28);
    let mut bytes = [0_u8; 64];
    // SAFETY: all pointers are to live values of the lengths that are given.
    unsafe {
        libc::sendto(client, bytes.as_ptr().cast(), 20, 0, (&raw const to).cast(), len(&to));
        let mut from: libc::sockaddr_storage = zeroed();
        let mut length = len(&from);
        libc::recvfrom(server, bytes.as_mut_ptr().cast(), 64, 0, (&raw mut from).cast(), &raw mut length);
        let mut vectors = [vector(&mut bytes[..8]), vector(&mut [])];
        let mut message: libc::msghdr = zeroed();
        message.msg_name = (&raw const to).cast_mut().cast();
        message.msg_namelen = len(&to);
        (message.msg_iov, message.msg_iovlen) = (vectors.as_mut_ptr(), 2);
        libc::sendmsg(client, &raw const message, libc::MSG_CONFIRM);
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = len(&from);
        libc::recvmsg(server, &raw mut message, 0);
        libc::recvmsg(server, &raw mut message, libc::MSG_DONTWAIT);
        message.msg_name = (&raw const to).cast_mut().cast();
        message.msg_namelen = len(&to);
        let mut several: [libc::mmsghdr; 1] = [libc::mmsghdr { msg_hdr: message, msg_len: 0 }];
        libc::sendmmsg(client, several.as_mut_ptr(), 1, 0);
        several[0].msg_hdr.msg_name = (&raw mut from).cast();
        several[0].msg_hdr.msg_namelen = len(&from);
        libc::recvmmsg(server, several.as_mut_ptr(), 1, libc::MSG_WAITFORONE, null_mut());
        connect(client, &to);
        send(client, &bytes, 0);
        // Shorter than what was sent.
        libc::recvfrom(server, bytes.as_mut_ptr().cast(), 3, libc::MSG_TRUNC, null_mut(), null_mut());
    }
}

fn vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

fn local(folder: &Path) {
    let path = [folder.as_os_str().as_bytes(), b"/s\x1b\"\n\xc3\xa4"].concat();
    let listener = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
    unix(listener, &[&path[..], b"\0"].concat(), libc::bind);
    name(libc::getsockname, listener, 128);
    let seq = socket(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0);
    unix(seq, b"\0nettopd\0test1", libc::bind);
    unix(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), b"/nowhere/at/all\0", libc::connect);
    unix(socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0), b"", libc::bind);
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors.
    unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) };
    // Three descriptors are passed on.
    let mut control = [0_u64; 8];
    let mut bytes = *b"pass";
    let mut vectors = [vector(&mut bytes)];
    // SAFETY: the control message has room, and all pointers are to live values.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (vectors.as_mut_ptr(), 1);
        message.msg_control = control.as_mut_ptr().cast::<c_void>();
        let fds: [c_int; 3] = [0, 1, 2];
        message.msg_controllen = libc::CMSG_SPACE(len(&fds)) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len(&fds)) as usize;
        libc::CMSG_DATA(header).cast::<[c_int; 3]>().write_unaligned(fds);
        libc::sendmsg(pair[0], &raw const message, 0);
        libc::recvmsg(pair[1], &raw mut message, libc::MSG_CMSG_CLOEXEC);
    }
}

fn options() {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
    set(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &second);
    set(fd, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 5 });
    set(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0");
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &1_i32);
    set(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno");
    set(fd, libc::IPPROTO_IP, libc::IP_TTL, &64_i32);
    set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1_i32);
    set(fd, libc::SOL_SOCKET, 999, &1_i32);
    set(fd, 999, 1, &1_i32);
    get::<8>(fd, libc::SOL_SOCKET, libc::SO_LINGER);
    get::<4>(fd, libc::SOL_SOCKET, libc::SO_TYPE);
    get::<4>(fd, libc::SOL_SOCKET, libc::SO_RCVBUF);
    get::<16>(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    get::<16>(fd, libc::SOL_SOCKET, libc::SO_ERROR);
    get::<16>(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION);
    get::<4>(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG);
    get::<4>(fd, libc::IPPROTO_IP, libc::IP_TOS);
    get::<4>(fd, libc::SOL_SOCKET, 999);
    let [one, other] = [0, 1].map(|_| socket(libc::AF_UNIX, libc::SOCK_STREAM, 0));
    get::<12>(one, libc::SOL_SOCKET, libc::SO_PEERCRED);
    get::<4>(other, libc::SOL_SOCKET, libc::SO_DOMAIN);
}

fn others() {
    let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
    // SAFETY: all zero is an address.
    let mut address: libc::sockaddr_nl = unsafe { zeroed() };
    address.nl_family = libc::AF_NETLINK.try_into().unwrap();
    address.nl_groups = 1;
    bind(netlink, &address);
    name(libc::getsockname, netlink, 12);
    let packet = socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0800_u16.to_be()));
    // SAFETY: as above.
    let mut link: libc::sockaddr_ll = unsafe { zeroed() };
    link.sll_family = libc::AF_PACKET.try_into().unwrap();
    link.sll_protocol = 3_u16.to_be();
    link.sll_ifindex = 1;
    bind(packet, &link);
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6);
}

fn mistakes() {
    socket(99, libc::SOCK_STREAM, 0);
    socket(libc::AF_INET, 9, 0);
    socket(libc::AF_INET, libc::SOCK_STREAM | 0x100, 0);
    socket(libc::AF_INET, libc::SOCK_STREAM, 999);
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    connect(-1, &v4(9));
    // Too short for any family.
    bind(fd, &0_u8);
    let nowhere = std::ptr::without_provenance_mut::<c_void>(8);
    // SAFETY: the kernel looks at pointers that lead nowhere, and refuses them.
    unsafe {
        libc::bind(fd, nowhere.cast(), 16);
        libc::connect(fd, null(), 16);
        libc::recvfrom(fd, nowhere, 5, 0, null_mut(), null_mut());
        libc::sendto(fd, null(), 0, 0, nowhere.cast(), 16);
        libc::getsockname(fd, nowhere.cast(), nowhere.cast());
        libc::getsockname(fd, null_mut(), null_mut());
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, nowhere, 4);
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, null(), 0);
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, nowhere, nowhere.cast());
        libc::sendmsg(fd, nowhere.cast(), libc::MSG_OOB);
        libc::recvmsg(fd, nowhere.cast(), 0);
        libc::listen(std::io::stdin().as_raw_fd(), -1);
        libc::socketpair(libc::AF_INET, libc::SOCK_STREAM, 0, [0; 2].as_mut_ptr());
        libc::accept(fd, null_mut(), null_mut());
        libc::recvmmsg(fd, null_mut(), 0, libc::MSG_DONTWAIT, null_mut());
        libc::sendmmsg(fd, nowhere.cast(), 1, 0);
        libc::shutdown(fd, libc::SHUT_RDWR);
    }
}

/// A signal ends a call that waits.
fn interrupted() {
    extern "C" fn nothing(_: c_int) {}
    let mut pair = [0; 2];
    // SAFETY: the handler does nothing; all structures are live, and zero where nothing is set.
    unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, null_mut());
        let soon = libc::itimerval { it_interval: zeroed(), it_value: libc::timeval { tv_sec: 0, tv_usec: 50_000 } };
        libc::setitimer(libc::ITIMER_REAL, &raw const soon, null_mut());
        receive(pair[0], 10, 0);
    }
}
