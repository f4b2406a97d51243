//! The script that an interpreter runs, by its arguments.

use nettop_kernel::processes::Described;

/// What an interpreter makes of its options.
struct Interpreter {
    /// Beginnings of its names: versions follow some of them.
    names: &'static [&'static str],
    /// Letters of options after which no script comes: a command, an expression, a module, standard input.
    without_script: &'static str,
    /// Letters of options with a value, which is the rest of the word, or the next.
    with_value: &'static str,
    /// Letters of options with a value that is always in the next word.
    with_next: &'static str,
    /// Letters of options whose value is the rest of the word.
    with_rest: &'static str,
    /// Long options with a value in the next word.
    long: &'static [&'static str],
    /// Words after which no script comes.
    ends: &'static [&'static str],
    /// `-` ends the options, and options begin with `+` as well.
    is_shell: bool,
}

/// By their manuals: bash(1), dash(1), zsh(1), python3(1), perlrun(1), ruby(1), node(1), php(1), lua(1), tclsh(1).
const INTERPRETERS: [Interpreter; 7] = [
    Interpreter {
        names: &["bash", "dash", "sh", "zsh", "ksh"],
        without_script: "cs",
        with_value: "",
        with_next: "oO",
        with_rest: "",
        long: &["--emulate", "--init-file", "--rcfile"],
        ends: &[],
        is_shell: true,
    },
    Interpreter {
        names: &["python", "pypy"],
        without_script: "cm",
        with_value: "WX",
        with_next: "",
        with_rest: "",
        long: &["--check-hash-based-pycs"],
        ends: &["-"],
        is_shell: false,
    },
    Interpreter {
        names: &["perl"],
        without_script: "eE",
        with_value: "I",
        with_next: "",
        // `-d:Trace`
        with_rest: ":CDFMimx",
        long: &[],
        ends: &["-"],
        is_shell: false,
    },
    Interpreter {
        names: &["ruby"],
        without_script: "e",
        with_value: "CEIXr",
        with_next: "",
        with_rest: "FKTWix",
        long: &["--disable", "--enable", "--encoding"],
        ends: &["-"],
        is_shell: false,
    },
    Interpreter {
        names: &["node"],
        without_script: "ep",
        with_value: "Cr",
        with_next: "",
        with_rest: "",
        long: &["--conditions", "--env-file", "--experimental-loader", "--import", "--loader", "--require"],
        ends: &["-", "--eval", "--print"],
        is_shell: false,
    },
    Interpreter {
        names: &["php"],
        without_script: "BERr",
        with_value: "Scdtz",
        with_next: "",
        with_rest: "",
        long: &["--define", "--docroot", "--php-ini", "--server"],
        // Behind `--` are arguments.
        ends: &["-", "--", "--run"],
        is_shell: false,
    },
    Interpreter {
        names: &["lua", "tclsh", "wish"],
        without_script: "",
        with_value: "el",
        with_next: "",
        with_rest: "",
        long: &["-encoding"],
        ends: &["-"],
        is_shell: false,
    },
];

/// What follows an option.
enum Next {
    /// So many values of it.
    Values(usize),
    Script,
    NoScript,
}

impl Interpreter {
    fn of_program(program: &[u8]) -> Option<&'static Self> {
        let version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        let is_it = |name: &&str| program.strip_prefix(name.as_bytes()).is_some_and(version);
        INTERPRETERS.iter().find(|interpreter| interpreter.names.iter().any(is_it))
    }

    /// None if the word is no option.
    fn read(&self, word: &[u8]) -> Option<Next> {
        let is = |name: &&str| word == name.as_bytes();
        if !(word.starts_with(b"-") || self.is_shell && word.starts_with(b"+")) {
            return None;
        }
        Some(match word {
            _ if self.ends.iter().any(is) => Next::NoScript,
            b"--" | b"-" => Next::Script,
            _ if self.long.iter().any(is) => Next::Values(1),
            _ if word.starts_with(b"--") => Next::Values(0),
            _ => self.read_letters(word),
        })
    }

    fn read_letters(&self, word: &[u8]) -> Next {
        let mut values = 0;
        for (index, letter) in word.iter().enumerate().skip(1) {
            let is_one_of = |letters: &str| letters.as_bytes().contains(letter);
            if is_one_of(self.without_script) {
                return Next::NoScript;
            }
            values += usize::from(is_one_of(self.with_next));
            if is_one_of(self.with_value) {
                return Next::Values(usize::from(index + 1 == word.len()));
            }
            if is_one_of(self.with_rest) {
                break;
            }
        }
        Next::Values(values)
    }
}

/// The script, as the interpreter was given it.
pub fn script(described: &Described) -> Option<Vec<u8>> {
    let program = described.program.as_deref()?.rsplit(|byte| *byte == b'/').next()?;
    let interpreter = Interpreter::of_program(program)?;
    let mut arguments = described.arguments.iter().skip(1);
    let script = loop {
        let word = arguments.next()?;
        match interpreter.read(word) {
            None => break word,
            Some(Next::Script) => break arguments.next()?,
            Some(Next::NoScript) => return None,
            Some(Next::Values(values)) => {
                for _ in 0..values {
                    arguments.next();
                }
            }
        }
    };
    (!script.is_empty()).then(|| script.clone())
}

/// A relative name from the directory in which the interpreter was started. That has no links: `..` is the one above.
pub fn resolved(script: Vec<u8>, directory: Option<&[u8]>) -> Vec<u8> {
    let Some(mut directory) = directory.filter(|_| !script.starts_with(b"/")) else { return script };
    let mut name = &script[..];
    loop {
        let (first, rest) = name.split_at(name.iter().position(|byte| *byte == b'/').unwrap_or(name.len()));
        match first {
            b"" | b"." => {}
            b".." => directory = &directory[..directory.iter().rposition(|byte| *byte == b'/').unwrap_or(0)],
            _ => break,
        }
        name = rest.strip_prefix(b"/").unwrap_or(rest);
        if name.is_empty() {
            return script;
        }
    }
    [directory, b"/", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(program: &str, arguments: &[&str]) -> Option<String> {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let described = Described { program: Some(program.into()), arguments, ..Described::default() };
        script(&described).map(|script| String::from_utf8(script).unwrap())
    }

    #[test]
    fn a_script_is_the_first_argument_that_is_no_option_and_no_value_of_one() {
        for (program, arguments, script) in [
            ("/usr/bin/python3.11", &["python3", "-u", "/srv/export.py", "-x"][..], "/srv/export.py"),
            ("/usr/bin/python3", &["python3", "-W", "ignore", "-Xdev", "x.py"], "x.py"),
            ("/usr/bin/python3", &["python3", "-Wignore::ImportWarning", "x.py"], "x.py"),
            ("/usr/bin/dash", &["/bin/sh", "./backup.sh"], "./backup.sh"),
            ("/usr/bin/bash", &["bash", "-eu", "-o", "pipefail", "x.sh"], "x.sh"),
            ("/usr/bin/bash", &["bash", "-euo", "pipefail", "+O", "extglob", "x.sh"], "x.sh"),
            ("/usr/bin/bash", &["bash", "--rcfile", "/etc/rc", "--", "-x.sh"], "-x.sh"),
            ("/usr/bin/bash", &["bash", "-oe", "pipefail", "x.sh"], "x.sh"),
            ("/usr/bin/bash", &["sh", "-", "x.sh"], "x.sh"),
            ("/usr/bin/zsh", &["zsh", "--emulate", "sh", "x.sh"], "x.sh"),
            ("/usr/bin/perl", &["perl", "-MSocket", "-I", "lib", "-w", "x.pl"], "x.pl"),
            ("/usr/bin/perl", &["perl", "-d:Trace", "-x/etc", "x.pl"], "x.pl"),
            ("/usr/bin/ruby", &["ruby", "-X", "dir", "--disable", "gems", "x.rb"], "x.rb"),
            ("/usr/bin/php8.2", &["php", "-S", "0.0.0.0:8000", "-t", "public", "router.php"], "router.php"),
            ("/usr/bin/ruby", &["ruby", "-rjson", "-I", "lib", "x.rb"], "x.rb"),
            ("/usr/bin/node", &["node", "--require", "./first.js", "x.js"], "x.js"),
            ("/usr/bin/php8.2", &["php", "-d", "memory_limit=1G", "-f", "x.php"], "x.php"),
            ("/usr/bin/lua5.4", &["lua", "-l", "socket", "x.lua"], "x.lua"),
        ] {
            assert_eq!(find(program, arguments).as_deref(), Some(script), "{arguments:?}");
        }
    }

    #[test]
    fn a_relative_name_is_that_of_the_directory_it_was_started_in() {
        for (name, directory, whole) in [
            ("export.py", Some("/srv/etl"), "/srv/etl/export.py"),
            ("./bin//export.py", Some("/srv/etl"), "/srv/etl/bin//export.py"),
            (".././../x.py", Some("/srv/etl"), "/x.py"),
            ("../../../x.py", Some("/srv/etl"), "/x.py"),
            // What `a` is, nobody knows.
            ("a/../x.py", Some("/srv/etl"), "/srv/etl/a/../x.py"),
            ("..x.py", Some("/srv"), "/srv/..x.py"),
            ("x.py", Some(""), "/x.py"),
            ("/x.py", Some("/srv"), "/x.py"),
            ("x.py", None, "x.py"),
            ("..", Some("/srv"), ".."),
        ] {
            let found = resolved(name.into(), directory.map(str::as_bytes));
            assert_eq!(String::from_utf8(found).unwrap(), whole, "{name} in {directory:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_no_script() {
        for (program, arguments) in [
            ("/usr/bin/bash", &["bash", "-c", "curl x"][..]),
            ("/usr/bin/bash", &["sh", "-ec", "curl x"]),
            ("/usr/bin/bash", &["-bash"]),
            ("/usr/bin/python3", &["python3", "-m", "http.server"]),
            ("/usr/bin/python3", &["python3", "-Bc", "import x"]),
            ("/usr/bin/python3", &["python3", "-"]),
            ("/usr/bin/perl", &["perl", "-lane", "print"]),
            ("/usr/bin/perl", &["perl", "-pi.bak", "-e", "s/a/b/", "file"]),
            ("/usr/bin/node", &["node", "--eval", "1"]),
            ("/usr/bin/php", &["php", "-r", "echo 1;"]),
            ("/usr/bin/php", &["php", "-S", "localhost:8000", "-t", "public"]),
            ("/usr/bin/php", &["php", "--", "argument"]),
            ("/usr/bin/bash", &["bash", "-oc", "pipefail", "curl x"]),
            ("/usr/bin/python3", &["python3", ""]),
            ("/usr/bin/curl", &["curl", "http://example.org"]),
            ("/usr/bin/shred", &["shred", "file"]),
        ] {
            assert_eq!(find(program, arguments), None, "{program} {arguments:?}");
        }
    }
}
