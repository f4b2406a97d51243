//! The systemd unit and the container in a cgroup path.

/// The unit of the process: the deepest path component that is one.
pub fn unit(path: &str) -> Option<&str> {
    const SUFFIXES: [&str; 4] = [".service", ".scope", ".socket", ".mount"];
    path.rsplit('/').find(|part| SUFFIXES.iter().any(|suffix| part.ends_with(suffix)))
}

/// The id of the container: 64 hexadecimal digits somewhere in a component, as docker, containerd, cri-o and podman
/// write it, or the name after `lxc.payload`.
pub fn container(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|part| part.strip_prefix("lxc.payload.").or_else(|| hex_id(part)))
}

fn hex_id(part: &str) -> Option<&str> {
    part.split(|c: char| !c.is_ascii_hexdigit()).find(|piece| piece.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_found_in_the_paths_that_managers_make() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!("/system.slice/docker-{id}.scope");
        assert_eq!(container(&docker), Some(id.as_str()));
        assert_eq!(unit(&docker), Some(format!("docker-{id}.scope").as_str()));
        assert_eq!(container(&format!("/docker/{id}")), Some(id.as_str()));
        assert_eq!(container(&format!("/kubepods.slice/cri-containerd-{id}.scope/init")), Some(id.as_str()));
        assert_eq!(container("/lxc.payload.web/system.slice"), Some("web"));
        assert_eq!(unit("/system.slice/ssh.service"), Some("ssh.service"));
        assert_eq!(unit("/user.slice"), None);
        assert_eq!(container("/user.slice"), None);
    }
}
