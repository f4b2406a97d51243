//! A kernel that has no such member of a struct, made of this one by another name for it.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Command, Output},
};

use nettop_model::{check, sockets};
use nettop_tests::nettopd_command;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Members that all programs do without, by a part of their path that no other has, and no argument of a hook. Not every
/// kernel has all.
const DETAILS: [&str; 42] = [
    "__parent",
    "arg_end",
    "arg_start",
    "bytes_acked",
    "cgroups",
    "d_parent",
    "data_segs_in",
    "data_segs_out",
    "dentry",
    "dfl_cgrp",
    "exe_file",
    "has_vnet_hdr",
    "icsk_ulp_ops",
    "kn",
    "level",
    "mm",
    "mnt",
    "mnt_mountpoint",
    "mnt_parent",
    "mnt_root",
    "next",
    "opcode",
    "owner",
    "parent",
    "pg_vec",
    "pprev",
    "real_parent",
    "refs",
    "repair",
    "rmem_alloc",
    "rt6i_flags",
    "segs_in",
    "segs_out",
    "sk_ack_backlog",
    "sk_max_ack_backlog",
    "sk_user_data",
    "skc_reuse",
    "snd_cwnd",
    "srtt_us",
    "stack",
    "total_retrans",
    "user_ns",
];

/// Runs nettopd where these members have other names.
fn without(members: &[&str], args: &[&str]) -> Output {
    let mut types = fs::read(VMLINUX).unwrap();
    // `struct btf_header`: its own length, and where the names begin behind it.
    let number = |at: usize| u32::from_ne_bytes(types[at..at + 4].try_into().unwrap()) as usize;
    let names_at = number(4) + number(16);
    for member in members {
        let name = [b"\0", member.as_bytes(), b"\0"].concat();
        if let Some(at) = types[names_at..].windows(name.len()).position(|bytes| bytes == name) {
            types[names_at + at + 1] = b'\x7f';
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), types).unwrap();
    let mut command = Command::new("unshare");
    let script = format!("mount --bind \"$0\" {VMLINUX} && exec \"$@\"");
    command.args(["--mount", "sh", "-c", &script]).arg(file.path()).arg(nettopd_command().get_program()).args(args);
    command.env("NETTOPD_SOCKET", "").output().unwrap()
}

fn check(members: &[&str]) -> check::Document {
    let output = without(members, &["check", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: check::Document = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.proof.iter().all(|proof| proof.holds), "{members:?}: {:#?}", report.proof);
    report
}

#[test]
fn a_detail_that_is_not_there_is_null_and_costs_no_hook() {
    let report = check(&DETAILS);
    assert!(report.absent.len() > 38, "{:?}", report.absent);
    for member in ["tcp_sock.srtt_us", "inet_connection_sock.icsk_ulp_ops"] {
        assert!(report.absent.iter().any(|absent| absent.starts_with(member)), "{member}: {:?}", report.absent);
    }
    assert!(report.lacking.is_empty(), "{:?}", report.lacking);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = client.local_addr().unwrap().port();
    let details = |members: &[&str]| {
        let output = without(members, &["sockets", "--format", "json", "-i", &format!("tcp:{port}")]);
        let document: sockets::Document = serde_json::from_slice(&output.stdout).unwrap();
        let socket = document.sockets.into_iter().find(|socket| socket.local_port == Some(port)).unwrap();
        let tcp = socket.tcp.unwrap();
        (tcp.rtt_us.is_some(), tcp.cwnd_segments.is_some())
    };
    assert_eq!(details(&[]), (true, true));
    assert_eq!(details(&["srtt_us"]), (false, true));
}

#[test]
fn a_member_that_is_not_there_costs_the_hooks_that_read_it_and_no_others() {
    let whole = check(&[]);
    let report = check(&["tcp_gso_segs"]);
    assert_eq!(report.lacking, ["segments sent again and resets of TCP"], "{report:#?}");
    let lost: Vec<_> = report.purposes.iter().filter(|purpose| !purpose.attached).collect();
    assert_eq!(lost.len(), 1 + whole.purposes.iter().filter(|purpose| !purpose.attached).count(), "{lost:#?}");
    assert!(lost.iter().any(|purpose| purpose.purpose == "tcp retransmits and resets"), "{lost:#?}");
}
