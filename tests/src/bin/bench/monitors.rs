//! The monitors that are compared, each started and stopped for every round.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    programs::{BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType},
};

use crate::traffic::Load;

/// nettop.stp as a bpftrace script: the same keys, the same maps.
const BPFTRACE: &str = "\
tracepoint:net:net_dev_queue { @tx[pid, uid, args.ifindex, comm] = count(); @txb[pid, uid, args.ifindex, comm] = sum(args.len); } \
tracepoint:net:netif_receive_skb { @rx[pid, uid, comm] = count(); @rxb[pid, uid, comm] = sum(args.len); }";

/// One way to watch.
pub enum Mode {
    Nothing,
    /// Programs that do nothing on the hooks that this load passes.
    Empty {
        object: String,
        load: Load,
    },
    Nettopd(String),
    /// Another build of nettopd, which the environment variable NETTOPD_BASE names.
    Base(String),
    Peer {
        name: &'static str,
        args: Vec<&'static str>,
    },
}

/// A running monitor, stopped when dropped.
pub enum Monitor {
    Nothing,
    Programs { _ebpf: Box<Ebpf> },
    Process(Child),
}

impl Mode {
    /// No monitor first and the floor second, then nettopd and every peer that is installed.
    pub fn available(nettopd: &str, empty: &str, load: Load) -> Vec<Self> {
        let peers: [(&str, Vec<&str>); 3] = [
            ("nethogs", vec!["-a", "-t", "-C", "lo"]),
            ("bandwhich", vec!["--raw", "-n", "-i", "lo"]),
            ("bpftrace", vec!["-e", BPFTRACE]),
        ];
        let mut modes = vec![Self::Nothing, Self::Empty { object: empty.into(), load }, Self::Nettopd(nettopd.into())];
        modes.extend(std::env::var("NETTOPD_BASE").ok().map(Self::Base));
        let is_installed = |name: &str| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
        };
        for (name, args) in peers {
            let peer = Self::Peer { name, args };
            if !is_installed(name) {
                println!("{name}: not installed");
            } else if peer.start().is_ok() {
                modes.push(peer);
            } else {
                println!("{name}: does not run here");
            }
        }
        modes
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "no monitor",
            Self::Empty { .. } => "4 empty programs",
            Self::Nettopd(_) => "nettopd",
            Self::Base(_) => "nettopd, base",
            Self::Peer { name, .. } => name,
        }
    }

    pub fn start(&self) -> anyhow::Result<Monitor> {
        match self {
            Self::Nothing => Ok(Monitor::Nothing),
            Self::Empty { object, load } => Ok(Monitor::Programs { _ebpf: Box::new(attach_empty(object, *load)?) }),
            Self::Nettopd(path) | Self::Base(path) => {
                let mut child = Command::new(path).args(["--format", "ndjson", "1"]).stdout(Stdio::piped()).spawn()?;
                let stdout = child.stdout.take().context("nettopd has no output")?;
                let mut reader = BufReader::new(stdout);
                let mut line = String::new();
                reader.read_line(&mut line)?;
                std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                Ok(Monitor::Process(child))
            }
            Self::Peer { name, args } => {
                let mut child = Command::new(name).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
                // The peers have no sign of being ready.
                std::thread::sleep(Duration::from_secs(1));
                anyhow::ensure!(child.try_wait()?.is_none(), "{name} ended by itself");
                Ok(Monitor::Process(child))
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn attach_empty(object: &str, load: Load) -> anyhow::Result<Ebpf> {
    let mut ebpf = Ebpf::load(&fs::read(object)?)?;
    let btf = aya::Btf::from_sys_fs()?;
    let cgroup = cgroup2()?;
    for (name, attach_type) in [("packet_tx", CgroupSkbAttachType::Egress), ("packet_rx", CgroupSkbAttachType::Ingress)]
    {
        let program: &mut CgroupSkb = ebpf.program_mut(name).context("no such program")?.try_into()?;
        program.load()?;
        program.attach(&cgroup, attach_type, CgroupAttachMode::Single)?;
    }
    let receive = match load {
        Load::Udp => "sock_recv_length",
        Load::Tcp => "tcp_rcv_space_adjust",
        Load::Drop => "kfree_skb",
    };
    for name in ["sock_send_length", receive] {
        let program: &mut BtfTracePoint = ebpf.program_mut(name).context("no such program")?.try_into()?;
        program.load(name, &btf)?;
        program.attach()?;
    }
    Ok(ebpf)
}

fn cgroup2() -> anyhow::Result<File> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).context("cgroup2 is not mounted")?;
    Ok(File::open(line.split(' ').nth(1).context("a mount without a path")?)?)
}
