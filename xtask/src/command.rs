//! Running other programs: with their names in every error, and a sign of life while they take long.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// Root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A cargo command in the repository, with cargo's bin folder in `PATH`.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The result is expected in target/, wherever the caller's own builds go.
    command.current_dir(root()).env("PATH", path()).env_remove("CARGO_TARGET_DIR");
    command
}

/// `PATH` with the folder that `cargo install` fills.
pub fn path() -> OsString {
    let mut folders: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    folders.extend(cargo_bin());
    env::join_paths(folders).unwrap_or_default()
}

fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"))).map(|home| home.join("bin"))
}

/// Runs a command in the foreground.
///
/// # Errors
///
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command and shows its output only if it fails. Prints every ten seconds that it still runs.
///
/// # Errors
///
/// If it cannot be started or fails.
pub fn run_quietly(what: &str, command: &mut Command) -> anyhow::Result<()> {
    eprintln!("xtask: {what}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot run {}", name(command)))?;
    let waiter = thread::spawn(move || child.wait_with_output());
    let start = Instant::now();
    let mut reported_tens = 0;
    while !waiter.is_finished() {
        thread::sleep(Duration::from_millis(100));
        let tens = start.elapsed().as_secs() / 10;
        if tens > reported_tens {
            reported_tens = tens;
            eprintln!("xtask: {what} … {} s", tens * 10);
        }
    }
    let output = waiter.join().map_err(|_| anyhow::anyhow!("the waiting thread panicked"))??;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        bail!("{} failed ({})", shown(command), output.status);
    }
    Ok(())
}

/// Runs a command with all its output in target/proof/NAME.log, and returns its status and output.
///
/// # Errors
///
/// If it cannot be started, or its log not be written.
pub fn run_logged(name: &str, command: &mut Command) -> anyhow::Result<(ExitStatus, String)> {
    let folder = root().join("target/proof");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let log = File::create(&path)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status();
    let status = status.with_context(|| format!("cannot run {program}"))?;
    Ok((status, String::from_utf8_lossy(&fs::read(path)?).into_owned()))
}

/// The same command at lower priority: what keeps CPUs busy must not delay what is measured beside it.
pub fn yielding(command: &Command) -> Command {
    with_niceness("5", command)
}

/// The same command at still lower priority: in an emulated machine that gets little CPU, connections retransmit.
pub fn in_background(command: &Command) -> Command {
    with_niceness("15", command)
}

fn with_niceness(niceness: &str, command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", niceness]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    nice
}

/// What a command prints.
///
/// # Errors
///
/// If it cannot be started, fails, or prints no UTF-8.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", shown(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?"));
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    format!("`{}`", words.join(" "))
}
