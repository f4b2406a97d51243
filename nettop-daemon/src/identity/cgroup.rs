//! What the path of a cgroup names: the systemd unit, the container, the pod.

/// The unit of the process: the deepest path component that is one. That of a systemd in a container is the container's own.
pub fn unit(path: &str) -> Option<&str> {
    const SUFFIXES: [&str; 4] = [".service", ".scope", ".socket", ".mount"];
    path.rsplit('/').find(|part| SUFFIXES.iter().any(|suffix| part.ends_with(suffix)))
}

/// Where a process is that is in a container or a pod. Raw, as the path has it.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The container's id, or its name where it has no other. None for what is in a pod and in none of its containers.
    pub container: Option<String>,
    /// None where the path does not say which.
    pub runtime: Option<&'static str>,
    /// With dashes, or without any for a pod that the kubelet has from a file.
    pub pod_uid: Option<String>,
    /// The user whose systemd has it; none for root.
    pub uid: Option<u32>,
}

impl Place {
    /// Whether the container has an id, by which its runtime's files are found.
    pub fn has_id(&self) -> bool {
        self.container.as_deref().is_some_and(is_id)
    }
}

/// The innermost container, and the innermost pod; none outside of both.
pub fn place(path: &str) -> Option<Place> {
    let parts: Vec<&str> = path.split('/').collect();
    let at = |at: usize| parts.get(at).copied().unwrap_or_default();
    let found = (0..parts.len()).rev().find_map(|deep| {
        let above = if deep > 0 { at(deep - 1) } else { "" };
        container(at(deep), above, at(deep + 1))
    });
    let pod_uid = parts.iter().rev().find_map(|part| pod_uid(part));
    if found.is_none() && pod_uid.is_none() {
        return None;
    }
    let (container, runtime) = found.map_or((None, None), |(id, runtime)| (Some(id), runtime));
    let uid = parts.iter().find_map(|part| user(part)).filter(|uid| *uid != 0);
    Some(Place { container, runtime, pod_uid, uid })
}

/// The container that a component is the cgroup of, and its runtime.
fn container(part: &str, above: &str, below: &str) -> Option<(String, Option<&'static str>)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some((name.into(), Some("lxc")));
    }
    if matches!(above, "lxc" | "lxc.payload") && !part.is_empty() {
        return Some((part.into(), Some("lxc")));
    }
    // systemd-nspawn itself is in a cgroup beside the container's.
    let machine = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    if let Some(name) = machine.filter(|_| below != "supervisor") {
        return Some((unescaped(name), Some("nspawn")));
    }
    let scope = part.strip_suffix(".scope");
    if let Some(name) = scope.and_then(|scope| scope.strip_prefix("machine-")).filter(|_| below != "supervisor") {
        let name = unescaped(name);
        // A virtual machine of libvirt, and a container of its own kind.
        return (!name.starts_with("qemu-")).then(|| {
            let runtime = (!name.starts_with("lxc-")).then_some("nspawn");
            (name, runtime)
        });
    }
    for runtime in ["runc", "crun"] {
        if let Some(name) = scope.and_then(|scope| scope.strip_prefix(runtime)?.strip_prefix('-')) {
            return Some((name.into(), Some(runtime)));
        }
    }
    // `PREFIX-ID.scope`, `PREFIX_ID`, `SLICE:PREFIX:ID`, `ID`.
    let named = scope.unwrap_or(part);
    let (prefix, id) = named.split_at_checked(named.len().checked_sub(ID_LETTERS)?)?;
    if !is_id(id) || !(prefix.is_empty() || prefix.ends_with(['-', '_', ':'])) {
        return None;
    }
    let prefix = prefix.trim_end_matches(['-', '_', ':']);
    let runtime = match prefix.rsplit(':').next().unwrap_or_default() {
        // What watches a container is outside of it.
        watcher if watcher.ends_with("conmon") => return None,
        "" if above != "docker" => None,
        "" | "docker" => Some("docker"),
        "cri-containerd" | "containerd" | "nerdctl" => Some("containerd"),
        "crio" => Some("cri-o"),
        "libpod" | "libpod-payload" => Some("podman"),
        _ => None,
    };
    Some((id.into(), runtime))
}

const ID_LETTERS: usize = 64;

fn is_id(text: &str) -> bool {
    text.len() == ID_LETTERS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `podUID`, or `kubepods-burstable-podUID.slice` with underscores; the latter may also have a container behind a colon.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.split(':').next()?;
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let (before, uid) = part.rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let dashes = uid.bytes().filter(|byte| *byte == b'-').count();
    let is_uid = matches!((uid.len(), dashes), (36, 4) | (32, 0))
        && uid.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (is_uid && (before.is_empty() || before.ends_with('-'))).then_some(uid)
}

fn user(part: &str) -> Option<u32> {
    let service = part.strip_prefix("user@").and_then(|part| part.strip_suffix(".service"));
    let slice = || part.strip_prefix("user-").and_then(|part| part.strip_suffix(".slice"));
    service.or_else(slice)?.parse().ok()
}

/// systemd writes most letters of a name as `\xNN` in that of its unit.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, escape)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        let number = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.extend(number.map_or_else(|| b"\\x".to_vec(), |number| vec![number]));
        rest = if number.is_some() { escape.get(2..).unwrap_or_default() } else { escape };
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
