//! Network namespaces that live as long as a value: a sleeping process holds each.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsRawFd as _,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use crate::{amount, child::Child, hang_timeout, invariants, sockets};

/// After so long TCP sends something again; in an emulated machine, which may stand still for two seconds, later.
pub fn rto_min() -> String {
    format!("{}s", amount(2, 6))
}

/// Brings up the caller's lo. Over it TCP waits some seconds before it sends something again, not 0.2: a busy machine
/// acknowledges that late, and what is sent again to a connection in TIME_WAIT is answered past every hook.
pub fn set_up_lo() {
    // Tail loss probes do not wait for `rto_min` before 6.11.
    fs::write("/proc/sys/net/ipv4/tcp_early_retrans", "0").unwrap();
    let rto_min = rto_min();
    ip_lines(
        Command::new("ip"),
        &[
            "link set lo up",
            &format!(
                "route change local 127.0.0.1 table local dev lo proto kernel scope host src 127.0.0.1 rto_min {rto_min}"
            ),
            // The kernel's own route of IPv6 cannot be changed.
            "route del local ::1 table local dev lo",
            &format!("route add local ::1 table local dev lo metric 1 rto_min {rto_min}"),
        ],
    );
}

/// Runs several lines in one process, `ip` with what it needs to run inside: in an emulated machine each takes 0.1 s.
fn ip_lines(mut ip: Command, lines: &[&str]) {
    let mut child = ip.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip failed: {lines:#?}");
}

/// A network namespace with its loopback device up.
pub struct Namespace {
    holder: Child,
    inode: u32,
}

/// An interface's own counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub rx_packets: u64,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        invariants::release(self.inode);
    }
}

impl Namespace {
    #[expect(clippy::new_without_default, reason = "making a namespace is no default")]
    pub fn new() -> Self {
        let holder = Child::start(|ready| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("scenarios need root");
            ready.signal_ready();
            ready.wait_for_parent();
        });
        holder.wait_until_ready();
        let inode = netns_inode(format!("/proc/{}/ns/net", holder.pid()));
        let namespace = Self { holder, inode };
        invariants::own(inode, namespace.cookie());
        // No noise but what a scenario asks for.
        namespace.write("/proc/sys/net/ipv6/conf/default/router_solicitations", "0");
        namespace.write("/proc/sys/net/ipv6/conf/default/accept_ra", "0");
        namespace.write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
        namespace.write("/proc/sys/net/ipv6/conf/default/mldv2_unsolicited_report_interval", "10");
        namespace.enter(set_up_lo);
        namespace
    }

    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    pub fn file(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.pid())).unwrap()
    }

    /// Inode number, as reports have it.
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// The part of its cookie that reports have: the next one with its inode number has another.
    pub fn cookie(&self) -> u32 {
        self.enter(netns_cookie)
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &str) {
        assert!(self.try_ip(args), "ip {args} failed");
    }

    /// Runs `ip` inside, once for all lines.
    pub fn ip_lines(&self, lines: &[&str]) {
        ip_lines(self.inside(Command::new("ip")), lines);
    }

    /// Runs `ip` inside, for what the kernel may lack.
    pub fn try_ip(&self, args: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(args.split_whitespace());
        self.inside(command).status().unwrap().success()
    }

    /// Runs `tc` inside, for what the kernel may lack.
    pub fn try_tc(&self, args: &str) -> bool {
        let mut command = Command::new("tc");
        command.args(args.split_whitespace());
        self.inside(command).status().unwrap().success()
    }

    /// Runs a program inside and returns what it printed.
    pub fn run(&self, program: &str, args: &str) -> String {
        let mut command = Command::new(program);
        command.args(args.split_whitespace());
        let output = self.inside(command).output().unwrap();
        assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as [`set_up_lo`] over another device, once it is up.
    pub fn retransmit_late_over(&self, device: &str) {
        let shown =
            ["-4", "-6"].map(|family| self.run("ip", &format!("{family} route show dev {device} proto kernel")));
        let routes = shown.iter().flat_map(|shown| shown.lines());
        let late = routes.map(|route| format!("route change {route} dev {device} proto kernel rto_min {}", rto_min()));
        let late: Vec<String> = late.collect();
        self.ip_lines(&late.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// A command that will run inside.
    pub fn inside(&self, mut command: Command) -> Command {
        let file = self.file();
        // SAFETY: setns is async-signal-safe.
        unsafe { command.pre_exec(move || Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)) };
        command
    }

    /// Runs something on a thread inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = self.file();
        let inside = move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    /// The counters of a device, read by rtnetlink through `ip`.
    pub fn counters(&self, device: &str) -> Counters {
        let stats = &self.link(device)["stats64"];
        let count = |direction: &str, what: &str| stats[direction][what].as_u64().unwrap();
        Counters {
            tx_bytes: count("tx", "bytes"),
            tx_packets: count("tx", "packets"),
            rx_bytes: count("rx", "bytes"),
            rx_packets: count("rx", "packets"),
        }
    }

    /// Waits until a device can send: its queue is there only once the kernel has noticed the carrier, up to 1 s later.
    pub fn wait_until_up(&self, device: &str) {
        let deadline = Instant::now() + hang_timeout();
        while self.link(device)["operstate"] != "UP" {
            assert!(Instant::now() < deadline, "{device} does not come up");
            sleep(Duration::from_millis(20));
        }
    }

    fn link(&self, device: &str) -> serde_json::Value {
        let mut command = Command::new("ip");
        command.args(["-json", "-stats", "link", "show", "dev", device]);
        let output = self.inside(command).output().unwrap();
        let mut links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        links[0].take()
    }

    /// Writes a setting from inside.
    pub fn write(&self, path: &str, value: &str) {
        self.enter(|| fs::write(path, value).unwrap());
    }
}

/// Inode number of the namespace that a file in /proc stands for, as reports have it.
pub fn netns_inode(file: impl AsRef<Path>) -> u32 {
    u32::try_from(fs::metadata(file).unwrap().ino()).unwrap()
}

/// Low half of the caller's namespace cookie.
pub fn netns_cookie() -> u32 {
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = sockets::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).unwrap();
    let (fd, into) = (socket.as_raw_fd(), (&raw mut cookie).cast());
    // SAFETY: the kernel writes at most `size` bytes into a live value.
    sockets::check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, into, &raw mut size) } as isize);
    u32::try_from(cookie & u64::from(u32::MAX)).unwrap()
}

/// Two namespaces joined by a veth pair: `v0` with 10.0.0.1 and fd00::1, `v1` with 10.0.0.2 and fd00::2.
pub fn veth_pair() -> (Namespace, Namespace) {
    let (a, b) = (Namespace::new(), Namespace::new());
    join(&a, &b);
    (a, b)
}

/// Joins two namespaces as [`veth_pair`] does.
pub fn join(a: &Namespace, b: &Namespace) {
    let pair = format!("link add v0 type veth peer name v1 netns {}", b.pid());
    for (namespace, before, device, host) in [(a, Some(pair.as_str()), "v0", 1), (b, None, "v1", 2)] {
        let addresses =
            [format!("addr add 10.0.0.{host}/24 dev {device}"), format!("addr add fd00::{host}/64 dev {device} nodad")];
        let [v4, v6] = addresses.each_ref().map(String::as_str);
        let up = format!("link set {device} up");
        namespace.ip_lines(&before.into_iter().chain([v4, v6, &up]).collect::<Vec<_>>());
    }
    for (namespace, device) in [(a, "v0"), (b, "v1")] {
        namespace.wait_until_up(device);
        namespace.retransmit_late_over(device);
    }
}

/// Two namespaces with a router between: 10.1.0.2 behind `v0` and 10.2.0.2 behind `v1` of the router.
pub fn routed() -> (Namespace, Namespace, Namespace) {
    let (a, router, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (number, (host, device)) in [(&a, "v0"), (&b, "v1")].into_iter().enumerate() {
        let network = format!("10.{}.0", number + 1);
        router.ip_lines(&[
            &format!("link add {device} type veth peer name v netns {}", host.pid()),
            &format!("addr add {network}.1/24 dev {device}"),
            &format!("link set {device} up"),
        ]);
        host.ip_lines(&[&format!("addr add {network}.2/24 dev v"), "link set v up"]);
        host.wait_until_up("v");
        host.ip(&format!("route add default via {network}.1 rto_min {}", rto_min()));
    }
    router.write("/proc/sys/net/ipv4/ip_forward", "1");
    (a, router, b)
}
