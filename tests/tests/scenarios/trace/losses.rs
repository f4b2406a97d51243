//! Calls that are counted, and not shown.

use super::*;

#[test]
fn calls_of_32_bit_programs_are_not_taken_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let old = Process::start(None, move |_| {
        while !gate(&inside).exists() {
            sleep(Duration::from_millis(20));
        }
        // 41 is `dup` there and `socket` here; 359 is `socket` there.
        calls::call_32bit(41);
        calls::call_32bit(359);
        calls::shutdown(-101);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    });
    let trace = Trace::documents(&["--backend", "tracepoint", "-p", &old.pid().to_string()]);
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, _) = trace.finish(None);
    let records = Trace::records(&lines);
    if records.is_empty() {
        return skip("this kernel runs no programs of 32 bits");
    }
    assert!(records.iter().all(|record| record.call == "shutdown") && records.len() == 2, "{records:#?}");
    assert!(said.contains("nettopd: 1 calls of 32-bit programs are not shown\n"), "{said}");
}

#[test]
fn calls_by_io_uring_are_counted_at_the_end() {
    use io_uring::{IoUring, opcode, types::Fd};
    if nettop_tests::kernel() < (6, 4) || IoUring::new(2).is_err() {
        return skip("no io_uring_submit_req");
    }
    let alone = Namespace::new();
    let ringer = Process::start(Some(&alone), |parent| {
        let mut ring = IoUring::new(2).unwrap();
        parent.signal_ready();
        parent.wait_for_parent();
        let send = opcode::Send::new(Fd(-1), std::ptr::null(), 0).build();
        let nothing = opcode::Nop::new().build();
        for operation in [&send, &nothing, &send] {
            // SAFETY: nothing is handed over.
            unsafe { ring.submission().push(operation) }.unwrap();
            ring.submit_and_wait(1).unwrap();
            ring.completion().next().unwrap();
        }
        Moved::default()
    });
    ringer.wait_until_ready();
    let mut command = nettopd_command();
    command.args(["trace", "--format", "csv", "--backend", "tracepoint", "-p", &ringer.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    ringer.go();
    ringer.finish();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(said.contains("\nnettopd: 2 socket calls by io_uring are not shown\n"), "{said}");
}
