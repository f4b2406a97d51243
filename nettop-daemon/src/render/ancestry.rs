//! Who a process is, in a line for people.

use std::borrow::Cow;

use nettop_model::{ProcessNames, snapshot::Parent};

/// `cron > sh > python3  /srv/export.py  [cron.service]  login 1000  python3 /srv/export.py`: who started it, what it runs,
/// where, who logged in, and how it was called. Two blanks are between parts, and in none but the last.
pub fn ancestry(comm: &str, names: &ProcessNames) -> String {
    let ProcessNames { exe, script, unit, container, names, parents, login, arguments, .. } = names;
    let mut text = started_by(parents);
    text += &link(comm);
    let pod = names.pod.as_ref().map(|pod| match &names.pod_container {
        Some(container) => Cow::Owned(format!("{pod}/{container}")),
        None => Cow::Borrowed(pod),
    });
    let place = [&names.container_name, container, unit].into_iter().flatten().next();
    let parts = [
        script.as_ref().or(exe.as_ref()).map(|path| apart(path).into_owned()),
        pod.or(place.map(Cow::Borrowed)).map(|place| format!("[{place}]")),
        login.login_uid.map(|uid| format!("login {uid}")),
        arguments.as_ref().map(|arguments| arguments.join(" ")),
    ];
    for part in parts.iter().flatten() {
        text += "  ";
        text += part;
    }
    text
}

/// `cron > sh > `
pub fn started_by(parents: &[Parent]) -> String {
    parents.iter().rev().map(|parent| link(&parent.comm).into_owned() + " > ").collect()
}

/// A name in a row of ancestors: with `>` it could forge one.
pub fn link(comm: &str) -> Cow<'_, str> {
    let comm = apart(comm);
    if comm.contains('>') { comm.replace('>', "\\x3e").into() } else { comm }
}

/// A name before others: with two blanks in a row, or one at its end, it could forge what follows.
fn apart(name: &str) -> Cow<'_, str> {
    let bytes = name.as_bytes();
    if !name.contains("  ") && bytes.last() != Some(&b' ') && bytes.first() != Some(&b' ') {
        return name.into();
    }
    let mut text = String::with_capacity(name.len() + 8);
    for (at, part) in name.char_indices() {
        let is_alone = at > 0 && bytes[at - 1] != b' ' && bytes.get(at + 1).is_some();
        if part == ' ' && !is_alone { text += "\\x20" } else { text.push(part) }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nettop_model::{ContainerNames, Login};

    use super::*;

    #[test]
    fn a_command_has_its_ancestors_on_request() {
        let parent = |comm: &str| Parent { comm: comm.into(), ..Parent::default() };
        let script = ProcessNames {
            exe: Some("/usr/bin/python3.11".into()),
            script: Some("/srv/export.py".into()),
            unit: Some("cron.service".into()),
            parents: [parent("sh"), parent("cron")].into(),
            ..ProcessNames::default()
        };
        assert_eq!(ancestry("python3", &script), "cron > sh > python3  /srv/export.py  [cron.service]");
        let login = Arc::new(Login { login_uid: Some(1000), session: None });
        let arguments = Some(["python3", "export.py"].map(ToOwned::to_owned).into());
        let called = ProcessNames { login, arguments, ..script };
        let shown = "cron > sh > python3  /srv/export.py  [cron.service]  login 1000  python3 export.py";
        assert_eq!(ancestry("python3", &called), shown);
        let contained = ProcessNames {
            unit: Some("docker-0.scope".into()),
            container: Some("0".into()),
            ..ProcessNames::default()
        };
        assert_eq!(ancestry("nginx", &contained), "nginx  [0]");
        let web = ContainerNames { container_name: Some("web".into()), ..ContainerNames::default() };
        let named = ProcessNames { names: Arc::new(web.clone()), ..contained };
        assert_eq!(ancestry("nginx", &named), "nginx  [web]");
        let of_pod = ContainerNames { pod: Some("shop/web-0".into()), pod_container: Some("nginx".into()), ..web };
        let in_pod = ProcessNames { names: Arc::new(of_pod), ..named };
        assert_eq!(ancestry("nginx", &in_pod), "nginx  [shop/web-0/nginx]");
        assert_eq!(ancestry("[kernel]", &ProcessNames::default()), "[kernel]");
        let forged = ProcessNames { parents: [parent("a > init")].into(), ..ProcessNames::default() };
        assert_eq!(ancestry("x > y", &forged), "a \\x3e init > x \\x3e y");
        let path = ProcessNames { exe: Some("/tmp/x  [sshd.service]  login 0".into()), ..ProcessNames::default() };
        assert_eq!(ancestry("x ", &path), "x\\x20  /tmp/x \\x20[sshd.service] \\x20login 0");
    }
}
