//! Which scenarios a guest runs, and which share a nettopd there.

/// Scenarios in which nothing depends on the back end: the first machine of a kernel runs them for all.
const ONCE: [&str; 26] = [
    "check::",
    "connections::a_connection_older",
    "connections::conversations_of_udp",
    "connections::no_more_lines",
    "connections::what_comes_to_nothing",
    "connections::what_is_sent_again",
    "drop_places::",
    "drops::",
    "forwarded::",
    "hogs::",
    "meters::",
    "names::",
    "packets::",
    "places::",
    "retirement::",
    "service::a_capability",
    "service::a_configuration",
    "service::a_reload",
    "service::a_wrong_configuration",
    "service::it_is_ready",
    "service::without_capabilities",
    "socketless::",
    "sockets::",
    "trace::usage::a_command_ends",
    "trace::functions_are_shown",
    "troubles::",
];
/// Scenarios about packets and the size of tables. Tracepoints and trampolines have the same programs for those; under
/// kprobes these keep shadows as well.
const OF_PACKETS: [&str; 3] = ["bounds::", "devices::", "shared::"];
/// Scenarios of calls: under kprobes they come from system calls, as under tracepoints.
const OF_CALLS: [&str; 1] = ["trace::"];
/// Scenarios of who uses a socket and what calls move: a back end runs them even if it did on an older kernel.
const OF_USE: [&str; 5] = ["connections::", "layers::", "owners::", "paths::", "reconnect::"];
/// Scenarios of what differs between kernels: functions, reasons, structs.
const OF_KERNEL: [&str; 12] = [
    "check::",
    "deferred::",
    "drop_places::",
    "drops::",
    "forwarded::",
    "frames::",
    "hogs::",
    "names::",
    "senders::",
    "socketless::",
    "trace::",
    "troubles::",
];
/// Of [`ONCE`], those whose owners are found by use: every machine runs them.
const EVERYWHERE: [&str; 1] = ["troubles::a_listener_whose_maker_has_ended_is_its_holders"];

/// How nettopd is used, asked and installed, and what becomes of its history, is the same on every kernel. Others take too
/// much for an emulated machine, want a disk, or compare what needs many intervals.
pub const HERE_ONLY: [&str; 17] = [
    "addresses::",
    "api::",
    "archive::",
    "bounds::thousands",
    "churn::",
    "exiting::",
    "history",
    "limits::",
    "names::more",
    "names::paths::a_program",
    "names::paths::programs",
    "names::storms",
    "output::",
    "package::",
    "retirement::devices_",
    "top::",
    "usage::",
];
/// Those that take long in an emulated machine: only `cargo xtask vm` runs them there, with the argument `long`.
pub const LONG: [&str; 5] =
    ["connections::a_flood", "crowds::", "packets::a_flood", "packets::a_reader", "trace::a_flood"];
/// Those of the packaged unit: they need a systemd that is process 1.
pub const OF_THE_DISK: [&str; 1] = ["systemd::"];

/// Those of network cards: ignored elsewhere.
pub const OF_THE_CARDS: [&str; 1] = ["cards::"];

/// Files whose scenarios look at what their own processes and namespaces did: they share a nettopd, and run with one of
/// their own on the host.
pub const SHARING: [&str; 14] = [
    "balance::",
    "devices::",
    "drop_places::",
    "drops::",
    "forwarded::",
    "frames::",
    "layers::",
    "owners::",
    "paths::",
    "reconnect::",
    "senders::",
    "shared::",
    "socketless::",
    "troubles::",
];
/// Among them those that need nettopd to begin later than something else, or to be another; that hand an inode number on;
/// or after which its documents are long.
pub const ALONE: [&str; 12] = [
    "balance::namespaces::a_namespace_that_takes_a_dead_ones",
    "drops::names_of_functions",
    "forwarded::pairs_that_find_no_room",
    "frames::frames_are_counted",
    "layers::a_kernel_thread",
    "owners::a_connection_older",
    "owners::a_reused_pid",
    "owners::a_recovery_probe",
    "owners::hundreds",
    "owners::two_instances",
    "owners::what_waits_in_an_older",
    "troubles::connections_that_a_full_listener",
];

/// Whether a scenario's name begins with one of these.
pub fn is_of(test: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| test.starts_with(beginning))
}

/// How much a machine runs of what others run as well.
#[derive(Clone, Copy)]
pub enum Scope {
    All,
    /// What depends on the kernel's functions, reasons and structs.
    Kernel,
    /// [`OF_USE`].
    Use,
}

impl Scope {
    pub fn of(argument: Option<&str>) -> Self {
        match argument {
            Some("kernel") => Self::Kernel,
            Some("use") => Self::Use,
            _ => Self::All,
        }
    }

    fn has(self, test: &str) -> bool {
        match self {
            Self::All => true,
            Self::Kernel => is_of(test, &OF_USE) || is_of(test, &OF_KERNEL),
            Self::Use => is_of(test, &OF_USE),
        }
    }
}

/// Whether another machine runs it: one with another kernel, or with another back end of this one, where it proves the same.
pub fn is_run_elsewhere(test: &str, backend: Option<&str>, first: Option<&str>, scope: Scope) -> bool {
    let is_same = match backend {
        _ if !scope.has(test) => true,
        _ if backend == first => false,
        _ if is_of(test, &ONCE) => true,
        Some("fentry") => is_of(test, &OF_PACKETS),
        Some("kprobe") => first == Some("tracepoint") && is_of(test, &OF_CALLS),
        _ => false,
    };
    is_same && !EVERYWHERE.contains(&test)
}

/// Whether the command line asked for it.
pub fn is_wanted(test: &str, filters: &[&str]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| test.contains(filter))
}
