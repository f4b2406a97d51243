//! `nettopd check`: what this kernel offers, which back end is used for what, and whether the counters of a connection
//! of its own are right. Nothing stays attached.

mod container_names;
mod device;
mod proof;

use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use nettop_kernel::{
    Kernel, Programs, Refusal, attach,
    ledger::Ledger,
    places::{self, Hierarchy},
    preflight,
    state::HookState,
};
use nettop_model::{
    Word,
    check::{ContainerNames, Document, Other, Program, Prototype, Purpose, SCHEMA},
};

use self::proof::LIMITS;
use crate::{
    identity::host::kernel_release,
    query::{format::DocumentFormat, global::Global},
    sys::{escape::escape, stdout},
};

/// `nettopd check`.
#[derive(Args, Debug, Clone)]
pub struct CheckArgs {
    #[arg(long, value_enum, default_value_t)]
    pub format: DocumentFormat,
    /// Watch this device for ten seconds, and show whether what passes explains its counters
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// Checks, prints, and returns the refusal that the exit code reports.
///
/// # Errors
///
/// [`Refusal`] where nettopd cannot run, or if the report cannot be written.
pub fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<()> {
    let (report, refusal) = check(global, args.device.as_deref());
    let text = match args.format {
        DocumentFormat::Text => text(&report),
        DocumentFormat::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    stdout::print(text.as_bytes())?;
    refusal.map_or(Ok(()), Err)
}

fn check(global: &Global, device: Option<&str>) -> (Document, Option<anyhow::Error>) {
    let hierarchy = places::hierarchy().ok();
    let missing = preflight::missing_capabilities().unwrap_or_default();
    let mut report = Document {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: kernel_release(),
        refusal: None,
        missing_capabilities: missing.into_iter().map(Word::from).collect(),
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
        container_names: container_names::list(global),
        lacking: Vec::new(),
        load_ms: None,
        programs: Vec::new(),
    };
    let refusal = Kernel::examine(global.forced()).and_then(|kernel| {
        report.prototypes = kernel.prototypes().into_iter().map(prototype).collect();
        report.offsets = kernel.members().found();
        report.absent = kernel.members().absent();
        let programs = kernel.start(LIMITS, None)?;
        fill(&mut report, &programs);
        report.proof = proof::prove(Ledger::new(programs))?;
        if let Some(device) = device {
            report.proof.extend(device::prove(&kernel, device)?);
        }
        let broken: Vec<&str> = report.proof.iter().filter(|proof| !proof.holds).map(|proof| &*proof.what).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let unattached = report.purposes.iter().filter(|purpose| !purpose.attached);
        let unattached: Vec<&str> = unattached.map(|purpose| &*purpose.purpose).collect();
        let mut what = format!("the counters are wrong on this kernel: {}", broken.join(", "));
        what += &if unattached.is_empty() {
            "; please report this".into()
        } else {
            format!("; hooks are missing for {}: if that is not why, please report this", unattached.join(", "))
        };
        Err(Refusal::Kernel(what).into())
    });
    let refusal = refusal.err();
    report.refusal = refusal.as_ref().map(|error| escape(format!("{error:#}").as_bytes()));
    (report, refusal)
}

fn fill(report: &mut Document, programs: &Programs) {
    report.purposes = programs.hooks.iter().map(purpose).collect();
    let lacking = programs.hooks.iter().filter(|hook| !hook.attached).map(|hook| hook.effect_if_missing.into());
    report.lacking = lacking.collect();
    report.load_ms = u64::try_from(programs.load.took.as_millis()).ok();
    let verified = programs.load.verified.iter();
    report.programs = verified
        .map(|(program, instructions)| Program { program: program.clone(), verified_instructions: *instructions })
        .collect();
}

fn prototype(found: attach::Prototype) -> Prototype {
    let attach::Prototype { kind, target, found, is_known } = found;
    Prototype { kind: kind.into(), target: target.into(), found, is_known }
}

fn purpose(hook: &HookState) -> Purpose {
    Purpose {
        purpose: hook.purpose.into(),
        attached: hook.attached,
        kind: hook.kind.clone(),
        backend: hook.backend.map(|backend| backend.name().into()),
        others: hook
            .refused
            .iter()
            .map(|(backend, reason)| Other { backend: backend.clone(), reason: reason.to_string() })
            .collect(),
    }
}

fn text(report: &Document) -> String {
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
        line(&purpose.purpose, if purpose.attached { purpose.kind.clone() } else { "not attached".into() });
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
        line("missing", lacking.to_string());
    }
    lines.join("\n") + "\n"
}
