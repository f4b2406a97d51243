//! `nettopd check`: what this kernel offers, which back end is used for what, and whether the counters of a connection
//! of its own are right. Nothing stays attached.

mod device;
mod proof;

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use nettop_kernel::{
    Kernel, Programs, Refusal,
    attach::Prototype,
    ledger::Ledger,
    places::{self, Hierarchy},
    preflight,
    state::HookState,
};
use nettop_model::status::Status;
use serde::Serialize;

use self::proof::{LIMITS, Proof};
use crate::{
    client,
    identity::{containers::places, host::kernel_release},
    query::{format::CheckFormat, global::Global},
    sys::{escape::escape, stdout},
};

/// The document `nettop.check/1`.
#[derive(Serialize, Debug)]
struct Report {
    schema: &'static str,
    version: &'static str,
    kernel: String,
    /// Why nettopd cannot run here; null if it can.
    refusal: Option<String>,
    missing_capabilities: Vec<&'static str>,
    btf: bool,
    /// Where the whole hierarchy is mounted.
    cgroup2: Option<String>,
    /// Where only a branch of it is, in a cgroup namespace.
    cgroup2_branch: Option<String>,
    purposes: Vec<Purpose>,
    prototypes: Vec<Prototype>,
    /// Members of kernel structs that were found in BTF.
    offsets: usize,
    /// Those that were not.
    absent: Vec<String>,
    proof: Vec<Proof>,
    container_names: Vec<ContainerNames>,
    /// What reports will not have.
    lacking: Vec<&'static str>,
    load_ms: Option<u64>,
    programs: Vec<Program>,
}

#[derive(Serialize, Debug)]
struct Purpose {
    purpose: &'static str,
    attached: bool,
    kind: String,
    backend: Option<&'static str>,
    others: Vec<Other>,
}

#[derive(Serialize, Debug)]
struct Other {
    backend: String,
    reason: String,
}

/// A folder in which a runtime, or the kubelet, has names of containers.
#[derive(Serialize, Debug)]
struct ContainerNames {
    folder: String,
    /// Whether this process may read it.
    readable: bool,
    /// Whether the daemon that runs was refused.
    closed_to_daemon: bool,
}

#[derive(Serialize, Debug)]
struct Program {
    program: String,
    /// Instructions that the verifier went through.
    verified_instructions: u32,
}

/// Checks, prints, and returns the refusal that the exit code reports.
///
/// # Errors
///
/// [`Refusal`] where nettopd cannot run, or if the report cannot be written.
pub fn run(global: &Global, format: CheckFormat, device: Option<&str>) -> anyhow::Result<()> {
    let (report, refusal) = check(global, device);
    let text = match format {
        CheckFormat::Text => text(&report),
        CheckFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    stdout::print(text.as_bytes())?;
    refusal.map_or(Ok(()), Err)
}

fn check(global: &Global, device: Option<&str>) -> (Report, Option<anyhow::Error>) {
    let hierarchy = places::hierarchy().ok();
    let mut report = Report {
        schema: "nettop.check/1",
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel_release(),
        refusal: None,
        missing_capabilities: preflight::missing_capabilities().unwrap_or_default(),
        btf: preflight::has_btf(),
        cgroup2: match &hierarchy {
            Some(Hierarchy::At(path)) => Some(escape(path.as_os_str().as_bytes())),
            _ => None,
        },
        cgroup2_branch: match &hierarchy {
            Some(Hierarchy::Branch(path)) => Some(escape(path.as_os_str().as_bytes())),
            _ => None,
        },
        purposes: Vec::new(),
        prototypes: Vec::new(),
        offsets: 0,
        absent: Vec::new(),
        proof: Vec::new(),
        container_names: container_names(global),
        lacking: Vec::new(),
        load_ms: None,
        programs: Vec::new(),
    };
    let refusal = Kernel::examine(global.forced()).and_then(|kernel| {
        report.prototypes = kernel.prototypes();
        report.offsets = kernel.members().found();
        report.absent = kernel.members().absent();
        let programs = kernel.start(LIMITS, None)?;
        fill(&mut report, &programs);
        report.proof = proof::prove(Ledger::new(programs))?;
        if let Some(device) = device {
            report.proof.extend(device::prove(&kernel, device)?);
        }
        let broken: Vec<&str> = report.proof.iter().filter(|proof| !proof.holds).map(|proof| proof.what).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let what = format!("the counters are wrong on this kernel: {}; please report this", broken.join(", "));
        Err(Refusal::Kernel(what).into())
    });
    let refusal = refusal.err();
    report.refusal = refusal.as_ref().map(|error| escape(format!("{error:#}").as_bytes()));
    (report, refusal)
}

/// Those that are there, and what a daemon said of them.
fn container_names(global: &Global) -> Vec<ContainerNames> {
    let status = client::socket(global).and_then(|_| client::ask(global, "/v1/status").ok());
    let status: Option<Status> = status.and_then(|answer| client::read(&answer).ok());
    let mut closed = status.map(|status| status.container_names_closed).unwrap_or_default();
    let places = places().into_iter();
    let mut names: Vec<ContainerNames> = places
        .map(|(folder, found)| ContainerNames {
            folder: folder.into(),
            readable: found.is_ok(),
            closed_to_daemon: false,
        })
        .collect();
    for place in &mut names {
        let all = closed.len();
        closed.retain(|folder| !Path::new(folder).starts_with(&place.folder));
        place.closed_to_daemon = closed.len() < all;
    }
    names.extend(closed.into_iter().map(|folder| ContainerNames { folder, readable: true, closed_to_daemon: true }));
    names
}

fn fill(report: &mut Report, programs: &Programs) {
    report.purposes = programs.hooks.iter().map(purpose).collect();
    report.lacking = programs.hooks.iter().filter(|hook| !hook.attached).map(|hook| hook.effect_if_missing).collect();
    report.load_ms = u64::try_from(programs.load.took.as_millis()).ok();
    let verified = programs.load.verified.iter();
    report.programs = verified
        .map(|(program, instructions)| Program { program: program.clone(), verified_instructions: *instructions })
        .collect();
}

fn purpose(hook: &HookState) -> Purpose {
    Purpose {
        purpose: hook.purpose,
        attached: hook.attached,
        kind: hook.kind.clone(),
        backend: hook.backend.map(|backend| backend.name()),
        others: hook
            .refused
            .iter()
            .map(|(backend, reason)| Other { backend: backend.clone(), reason: reason.to_string() })
            .collect(),
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("{:<15} {}", "kernel", report.kernel)];
    let mut line = |name: &str, text: String| lines.push(format!("{name:<15} {text}"));
    line(
        "capabilities",
        if report.missing_capabilities.is_empty() {
            "all that are needed".into()
        } else {
            format!("missing {}", report.missing_capabilities.join(", "))
        },
    );
    line("BTF", if report.btf { "present".into() } else { "missing: CONFIG_DEBUG_INFO_BTF=y".into() });
    let branch = |path: &String| format!("{path}, a branch only: this is a cgroup namespace");
    let cgroup2 = report.cgroup2.clone().or_else(|| report.cgroup2_branch.as_ref().map(branch));
    line("cgroup2", cgroup2.unwrap_or_else(|| "not mounted".into()));
    for purpose in &report.purposes {
        line(purpose.purpose, if purpose.attached { purpose.kind.clone() } else { "not attached".into() });
        for other in &purpose.others {
            line("", format!("  not {}: {}", other.backend, other.reason));
        }
    }
    if !report.purposes.is_empty() {
        let absent =
            if report.absent.is_empty() { String::new() } else { format!(", not {}", report.absent.join(", ")) };
        line("offsets", format!("{} members found in BTF{absent}", report.offsets));
    }
    for proof in &report.proof {
        line("proof", format!("{} {}: {}", if proof.holds { "ok" } else { "WRONG" }, proof.what, proof.found));
    }
    if let Some(ms) = report.load_ms {
        let largest = report.programs.iter().max_by_key(|program| program.verified_instructions);
        let largest = largest.map_or_else(String::new, |program| {
            format!("; most verified instructions: {} in {}", program.verified_instructions, program.program)
        });
        line("loading", format!("{ms} ms{largest}"));
    }
    for ContainerNames { folder, readable, closed_to_daemon } in &report.container_names {
        let said = match (readable, closed_to_daemon) {
            (_, true) => "the daemon may not read them: privileged-containers.conf opens it",
            (false, _) => "not permitted, for the service see privileged-containers.conf",
            (true, false) => "readable",
        };
        line("container names", format!("{folder}: {said}"));
    }
    for lacking in &report.lacking {
        line("missing", (*lacking).to_owned());
    }
    lines.join("\n") + "\n"
}
