//! Paths as runtimes and their managers make them. ID stands for an id.

use super::*;

const ID: &str = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
const INNER: &str = "c8b38413c88eefe063b8cd3f01c16be5e3bda9693a19a68a88807baca9feb937";
const POD: &str = "dde1244b-5bb5-4297-b544-85f3bc0d80bf";
const STATIC_POD: &str = "b53dfa9e2dc9b890f7fadb2770857b03";

/// Path, container, runtime, uid of the pod, uid of the user.
type Case = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>, Option<u32>);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // docker: both drivers, nested, with systemd in it, of a user, of ECS, and a daemon with another parent.
    ("/docker/ID", Some(ID), Some("docker"), None, None),
    ("/system.slice/docker-ID.scope", Some(ID), Some("docker"), None, None),
    ("/system.slice/docker-ID.scope/system.slice/nginx.service", Some(ID), Some("docker"), None, None),
    ("/system.slice/docker-ID.scope/docker/INNER", Some(INNER), Some("docker"), None, None),
    ("/docker/ID/docker/INNER/init.scope", Some(INNER), Some("docker"), None, None),
    ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", Some(ID), Some("docker"), None, Some(1000)),
    ("/ecs/0410eff7c7e541a8a4e3a4c9c4e3d6c4/ID", Some(ID), None, None, None),
    ("/batch.slice/docker-ID.scope", Some(ID), Some("docker"), None, None),
    ("/system.slice/docker.service", None, None, None, None),
    // podman: root's, a user's, cgroupfs, in a pod, split, and what watches it.
    ("/machine.slice/libpod-ID.scope", Some(ID), Some("podman"), None, None),
    ("/machine.slice/libpod-ID.scope/container", Some(ID), Some("podman"), None, None),
    ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container", Some(ID), Some("podman"), None, Some(1000)),
    ("/libpod_parent/libpod-ID", Some(ID), Some("podman"), None, None),
    ("/machine.slice/machine-libpod_pod_INNER.slice/libpod-ID.scope", Some(ID), Some("podman"), None, None),
    ("/machine.slice/machine-libpod_pod_INNER.slice", None, None, None, None),
    ("/system.slice/web.service/libpod-payload-ID", Some(ID), Some("podman"), None, None),
    ("/system.slice/web.service/runtime", None, None, None, None),
    ("/machine.slice/libpod-conmon-ID.scope", None, None, None, None),
    ("/libpod_parent/conmon", None, None, None, None),
    // containerd without Kubernetes.
    ("/system.slice/nerdctl-ID.scope", Some(ID), Some("containerd"), None, None),
    ("/default/ID", Some(ID), None, None, None),
    // Kubernetes: systemd and cgroupfs as drivers, each class of service, pods from files, cri-o, docker, kind, misconfigured.
    ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope", Some(ID), Some("containerd"), Some(POD), None),
    ("/kubepods.slice/kubepods-podPOD_.slice/cri-containerd-ID.scope", Some(ID), Some("containerd"), Some(POD), None),
    ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/crio-ID.scope", Some(ID), Some("cri-o"), Some(POD), None),
    ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/crio-conmon-ID.scope", None, None, Some(POD), None),
    ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/crio-ID.scope/container", Some(ID), Some("cri-o"), Some(POD), None),
    ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podPOD_.slice/docker-ID.scope", Some(ID), Some("docker"), Some(POD), None),
    ("/kubepods/burstable/podPOD/ID", Some(ID), None, Some(POD), None),
    ("/kubepods/podPOD/ID", Some(ID), None, Some(POD), None),
    ("/kubepods/besteffort/podPOD/crio-ID", Some(ID), Some("cri-o"), Some(POD), None),
    ("/kubepods/burstable/podSTATIC/ID", Some(ID), None, Some(STATIC_POD), None),
    ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSTATIC.slice/cri-containerd-ID.scope", Some(ID), Some("containerd"), Some(STATIC_POD), None),
    ("/kubepods/burstable/podPOD/kata_ID", Some(ID), None, Some(POD), None),
    ("/docker/INNER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podPOD_.slice/cri-containerd-ID.scope", Some(ID), Some("containerd"), Some(POD), None),
    ("/docker/INNER/kubelet/kubepods/burstable/podPOD/ID", Some(ID), None, Some(POD), None),
    ("/system.slice/containerd.service/kubepods-burstable-podPOD_.slice:cri-containerd:ID", Some(ID), Some("containerd"), Some(POD), None),
    ("/kubepods/podPOD/ID/docker/INNER", Some(INNER), Some("docker"), Some(POD), None),
    ("/kubepods/burstable/podPOD", None, None, Some(POD), None),
    ("/kubepods.slice/kubepods-burstable.slice", None, None, None, None),
    // nspawn, by unit and by hand; virtual machines are none.
    ("/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service", Some("web"), Some("nspawn"), None, None),
    ("/machine.slice/systemd-nspawn@web-2.service/payload", Some("web-2"), Some("nspawn"), None, None),
    ("/machine.slice/systemd-nspawn@web.service/supervisor", None, None, None, None),
    (r"/machine.slice/machine-my\x2dweb.scope/payload/init.scope", Some("my-web"), Some("nspawn"), None, None),
    (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator", None, None, None, None),
    (r"/machine.slice/machine-lxc\x2d17\x2dweb.scope", Some("lxc-17-web"), None, None, None),
    (r"/machine.slice/machine-a\xzz\x4.scope", Some(r"a\xzz\x4"), Some("nspawn"), None, None),
    // LXC, LXD and Proxmox.
    ("/lxc.payload.web/system.slice", Some("web"), Some("lxc"), None, None),
    ("/lxc.payload/web", Some("web"), Some("lxc"), None, None),
    ("/lxc/101/ns/system.slice/ssh.service", Some("101"), Some("lxc"), None, None),
    ("/lxc.monitor.web", None, None, None, None),
    // runc and crun alone.
    ("/system.slice/runc-web.scope", Some("web"), Some("runc"), None, None),
    ("/system.slice/crun-web.scope", Some("web"), Some("crun"), None, None),
    // None of these.
    ("/", None, None, None, None),
    ("/user.slice/user-1000.slice/session-3.scope", None, None, None, None),
    ("/system.slice/ssh.service", None, None, None, None),
    ("/system.slice/xID", None, None, None, None),
    ("/system.slice/IDf", None, None, None, None),
    ("/system.slice/\u{e9}ID", None, None, None, None),
    ("/podcast/tripod-podium", None, None, None, None),
];

#[test]
fn containers_and_pods_are_found_in_the_paths_that_managers_make() {
    for (path, container, runtime, pod_uid, uid) in CASES {
        let path = path.replace("POD_", &POD.replace('-', "_")).replace("POD", POD).replace("STATIC", STATIC_POD);
        let path = path.replace("INNER", INNER).replace("ID", ID);
        let expected = (container.is_some() || pod_uid.is_some()).then(|| Place {
            container: container.map(Into::into),
            runtime: *runtime,
            pod_uid: pod_uid.map(Into::into),
            uid: *uid,
        });
        assert_eq!(place(&path), expected, "{path}");
    }
}

#[test]
fn units_are_the_deepest() {
    assert_eq!(unit("/system.slice/ssh.service"), Some("ssh.service"));
    assert_eq!(unit("/user.slice/user-1000.slice/session-3.scope"), Some("session-3.scope"));
    assert_eq!(unit("/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service"), Some("sync.service"));
    assert_eq!(unit("/system.slice/docker-0.scope/system.slice/nginx.service"), Some("nginx.service"));
    assert_eq!(unit("/user.slice"), None);
}
