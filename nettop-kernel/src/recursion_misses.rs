//! Runs that the kernel skipped: a tracing program does not run again on a CPU where another task was preempted inside
//! it (`bpf_prog_get_recursion_context`; tracepoints are preemptible from 7.0 on, trampolines always).

use std::{
    fs::File,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use anyhow::Context as _;
use aya::{Ebpf, programs::Program};

use super::hooks::counts_calls;

/// A skipped run may leave a process with its old name. One at a process's end only delays what the sweep finds, and one of
/// a frame is in the device's rest.
pub const RENAMES: &str = "process_rename";
pub const DROPS: &str = "packet_freed";
pub const TCP: [&str; 4] = ["tcp_retransmit", "tcp_retransmit_synack", "tcp_reset_sent", "tcp_reset_received"];

/// Programs for events.
pub const EVENT_PROGRAMS: [&str; 5] =
    ["connection_state", "accept_graft", "accept_graft_probe", "syscall_exit", "packet_sent"];

/// Programs that follow traced processes.
pub const FOLLOWING: [&str; 4] = ["trace_fork", "trace_exec", "trace_rename", "trace_exit"];

/// The programs whose runs may be skipped.
pub struct Misses {
    programs: Vec<(String, OwnedFd)>,
    /// What /proc says of each, held open: a machine in distress may open none any more.
    infos: Vec<File>,
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
        Self::from_programs(programs)
    }

    /// Watches these.
    ///
    /// # Errors
    ///
    /// If /proc cannot be read, or there are no descriptors left.
    pub(super) fn from_programs(programs: Vec<(String, OwnedFd)>) -> anyhow::Result<Self> {
        let open = |(name, fd): &(String, OwnedFd)| {
            let info = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
            File::open(info).with_context(|| format!("cannot watch program {name}"))
        };
        let infos = programs.iter().map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { programs, infos })
    }

    pub(super) fn programs(&self) -> &[(String, OwnedFd)] {
        &self.programs
    }

    /// Calls of the ledger skipped so far. Kernels before 5.12 do not report them.
    pub fn calls(&self) -> u64 {
        self.sum(counts_calls)
    }

    /// Skipped runs of some programs so far.
    pub fn sum_of(&self, programs: &[&str]) -> u64 {
        self.sum(|name| programs.contains(&name))
    }

    /// Skipped runs of all others.
    pub fn except(&self, programs: &[&str]) -> u64 {
        self.sum(|name| !programs.contains(&name))
    }

    fn sum(&self, is_wanted: impl Fn(&str) -> bool) -> u64 {
        let wanted = self.programs.iter().zip(&self.infos).filter(|((name, _), _)| is_wanted(name));
        wanted.filter_map(|(_, info)| skipped(info)).sum()
    }
}

fn skipped(info: &File) -> Option<u64> {
    // Some hundred bytes (`bpf_prog_show_fdinfo`).
    let mut text = [0; 2048];
    let length = info.read_at(&mut text, 0).ok()?;
    misses(str::from_utf8(text.get(..length)?).ok()?)
}

fn misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_app_bytes_count_calls() {
        for program in ["socket_send", "tcp_receive", "inet_sendmsg", "tcp_cleanup_rbuf", "send_leave", "udp_consume"] {
            assert!(counts_calls(program), "{program}");
        }
        let others = [RENAMES, "process_exit", "frame_sent", DROPS].into_iter();
        for program in others.chain(TCP).chain(EVENT_PROGRAMS).chain(FOLLOWING) {
            assert!(!counts_calls(program), "{program}");
        }
    }

    #[test]
    fn misses_are_read_where_the_kernel_reports_them() {
        assert_eq!(misses("prog_type:\t26\nrecursion_misses:\t7\nverified_insns:\t3\n"), Some(7));
        assert_eq!(misses("prog_type:\t26\n"), None);
    }
}
