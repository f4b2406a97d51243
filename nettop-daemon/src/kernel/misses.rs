//! Runs that the kernel skipped: a tracing program is not entered again on a CPU where another task was preempted
//! inside it (`bpf_prog_get_recursion_context`; tracepoints are preemptible from 7.0 on, trampolines always).

use std::{
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::{Ebpf, programs::Program};

/// The programs that count calls.
pub struct Misses {
    programs: Vec<(String, OwnedFd)>,
}

impl Misses {
    /// Watches every loaded program that runs in the context of others.
    ///
    /// # Errors
    ///
    /// If a descriptor cannot be duplicated.
    pub fn watch(ebpf: &Ebpf) -> anyhow::Result<Self> {
        let mut programs = Vec::new();
        for (name, program) in ebpf.programs() {
            let is_tracing = matches!(
                program,
                Program::BtfTracePoint(_) | Program::FEntry(_) | Program::FExit(_) | Program::KProbe(_)
            );
            if let (true, Ok(fd)) = (is_tracing, program.fd()) {
                let fd = fd.try_clone().with_context(|| format!("cannot watch program {name}"))?;
                programs.push((name.to_owned(), std::os::fd::AsFd::as_fd(&fd).try_clone_to_owned()?));
            }
        }
        Ok(Self { programs })
    }

    /// All that were skipped so far. Kernels before 5.12 do not tell.
    pub fn count(&self) -> u64 {
        self.programs.iter().filter_map(|(_, fd)| skipped(fd)).sum()
    }

    /// Those of one program.
    pub fn of(&self, program: &str) -> u64 {
        self.programs.iter().find(|(name, _)| name == program).and_then(|(_, fd)| skipped(fd)).unwrap_or(0)
    }
}

fn skipped(fd: &OwnedFd) -> Option<u64> {
    misses(&fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?)
}

fn misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::misses;

    #[test]
    fn misses_are_read_where_the_kernel_tells_them() {
        assert_eq!(misses("prog_type:\t26\nrecursion_misses:\t7\nverified_insns:\t3\n"), Some(7));
        assert_eq!(misses("prog_type:\t26\n"), None);
    }
}
