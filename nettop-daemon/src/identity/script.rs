//! The script that an interpreter runs, by its arguments.

use nettop_kernel::processes::Described;

/// What an interpreter makes of its options.
struct Interpreter {
    /// Beginnings of its names: versions follow some of them.
    names: &'static [&'static str],
    /// Letters of options after which no script comes: a command, an expression, a module, standard input.
    without_script: &'static str,
    /// Letters of options with a value, in the same word or the next.
    with_value: &'static str,
    /// Letters of options that end a word, whatever follows in it.
    with_rest: &'static str,
    /// Long options with a value in the next word.
    long: &'static [&'static str],
    /// Long options after which no script comes.
    long_without_script: &'static [&'static str],
}

/// By their manuals: bash(1), dash(1), zsh(1), python3(1), perlrun(1), ruby(1), node(1), php(1), lua(1), tclsh(1).
const INTERPRETERS: [Interpreter; 7] = [
    Interpreter {
        names: &["bash", "dash", "sh", "zsh", "ksh"],
        without_script: "cs",
        with_value: "oO",
        with_rest: "",
        long: &["--rcfile", "--init-file"],
        long_without_script: &[],
    },
    Interpreter {
        names: &["python", "pypy"],
        without_script: "cm",
        with_value: "WX",
        with_rest: "",
        long: &["--check-hash-based-pycs"],
        long_without_script: &[],
    },
    Interpreter {
        names: &["perl"],
        without_script: "eE",
        with_value: "I",
        with_rest: "CDFMim",
        long: &[],
        long_without_script: &[],
    },
    Interpreter {
        names: &["ruby"],
        without_script: "e",
        with_value: "CEIr",
        with_rest: "FKTWi",
        long: &["--encoding"],
        long_without_script: &[],
    },
    Interpreter {
        names: &["node"],
        without_script: "ep",
        with_value: "Cr",
        with_rest: "",
        long: &["--conditions", "--env-file", "--import", "--loader", "--require"],
        long_without_script: &["--eval", "--print"],
    },
    Interpreter {
        names: &["php"],
        without_script: "BERr",
        with_value: "cdz",
        with_rest: "",
        long: &["--define", "--php-ini"],
        long_without_script: &["--run"],
    },
    Interpreter {
        names: &["lua", "tclsh", "wish"],
        without_script: "",
        with_value: "el",
        with_rest: "",
        long: &["-encoding"],
        long_without_script: &[],
    },
];

/// What a word among the arguments is.
enum Word {
    Option,
    /// The next word is its value.
    WithValue,
    WithoutScript,
}

impl Interpreter {
    fn of_program(program: &[u8]) -> Option<&'static Self> {
        let version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        let is_it = |name: &&str| program.strip_prefix(name.as_bytes()).is_some_and(version);
        INTERPRETERS.iter().find(|interpreter| interpreter.names.iter().any(is_it))
    }

    fn read(&self, option: &[u8]) -> Word {
        let is = |name: &&str| option == name.as_bytes();
        if option == b"-" || self.long_without_script.iter().any(is) {
            return Word::WithoutScript;
        }
        if self.long.iter().any(is) {
            return Word::WithValue;
        }
        if option.starts_with(b"--") {
            return Word::Option;
        }
        for (index, letter) in option.iter().enumerate().skip(1) {
            let is_one_of = |letters: &str| letters.as_bytes().contains(letter);
            if is_one_of(self.without_script) {
                return Word::WithoutScript;
            }
            if is_one_of(self.with_value) && index + 1 == option.len() {
                return Word::WithValue;
            }
            if is_one_of(self.with_value) || is_one_of(self.with_rest) {
                return Word::Option;
            }
        }
        Word::Option
    }
}

/// The script, as the interpreter was given it.
pub fn script(described: &Described) -> Option<Vec<u8>> {
    let program = described.program.as_deref()?.rsplit(|byte| *byte == b'/').next()?;
    let interpreter = Interpreter::of_program(program)?;
    let mut arguments = described.arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == b"--" {
            return arguments.next().cloned();
        }
        if !argument.starts_with(b"-") && !argument.starts_with(b"+") {
            return Some(argument.clone());
        }
        match interpreter.read(argument) {
            Word::Option => {}
            Word::WithValue => {
                arguments.next();
            }
            Word::WithoutScript => return None,
        }
    }
    None
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
            ("/usr/bin/perl", &["perl", "-MSocket", "-I", "lib", "-w", "x.pl"], "x.pl"),
            ("/usr/bin/ruby", &["ruby", "-rjson", "-I", "lib", "x.rb"], "x.rb"),
            ("/usr/bin/node", &["node", "--require", "./first.js", "x.js"], "x.js"),
            ("/usr/bin/php8.2", &["php", "-d", "memory_limit=1G", "-f", "x.php"], "x.php"),
            ("/usr/bin/lua5.4", &["lua", "-l", "socket", "x.lua"], "x.lua"),
        ] {
            assert_eq!(find(program, arguments).as_deref(), Some(script), "{arguments:?}");
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
            ("/usr/bin/curl", &["curl", "http://example.org"]),
            ("/usr/bin/shred", &["shred", "file"]),
        ] {
            assert_eq!(find(program, arguments), None, "{program} {arguments:?}");
        }
    }
}
