//! The same calls in strace.

use super::*;

/// Lines of strace with contents left out, behind the last marker.
fn strace_lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let calls = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    behind_marker(calls.map(without_contents).collect())
}

fn behind_marker(mut lines: Vec<String>) -> Vec<String> {
    let marker = lines.iter().rposition(|line| line.starts_with(calls::MARKER));
    lines.split_off(marker.map_or(0, |last| last + 1))
}

fn without_contents(line: &str) -> String {
    let mut shown = line.to_owned();
    let mut from = 0;
    while let Some(found) = shown[from..].find("iov_base=\"") {
        from = cut(&mut shown, from + found + "iov_base=".len());
    }
    let is_buffer = ["sendto(", "recvfrom("].iter().any(|call| line.starts_with(call));
    if is_buffer && let Some(comma) = shown.find(", \"") {
        cut(&mut shown, comma + 2);
    }
    shown
}

/// Replaces what is between quotes from here on, and returns where it ends.
fn cut(line: &mut String, from: usize) -> usize {
    let mut end = from + 1;
    while line.as_bytes()[end] != b'"' {
        end += if line.as_bytes()[end] == b'\\' { 2 } else { 1 };
    }
    end += 1;
    if end == from + 2 {
        return end;
    }
    let more = if line[end..].starts_with("...") { 3 } else { 0 };
    line.replace_range(from..end + more, "\"\"...");
    from + 5
}

#[test]
fn the_same_calls_and_results_as_strace() {
    let alone = Namespace::new();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().to_owned();
    let worker = Process::start(Some(&alone), move |_| {
        knock(&gate(&inside));
        calls::script(&inside);
        // SAFETY: ends the child; a report by its channel would be calls, too.
        unsafe { libc::_exit(0) }
    });
    let pid = worker.pid().to_string();
    let files = folder.path().join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-ff", "-qq", "-a", "1", "-e", "trace=network", "-e", "signal=none"]);
    strace.args(["-p", &pid, "-o"]).arg(&files);
    let mut strace = alone.inside(strace).stderr(Stdio::null()).spawn().unwrap();
    let trace = Trace::start(&["--decode", "-p", &pid]);
    trace.wait_for(calls::MARKER);
    let deadline = Instant::now() + hang_timeout();
    let first = folder.path().join(format!("strace.{pid}"));
    while !fs::read_to_string(&first).is_ok_and(|text| text.contains(calls::MARKER)) {
        assert!(Instant::now() < deadline, "strace does not come");
        sleep(Duration::from_millis(20));
    }
    fs::write(gate(folder.path()), "").unwrap();
    let (lines, said, code) = trace.finish(None);
    strace.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(summary(&said)[2], 0);
    let threads = text_lines_by_thread(&lines);
    // The process, its thread, and its child.
    assert_eq!(threads.len(), 3, "{threads:#?}");
    let mut compared = 0;
    for (tid, lines) in threads {
        let ours = lines.iter().filter_map(|line| line.split_once("<- ")).map(|(_, call)| call.to_owned());
        let ours = behind_marker(ours.collect());
        let theirs = strace_lines(&folder.path().join(format!("strace.{tid}")));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len(), "{ours:#?} {theirs:#?}");
        compared += ours.len();
    }
    assert!(compared > 80, "{compared} calls");
}
