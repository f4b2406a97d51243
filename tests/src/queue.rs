//! A daemon that decides about packets (NFQUEUE), as firewalls in user space are, and programs on a cgroup's hooks.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, setsid},
};

use crate::{Namespace, Parent, pairs::check};

const NETLINK_NETFILTER: i32 = 12;
/// Messages of linux/netfilter/nfnetlink_queue.h, of subsystem 3.
const NFQNL_MSG_CONFIG: u16 = 3 << 8 | 2;
const NFQNL_MSG_VERDICT: u16 = 3 << 8 | 1;
const NFQNL_MSG_PACKET: u16 = 3 << 8;
const HEADER: usize = 20;

/// Has every IPv4 packet that leaves a namespace wait for a verdict. `false` if the kernel has no such queue.
pub fn queue_output(namespace: &Namespace) -> bool {
    let tried = |program: &str, args: &str| {
        let mut command = std::process::Command::new(program);
        command.args(args.split_whitespace()).stderr(std::process::Stdio::null());
        namespace.inside(command).status().is_ok_and(|status| status.success())
    };
    tried("nft", "add table ip q")
        && tried("nft", "add chain ip q c { type filter hook output priority 0 ; }")
        && tried("nft", "add rule ip q c queue num 0")
        // Where nftables has no such expression, the older way.
        || tried("iptables", "-A OUTPUT -j NFQUEUE --queue-num 0")
}

/// Lets every packet of queue 0 pass, forever. Signals that it is ready.
pub fn let_all_pass(parent: &Parent) -> ! {
    let socket = crate::pairs::socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_NETFILTER);
    crate::pairs::set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16_i32 << 20));
    // Bind; then copy nothing of the packets but what is known about them.
    send(&socket, NFQNL_MSG_CONFIG, 1, &[1, 0, 0, 0]);
    send(&socket, NFQNL_MSG_CONFIG, 2, &[0, 0, 0, 0, 1]);
    parent.signal_ready();
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let into = buffer.as_mut_ptr().cast();
        // SAFETY: the kernel writes no more than the buffer holds.
        let received = check(unsafe { libc::recv(socket.as_raw_fd(), into, buffer.len(), 0) });
        let mut message = &buffer[..usize::try_from(received).unwrap()];
        while message.len() > HEADER {
            let len = u32::from_ne_bytes(message[..4].try_into().unwrap()) as usize;
            if u16::from_ne_bytes(message[4..6].try_into().unwrap()) == NFQNL_MSG_PACKET {
                // The first attribute begins with the packet's number.
                let verdict = [&1_u32.to_be_bytes()[..], &message[HEADER + 4..HEADER + 8]].concat();
                send(&socket, NFQNL_MSG_VERDICT, 2, &verdict);
            }
            message = &message[len.next_multiple_of(4).min(message.len())..];
        }
    }
}

/// Sends a message about queue 0 with one attribute.
fn send(socket: &OwnedFd, kind: u16, attribute: u16, value: &[u8]) {
    const NLM_F_REQUEST: u16 = 1;
    let value_len = u16::try_from(4 + value.len()).unwrap();
    let mut message = vec![0; 4];
    message.extend([kind.to_ne_bytes(), NLM_F_REQUEST.to_ne_bytes()].concat());
    // Number and sender, family and version, number of the queue.
    message.extend([0; 12]);
    message.extend([value_len.to_ne_bytes(), attribute.to_ne_bytes()].concat());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let len = u32::try_from(message.len()).unwrap().to_ne_bytes();
    message[..4].copy_from_slice(&len);
    // SAFETY: the kernel reads the message.
    check(unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) });
}

/// A cgroup of version 2, removed when dropped.
pub struct Cgroup(PathBuf);

/// Where the hierarchy is mounted.
fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| Vec::from_iter(line.split(' ')));
    mounts.find(|mount| mount[2] == "cgroup2").expect("nettopd needs cgroup2")[1].into()
}

impl Cgroup {
    pub fn new() -> Self {
        let path = root().join(format!("nettop-tests-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Moves the calling process into it.
    pub fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").unwrap();
    }

    /// Refuses what its processes send, as `IPAddressDeny=any` of systemd, until the result is dropped.
    pub fn refuse_output(&self) -> Attached {
        const BPF_F_ALLOW_MULTI: u64 = 2;
        Attached::new(&self.0, 0, BPF_F_ALLOW_MULTI)
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

const BPF_CGROUP_INET_EGRESS: u64 = 1;

/// A program on a cgroup's egress hook.
pub struct Attached {
    _descriptors: [OwnedFd; 2],
    detach: [u64; 2],
}

impl Attached {
    const BPF_PROG_ATTACH: i64 = 8;
    const BPF_PROG_DETACH: i64 = 9;

    /// A `verdict` of 1 lets all pass, 0 nothing.
    fn new(cgroup: &Path, verdict: u64, flags: u64) -> Self {
        const BPF_PROG_LOAD: i64 = 5;
        const BPF_PROG_TYPE_CGROUP_SKB: u64 = 8;
        // r0 = verdict; exit.
        let instructions = [0xb7_u64 | verdict << 32, 0x95];
        let mut load = [0_u64; 9];
        load[0] = BPF_PROG_TYPE_CGROUP_SKB | 2 << 32;
        (load[1], load[2]) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
        // `expected_attach_type`, behind the name and the device.
        load[8] = BPF_CGROUP_INET_EGRESS << 32;
        let program = bpf(BPF_PROG_LOAD, &mut load);
        // SAFETY: a descriptor that bpf(2) has just returned.
        let program = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(program).unwrap()) };
        let cgroup = fs::File::open(cgroup).unwrap().into();
        let mut attach = [number(&cgroup) | number(&program) << 32, BPF_CGROUP_INET_EGRESS | flags << 32];
        bpf(Self::BPF_PROG_ATTACH, &mut attach);
        Self { _descriptors: [program, cgroup], detach: [attach[0], BPF_CGROUP_INET_EGRESS] }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        bpf(Self::BPF_PROG_DETACH, &mut self.detach);
    }
}

/// A program that has the root's egress hook for itself, and lets all pass. A process of its own detaches it when this is
/// dropped, or its maker ends in any other way.
pub struct Exclusive {
    holder: Pid,
    /// Closed to end it.
    channel: Option<UnixStream>,
}

impl Exclusive {
    /// `None` if a program is there already: it would be replaced, or does not share the hook.
    pub fn on_root() -> Option<Self> {
        const BPF_PROG_QUERY: i64 = 16;
        let root = root();
        let cgroup = fs::File::open(&root).unwrap().into();
        let mut query = [number(&cgroup) | BPF_CGROUP_INET_EGRESS << 32, 0, 0, 0];
        bpf(BPF_PROG_QUERY, &mut query);
        // `prog_cnt`.
        if query[3] != 0 {
            return None;
        }
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        // SAFETY: the child attaches, waits and exits without returning; scenarios run one at a time.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                drop(theirs);
                ours.read_exact(&mut [0]).expect("the hook cannot be held");
                Some(Self { holder: child, channel: Some(ours) })
            }
            ForkResult::Child => {
                drop(ours);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    // Who ends a scenario that hangs ends its process group.
                    setsid().unwrap();
                    let _attached = Attached::new(&root, 1, 0);
                    theirs.write_all(&[1]).unwrap();
                    let _ = theirs.read(&mut [0]);
                }));
                // SAFETY: ends the child without the test harness's own exit handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.channel = None;
        let _ = waitpid(self.holder, None);
    }
}

fn number(fd: &OwnedFd) -> u64 {
    u64::try_from(fd.as_raw_fd()).unwrap()
}

/// bpf(2), of a command whose attributes are `attributes`.
fn bpf<T>(command: i64, attributes: &mut T) -> u64 {
    // SAFETY: the kernel reads and writes a live value of the size it is given.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) } as isize)
}
