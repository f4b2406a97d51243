//! Questions about drops: to nettopd's documents, and to the kernel's own statistics.

use serde_json::Value;

use crate::Namespace;

/// Drops of a namespace for one reason.
pub fn drops<'a>(document: &'a Value, namespace: &Namespace, reason: &str) -> Vec<&'a Value> {
    let drops = document["drops"].as_array().unwrap().iter();
    drops.filter(|drop| drop["netns"] == namespace.inode() && drop["reason"] == reason).collect()
}

/// Drops of a namespace that lost something.
pub fn lost<'a>(document: &'a Value, namespace: &Namespace) -> Vec<&'a Value> {
    let drops = document["drops"].as_array().unwrap().iter();
    drops.filter(|drop| drop["netns"] == namespace.inode() && drop["class"] != "lifecycle").collect()
}

/// Events of TCP of one kind and process.
pub fn tcp(document: &Value, event: &str, pid: u32) -> u64 {
    let events = document["tcp"].as_array().unwrap().iter();
    let of = events.filter(|found| found["event"] == event && found["pid"] == pid);
    of.map(|event| event["count"]["total"].as_u64().unwrap()).sum()
}

pub fn packets(drops: &[&Value]) -> u64 {
    drops.iter().map(|drop| drop["total"]["packets"].as_u64().unwrap()).sum()
}

/// The function in which a drop happened.
pub fn function(drop: &Value) -> &str {
    drop["location"].as_str().unwrap().split('+').next().unwrap()
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
    namespace.run("nft", "add table inet t");
    namespace.run("nft", &format!("add chain inet t c {{ type filter hook {hook} priority 0 ; }}"));
    namespace.run("nft", &format!("add rule inet t c {matches} counter drop"));
}

/// Of TCP to port 4000, of each eight packets with data one, by the number in its header: sent again, it has another.
pub const LOSSY: &str = "ip length > 100 tcp dport 4000 @nh,32,16 & 0x7 == 3";

/// Packets that the rules of nftables in a namespace have counted.
pub fn nft_counted(namespace: &Namespace) -> u64 {
    let rules = namespace.run("nft", "list ruleset");
    let counts = rules.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}
