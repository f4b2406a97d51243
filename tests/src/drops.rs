//! Questions about drops: to nettopd's documents, and to the kernel's own statistics.

use nettop_model::{
    Snapshot,
    drops::{Class, DropReport},
};

use crate::Namespace;

/// Drops of a namespace for one reason.
pub fn drops<'a>(document: &'a Snapshot, namespace: &Namespace, reason: &str) -> Vec<&'a DropReport> {
    document.drops.iter().filter(|drop| drop.netns == Some(namespace.inode()) && drop.reason == reason).collect()
}

/// Drops of a namespace that lost something.
pub fn lost<'a>(document: &'a Snapshot, namespace: &Namespace) -> Vec<&'a DropReport> {
    let drops = document.drops.iter().filter(|drop| drop.netns == Some(namespace.inode()));
    drops.filter(|drop| drop.class != Class::Lifecycle).collect()
}

/// Events of TCP of one kind and process.
pub fn tcp(document: &Snapshot, event: &str, pid: u32) -> u64 {
    let of = document.tcp.iter().filter(|found| found.event == event && found.pid == Some(pid));
    of.map(|event| event.count.total).sum()
}

pub fn packets(drops: &[&DropReport]) -> u64 {
    drops.iter().map(|drop| drop.total.packets).sum()
}

/// The function in which a drop happened.
pub fn function(drop: &DropReport) -> &str {
    drop.location.split('+').next().unwrap()
}

/// A counter of /proc/net/snmp.
pub fn snmp(namespace: &Namespace, protocol: &str, counter: &str) -> u64 {
    statistic(namespace, "snmp", protocol, counter)
}

/// A counter of /proc/net/netstat.
pub fn netstat(namespace: &Namespace, protocol: &str, counter: &str) -> u64 {
    statistic(namespace, "netstat", protocol, counter)
}

fn statistic(namespace: &Namespace, file: &str, protocol: &str, counter: &str) -> u64 {
    let text = namespace.enter(|| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap());
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let names = lines.next().unwrap().split_whitespace();
    let values = lines.next().unwrap().split_whitespace();
    names.zip(values).find(|(name, _)| *name == counter).unwrap().1.parse().unwrap()
}

/// Has nftables count and drop what passes a hook and matches.
pub fn nft_drop(namespace: &Namespace, hook: &str, matches: &str) {
    let chain = format!("add chain inet t c {{ type filter hook {hook} priority 0 ; }}");
    namespace.run("nft", &format!("add table inet t ; {chain} ; add rule inet t c {matches} counter drop"));
}

/// One of each eight TCP packets with data to port 4000, by the number in its header: sent again, it has another.
pub const LOSSY: &str = "ip length > 100 tcp dport 4000 @nh,32,16 & 0x7 == 3";

/// Packets that the rules of nftables in a namespace have counted.
pub fn nft_counted(namespace: &Namespace) -> u64 {
    let rules = namespace.run("nft", "list ruleset");
    let counts = rules.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
