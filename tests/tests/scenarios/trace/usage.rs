//! Commands that are started, pipes that are closed, and wrong usage.

use super::*;

#[test]
fn a_command_ends_as_it_would_without() {
    let code = |args: &[&str]| run(&[&["-d", "--"], args].concat()).status.code();
    assert_eq!(code(&["sleep", "0"]), Some(0));
    assert_eq!(code(&["sleep", "x"]), Some(1));
    let absent = run(&["-d", "--", "/nettopd-no-such-command"]);
    assert_eq!(absent.status.code(), Some(127));
    let said = String::from_utf8_lossy(&absent.stderr);
    assert!(said.starts_with("nettopd: cannot run /nettopd-no-such-command: ") && said.lines().count() == 1, "{said}");
    // nettopd passes the signal on.
    let trace = Trace::documents(&["-d", "--", "sleep", "1000"]);
    let (_, said, code) = trace.finish(Some(Signal::SIGTERM));
    assert_eq!(code, Some(128 + 15));
    assert_eq!(summary(&said), [0, 0, 0]);
}

#[test]
fn a_command_is_traced_from_its_first_call() {
    let output = run(&["-d", "--", "ss", "-tn"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let steps = text.lines().filter(|line| line.contains(" ss("));
    let first: Vec<&str> = steps.take(2).map(|line| line.split_once("): ").unwrap().1).collect();
    assert_eq!(first[0], "-> socket");
    assert!(first[1].starts_with("<- socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_SOCK_DIAG) = "), "{text}");
    // Its own output is among the lines.
    assert!(text.lines().any(|line| line.starts_with("State")), "{text}");
}

#[test]
fn head_ends_it_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let knocker = Process::start(None, move |_| {
        knock(&gate(&inside));
        Moved::default()
    });
    let mut command = nettopd_command();
    command.args(["trace", "-d", "-p", &knocker.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("-> "), "{line}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
    let counted = run(&["-d", "--count", "3", "-p", &knocker.pid().to_string()]);
    assert_eq!(String::from_utf8_lossy(&counted.stdout).lines().count(), 3);
    fs::write(gate(folder.path()), "").unwrap();
}

#[test]
fn all_traces_every_process_but_nettopd() {
    let trace = Trace::documents(&["--all", "-d"]);
    let own = trace.child.id();
    calls::shutdown(-101);
    trace.wait_for("-101, SHUT_RD");
    let (lines, ..) = trace.finish(Some(Signal::SIGINT));
    let records = Trace::records(&lines);
    assert!(records.iter().all(|record| record.pid != own), "{records:#?}");
}

#[test]
fn wrong_usage_is_reported_in_one_line() {
    for (args, said) in [
        (
            &[][..],
            "nettopd: whose calls? choose by -p PID, -c NAME, --unit, --container, --pod, -- COMMAND, or --all\n",
        ),
        (&["-p", "4294967295"], "nettopd: there is no process 4294967295\n"),
        (&["-p", "0"], "nettopd: there is no process 0\n"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    }
    assert_eq!(run(&["-p", "x"]).status.code(), Some(2));
    // A name that is not kept in full is known by its beginning; too many are refused.
    let many: Vec<&str> = ["-c", "x"].repeat(17);
    assert_eq!(run(&many).status.code(), Some(2));
    let output = run(&["--backend", "kprobe", "-c", "x"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("back end kprobe cannot be used for socket calls"));
}
