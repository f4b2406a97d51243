//! Every format of fixed steps, byte for byte.

use bytemuck::Zeroable as _;
use nettop_common::{
    OwnerKey,
    trace::{CallStep, FIRST_FUNCTION, Function, Step, call, have, kind},
};
use nettop_kernel::events::Loss;

use super::*;
use crate::{
    render::{head::push_loss, trace::decode},
    sys::clock::fixed,
};

fn step(what: u32, kind: u32, elapsed_ns: u64, depth: u32, result: i64) -> Step {
    let owner = OwnerKey { start_time_ns: 1_000, tgid: 3611, uid: 1000 };
    let comm = *b"Xorg\0\0\0\0\0\0\0\0\0\0\0\0";
    Step { time_ns: 5_000_000_000, elapsed_ns, owner, result, comm, tid: 3612, what, depth, kind }
}

fn connect(kind: u32) -> CallStep {
    let mut found = CallStep::zeroed();
    found.step = step(call::CONNECT, kind, 105_999, 0, if kind == kind::ENTER { 0 } else { -111 });
    found.arguments = [3, 0x7ffd_0000_1000, 16, 0, 0, 0];
    found.address[..8].copy_from_slice(&[2, 0, 0, 80, 10, 0, 0, 1]);
    (found.address_bytes, found.have) = (16, have::ADDRESS);
    found
}

/// What a log writes of all steps.
fn written<L: Lines>(mut log: L, steps: &[L::Event]) -> String {
    let mut text = String::new();
    for step in steps {
        assert!(log.event(step, &mut text));
    }
    text
}

fn log(format: StreamFormat) -> Log {
    Log {
        format,
        ancestry: false,
        names: Names::default(),
        processes: Processes::new("/nonexistent"),
        records: None,
        clock: fixed::clock(),
        hooks: Vec::new(),
        targets: None,
    }
}

fn functions() -> Vec<Step> {
    let [outer, inner] =
        [Function::enter_sys_sendto, Function::enter_inner_sendmsg].map(|of| FIRST_FUNCTION + of as u32);
    vec![
        step(outer, kind::ENTER, 0, 0, 0),
        step(inner, kind::ENTER, 1_999, 1, 0),
        step(inner, kind::LEAVE, 28_000, 1, 0),
        step(outer, kind::LEAVE, 1_234_567_000, 0, 0),
        step(call::ACCEPT4, kind::LEAVE_UNENTERED, 0, 0, 5),
        step(call::RECVFROM, kind::LEAVE, 3_000, 0, -512),
    ]
}

#[test]
fn text_is_that_of_socket_trace_stp() {
    let expected = "     0 Xorg(3612): -> __sys_sendto
     1 Xorg(3612):  -> __sock_sendmsg
    28 Xorg(3612):  <- __sock_sendmsg
1234567 Xorg(3612): <- __sys_sendto
     0 Xorg(3612): -> accept4
     0 Xorg(3612): <- accept4
     3 Xorg(3612): <- recvfrom
";
    assert_eq!(written(log(StreamFormat::Text), &functions()), expected);
}

#[test]
fn decoded_text_is_strace_behind_the_arrow() {
    let mut restarted = connect(kind::LEAVE);
    (restarted.step.result, restarted.have) = (-512, 0);
    let steps = [connect(kind::ENTER), connect(kind::LEAVE), restarted, connect(kind::LEAVE_UNENTERED)];
    let address = r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.1")}"#;
    let expected = format!(
        "   105 Xorg(3612): -> connect
   105 Xorg(3612): <- connect(3, {address}, 16) = -1 ECONNREFUSED (Connection refused)
   105 Xorg(3612): <- connect(3, 0x7ffd00001000, 16) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
   105 Xorg(3612): -> connect
   105 Xorg(3612): <- connect(3, {address}, 16) = -1 ECONNREFUSED (Connection refused)
"
    );
    assert_eq!(written(Decoded(log(StreamFormat::Text)), &steps), expected);
}

#[test]
fn documents_have_every_member() {
    let expected = r#"{"event":"enter","time":"2026-01-01T00:00:05.000000Z","pid":3611,"tid":3612,"start_time_ns":1000,"uid":1000,"comm":"Xorg","call":"connect","depth":0,"elapsed_us":105,"result":null,"error":null,"arguments":null,"exe":null,"script":null,"cgroup":null,"unit":null,"container":null,"container_name":null,"image":null,"runtime":null,"pod":null,"pod_container":null,"workload":null,"parents":[],"login_uid":null,"session":null}
{"event":"leave","time":"2026-01-01T00:00:05.000000Z","pid":3611,"tid":3612,"start_time_ns":1000,"uid":1000,"comm":"Xorg","call":"connect","depth":0,"elapsed_us":105,"result":-1,"error":"ECONNREFUSED","arguments":"3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"10.0.0.1\")}, 16","exe":null,"script":null,"cgroup":null,"unit":null,"container":null,"container_name":null,"image":null,"runtime":null,"pod":null,"pod_container":null,"workload":null,"parents":[],"login_uid":null,"session":null}
"#;
    let steps = [connect(kind::ENTER), connect(kind::LEAVE)];
    assert_eq!(written(Decoded(log(StreamFormat::Ndjson)), &steps), expected);
    let shown = written(log(StreamFormat::Ndjson), &functions());
    let shown: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Functions have no results; what began before has no duration; what is to be restarted has not returned.
    assert_eq!((&shown[3]["elapsed_us"], &shown[3]["result"]), (&1_234_567.into(), &serde_json::Value::Null));
    assert_eq!((&shown[4]["elapsed_us"], &shown[4]["result"]), (&serde_json::Value::Null, &5.into()));
    assert_eq!((&shown[5]["result"], &shown[5]["error"]), (&serde_json::Value::Null, &"ERESTARTSYS".into()));
}

#[test]
fn csv_has_every_column() {
    let mut header = String::new();
    log(StreamFormat::Csv).header(&mut header);
    let columns = "time,event,pid,tid,start_time_ns,uid,comm,call,depth,elapsed_us,result,error,arguments,exe,script,parents,cgroup,unit,container,container_name,image,runtime,pod,pod_container,workload,login_uid,session,session_comm,argv,events_lost,runs_skipped\n";
    assert_eq!(header, columns);
    let expected = r#"2026-01-01T00:00:05.000000Z,enter,3611,3612,1000,1000,Xorg,connect,0,105,,,,,,,,,,,,,,,,,,,,,
2026-01-01T00:00:05.000000Z,leave,3611,3612,1000,1000,Xorg,connect,0,105,-1,ECONNREFUSED,"3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(""10.0.0.1"")}, 16",,,,,,,,,,,,,,,,,,
"#;
    let steps = [connect(kind::ENTER), connect(kind::LEAVE)];
    assert_eq!(written(Decoded(log(StreamFormat::Csv)), &steps), expected);
}

#[test]
fn what_was_not_copied_is_a_pointer_or_dots() {
    let mut found = CallStep::zeroed();
    found.step = step(call::SENDMSG, kind::LEAVE, 0, 0, 500);
    found.arguments = [3, 0x1000, 0, 0, 0, 0];
    assert_eq!(decode::arguments(&found), "3, 0x1000, 0");
    (found.have, found.vectors_read, found.control_bytes) = (have::MESSAGE | have::CONTROL, 2, 64);
    found.message = [0x2000, 16, 0x3000, 9, 0x4000, 300, 0];
    found.vectors[..2].copy_from_slice(&[[0x5000, 10], [0, 0]]);
    found.control[..16].copy_from_slice(&[300_u64.to_ne_bytes(), [41, 0, 0, 0, 50, 0, 0, 0]].concat());
    let shown = decode::arguments(&found);
    let vectors = r#"msg_iov=[{iov_base=""..., iov_len=10}, {iov_base=NULL, iov_len=0}, ...], msg_iovlen=9"#;
    assert!(shown.starts_with(&format!("3, {{msg_name=0x2000, msg_namelen=16, {vectors}, ")), "{shown}");
    let control = "msg_control=[{cmsg_len=300, cmsg_level=SOL_IPV6, cmsg_type=0x32, cmsg_data=";
    assert!(shown.contains(control) && shown.ends_with(", ...], msg_controllen=300, msg_flags=0}, 0"), "{shown}");
    // Of several messages, the first.
    found.step.what = call::SENDMMSG;
    found.arguments[2] = 3;
    (found.step.result, found.message_len, found.have) = (3, 500, found.have | have::MESSAGE_LEN);
    let shown = decode::arguments(&found);
    assert!(shown.starts_with("3, [{msg_hdr={") && shown.ends_with("}, msg_len=500}, ...], 3, 0"), "{shown}");
}

#[test]
fn losses_are_printed_in_every_format() {
    let shown = |format| {
        let mut text = String::new();
        push_loss(&mut text, log(format).form(), Loss { events: 7, runs_skipped: 2 });
        text
    };
    assert_eq!(shown(StreamFormat::Text), "[7 events lost]\n[2 runs of hooks skipped by the kernel]\n");
    assert!(shown(StreamFormat::Ndjson).ends_with("\"events_lost\":7,\"runs_skipped\":2}\n"));
    assert!(shown(StreamFormat::Csv).ends_with("Z,lost,,,,,,,,,,,,,,,,,,,,,,,,,,,,7,2\n"));
}
