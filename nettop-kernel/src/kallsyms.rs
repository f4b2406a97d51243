//! Which functions of net/socket.c the kernel has as such: BTF also names those that the compiler split.

use std::{collections::HashSet, fs::File, io::BufReader, sync::OnceLock};

use nettop_common::trace::FUNCTIONS;

/// Whether /proc/kallsyms has the function under its own name. If unreadable, attaching will show it.
pub fn has_function(name: &str) -> bool {
    static FOUND: OnceLock<Option<HashSet<&str>>> = OnceLock::new();
    let found = FOUND.get_or_init(|| File::open("/proc/kallsyms").ok().map(|file| functions(BufReader::new(file))));
    found.as_ref().is_none_or(|found| found.contains(name))
}

fn functions(mut symbols: impl std::io::BufRead) -> HashSet<&'static str> {
    let mut found = HashSet::new();
    let mut line = Vec::new();
    // Modules come last.
    while symbols.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let name = line.split(u8::is_ascii_whitespace).nth(2).unwrap_or_default();
        found.extend(FUNCTIONS.iter().find(|function| function.as_bytes() == name));
        line.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_was_taken_apart_is_not_found() {
        let symbols = "0000000000000000 T __sys_socket\n0 t sock_poll.isra.0\n0 t do_accept\n0 t ext4_x\t[ext4]\n";
        assert_eq!(functions(symbols.as_bytes()), HashSet::from(["__sys_socket", "do_accept"]));
    }
}
