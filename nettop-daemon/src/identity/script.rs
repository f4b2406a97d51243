//! The script that an interpreter runs, by its arguments.

use nettop_kernel::processes::Described;

/// Beginnings of interpreters' names: versions follow some of them.
const INTERPRETERS: [&str; 14] =
    ["bash", "dash", "sh", "zsh", "ksh", "python", "pypy", "perl", "ruby", "node", "php", "lua", "tclsh", "wish"];
/// Options after which no script comes: a command, an expression, a module.
const WITHOUT_SCRIPT: [&[u8]; 4] = [b"-c", b"-e", b"-m", b"-r"];

/// The script, as the interpreter was given it.
pub fn script(described: &Described) -> Option<Vec<u8>> {
    let program = described.program.as_deref()?.rsplit(|byte| *byte == b'/').next()?;
    let version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if !INTERPRETERS.iter().any(|name| program.strip_prefix(name.as_bytes()).is_some_and(version)) {
        return None;
    }
    let mut arguments = described.arguments.iter().skip(1);
    let first = arguments.by_ref().find(|argument| {
        !argument.starts_with(b"-") || WITHOUT_SCRIPT.contains(&argument.as_slice()) || *argument == b"-"
    })?;
    (!first.starts_with(b"-")).then(|| first.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(program: &str, arguments: &[&str]) -> Option<String> {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let described = Described { program: Some(program.into()), arguments, ..Described::default() };
        script(&described).map(|script| String::from_utf8(script).unwrap())
    }

    #[test]
    fn a_script_is_the_first_argument_that_is_no_option() {
        assert_eq!(of("/usr/bin/python3.11", &["python3", "-u", "/srv/export.py", "-x"]).unwrap(), "/srv/export.py");
        assert_eq!(of("/usr/bin/dash", &["/bin/sh", "./backup.sh"]).unwrap(), "./backup.sh");
        for (program, arguments) in [
            ("/usr/bin/bash", &["bash", "-c", "curl x"][..]),
            ("/usr/bin/bash", &["-bash"]),
            ("/usr/bin/python3", &["python3", "-m", "http.server"]),
            ("/usr/bin/python3", &["python3", "-"]),
            ("/usr/bin/curl", &["curl", "http://example.org"]),
            ("/usr/bin/shred", &["shred", "file"]),
        ] {
            assert_eq!(of(program, arguments), None, "{program} {arguments:?}");
        }
    }
}
