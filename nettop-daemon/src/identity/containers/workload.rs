//! What made a pod, by the pod's name: controllers append suffixes of known forms.

/// Letters of generated suffixes: no vowels, and no digits that look like letters (`SafeEncodeString` of
/// k8s.io/apimachinery).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The Deployment, `ReplicaSet`, `DaemonSet`, Job, `CronJob` or `StatefulSet`; none where the name does not say it. A pod that the kubelet has
/// from a file, whose uid has no dashes, is called by that file and the node.
pub fn workload(pod: &str, uid: Option<&str>, node: &str) -> Option<String> {
    if uid.is_some_and(|uid| !uid.contains('-')) {
        return Some(pod.strip_suffix(node)?.strip_suffix('-')?.into()).filter(|name: &String| !name.is_empty());
    }
    let (name, last) = pod.rsplit_once('-')?;
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_generated = |part: &str| part.bytes().all(|byte| LETTERS.contains(&byte));
    let name = if last.len() == 5 && is_generated(last) {
        match name.rsplit_once('-') {
            // The hash of a Deployment's template, and the minute of a CronJob's run.
            Some((name, hash)) if (8..=10).contains(&hash.len()) && (is_generated(hash) || is_number(hash)) => name,
            _ => name,
        }
    } else if (1..=4).contains(&last.len()) && is_number(last) && (last == "0" || !last.starts_with('0')) {
        name
    } else {
        return None;
    };
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::workload;

    #[test]
    fn a_workload_is_what_is_before_generated_suffixes() {
        let uid = Some("dde1244b-5bb5-4297-b544-85f3bc0d80bf");
        for (pod, expected) in [
            ("web-7d4b9c6f5d-x2x7k", Some("web")),
            ("coredns-5dd5756b68-4zqcl", Some("coredns")),
            ("my-app-web-6799fc88d8-2bq5f", Some("my-app-web")),
            ("kube-proxy-x9s8v", Some("kube-proxy")),
            ("report-28391040-bfxzk", Some("report")),
            ("db-0", Some("db")),
            ("db-replica-12", Some("db-replica")),
            ("my-nginx", None),
            ("shell", None),
            ("debug-pod-alice", None),
            ("db-00", None),
            ("-0", None),
            ("", None),
        ] {
            assert_eq!(workload(pod, uid, "node-1").as_deref(), expected, "{pod}");
        }
        let of_file = Some("b53dfa9e2dc9b890f7fadb2770857b03");
        assert_eq!(workload("etcd-node-1", of_file, "node-1").as_deref(), Some("etcd"));
        assert_eq!(workload("etcd-other-1", of_file, "node-1"), None);
    }
}
