//! Intervals of a small server: a proxy with two workers, a backup, a container, a cron job that ends.

use std::sync::Arc;

use nettop_model::{
    ContainerNames, Host, ProcessNames, ProcessResources, Resources, ResourcesReport, Snapshot,
    drops::{Class, DropReport, TcpReport},
    snapshot::{
        Amount, BasisReport, Count, DeviceBalance, DeviceReport, DirectionBalance, DropAmount, Parent, RowReport,
        Traffic,
    },
    sockets::{Document, HolderReport, SocketReport, Tcp},
};

use crate::frame::Measured;

/// When the first interval begins.
pub const BEGIN_MS: i64 = 1_795_033_600_000;
pub const INTERVAL_MS: u64 = 5000;

fn traffic(tx: u64, rx: u64) -> Traffic {
    let amount = |bytes: u64| Amount { bytes, packets: bytes.div_ceil(1448), app_bytes: bytes };
    Traffic { tx: amount(tx), rx: amount(rx) }
}

/// A process that moves so much each interval, in its interval of this number.
fn row(number: u64, pid: u32, comm: &str, exe: &str, unit: &str, moved: [u64; 2]) -> RowReport {
    RowReport {
        pid,
        start_time_ns: Some(u64::from(pid) * 1_000_000_000),
        comm: comm.into(),
        uid: (pid != 0).then_some(0),
        user: (pid != 0).then(|| "root".into()),
        process: ProcessNames {
            exe: Some(exe.into()).filter(|exe: &String| !exe.is_empty()),
            unit: Some(unit.into()).filter(|unit: &String| !unit.is_empty()),
            ..ProcessNames::default()
        },
        netns: 4_026_531_833,
        netns_cookie: 1,
        device: Some("eth0".into()),
        ifindex: Some(2),
        owner: "user".into(),
        interval: traffic(moved[0], moved[1]),
        total: traffic(moved[0] * number, moved[1] * number),
        ..RowReport::default()
    }
}

fn parent(pid: u32, comm: &str) -> Parent {
    Parent { pid, start_time_ns: u64::from(pid) * 1_000_000_000, comm: comm.into(), uid: 0 }
}

fn rows(number: u64) -> Vec<RowReport> {
    let mut rows = vec![
        row(number, 812, "nginx", "/usr/sbin/nginx", "nginx.service", [9_000_000, 1_000_000 + number * 50_000]),
        row(number, 813, "nginx", "/usr/sbin/nginx", "nginx.service", [4_000_000, 500_000]),
        row(
            number,
            27_258,
            "rsync",
            "/usr/bin/rsync",
            "backup.service",
            [if number > 3 { 190_500_000 } else { 0 }, 62_000],
        ),
        row(number, 940, "postgres", "/usr/lib/postgresql/16/bin/postgres", "", [2_060_000, 4_900_000]),
        row(number, 0, "[kernel]", "", "", [205_000, 110_000]),
    ];
    rows[0].process.parents = [parent(800, "nginx"), parent(1, "systemd")].into();
    rows[0].drops = Count { interval: 10, total: 10 * number };
    rows[1].process.parents = [parent(800, "nginx"), parent(1, "systemd")].into();
    rows[2].process.parents = [parent(27_200, "backup.sh"), parent(1, "systemd")].into();
    rows[2].retransmits = Count { interval: 211, total: 211 * number };
    rows[3].process.container = Some("4f1c0ffee".into());
    let names =
        ContainerNames { container_name: Some("db".into()), image: Some("postgres:16".into()), ..Default::default() };
    rows[3].process.names = Arc::new(names);
    if number == 4 {
        let mut curl = row(number, 3000, "curl", "/usr/bin/curl", "cron.service", [12_000, 88_000]);
        curl.total = curl.interval;
        curl.exited = true;
        rows.push(curl);
    }
    rows
}

fn devices(rows: &[RowReport]) -> Vec<DeviceReport> {
    let side = |of: fn(&RowReport) -> u64, unattributed: u64| {
        let sum = |is_kernel: bool| rows.iter().filter(|row| (row.pid == 0) == is_kernel).map(of).sum::<u64>();
        let (owned, kernel) = (sum(false), sum(true));
        DirectionBalance {
            bytes: owned + kernel + unattributed,
            attributed_bytes: owned,
            kernel_bytes: kernel,
            unattributed_bytes: unattributed,
            ..DirectionBalance::default()
        }
    };
    let balance =
        DeviceBalance { tx: side(|row| row.interval.tx.bytes, 0), rx: side(|row| row.interval.rx.bytes, 30_000) };
    let basis = BasisReport { packets: "segments".into(), known: "source".into(), ..BasisReport::default() };
    let lo = DirectionBalance { bytes: 777, attributed_bytes: 777, ..DirectionBalance::default() };
    let device = |device: &str, ifindex: u32, interval: DeviceBalance| DeviceReport {
        netns: 4_026_531_833,
        netns_cookie: 1,
        device: device.into(),
        ifindex,
        driver: Some("virtio_net".into()),
        tx_basis: basis.clone(),
        rx_basis: basis.clone(),
        interval,
        total: interval,
        ..DeviceReport::default()
    };
    vec![device("eth0", 2, balance), device("lo", 1, DeviceBalance { tx: lo, rx: lo })]
}

fn drops(number: u64) -> Vec<DropReport> {
    let amount = |packets: u64| DropAmount { packets, bytes: Some(packets * 100) };
    vec![DropReport {
        reason: "SOCKET_RCVBUFF".into(),
        reason_code: Some(6),
        class: Class::Capacity,
        location: "udp_queue_rcv_one_skb+0x1a".into(),
        protocol: Some("UDP".into()),
        netns: Some(4_026_531_833),
        netns_cookie: Some(1),
        device: Some("eth0".into()),
        ifindex: Some(2),
        pid: Some(812),
        start_time_ns: Some(812_000_000_000),
        uid: Some(0),
        comm: Some("nginx".into()),
        owner: "receiver".into(),
        local_port: None,
        interval: amount(10),
        total: amount(10 * number),
    }]
}

fn resources(number: u64) -> ResourcesReport {
    let process = |pid: u32, comm: &str, cpu_ms: u64, used: Resources| ProcessResources {
        pid,
        start_time_ns: Some(u64::from(pid) * 1_000_000_000),
        comm: comm.into(),
        exe: Some(format!("/usr/bin/{comm}")),
        uid: Some(0),
        user: Some("root".into()),
        unit: Some(format!("{comm}.service")),
        parents: [Parent { pid: 1, comm: "systemd".into(), ..Parent::default() }].into(),
        resources: Resources {
            user_us: cpu_ms * 1000,
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            cpu_percent: cpu_ms as f64 / 50.0,
            rss_mean_bytes: Some(u64::from(pid) << 20),
            read_bytes: Some(0),
            write_bytes: Some(cpu_ms << 15),
            threads: 4,
            ..used
        },
        ..ProcessResources::default()
    };
    let blocked = Resources { blocked_mean: 38.0, runnable_mean: 0.5, ..Resources::default() };
    let ended = Resources { exits: Some(1), exits_signaled: Some(1), exit_signal: Some(9), ..Resources::default() };
    let many = Resources { exits: Some(200), ..Resources::default() };
    ResourcesReport {
        host: Host { usage_ms: INTERVAL_MS, ..Host::default() },
        disks: Vec::new(),
        processes: vec![
            process(812, "backup", 1000 + 700 * number, blocked),
            process(900, "leak", 40, Resources { oom_kills: Some(1), ..ended }),
            ProcessResources { start_time_ns: None, ..process(0, "cc1", 2000, many) },
        ],
        others: Resources::default(),
    }
}

/// The interval of this number, from 1 on.
pub fn measured(number: u64) -> Measured {
    let at_ms = BEGIN_MS + i64::try_from(number * INTERVAL_MS).unwrap();
    let rows = rows(number);
    let seconds = number * INTERVAL_MS / 1000;
    let snapshot = Snapshot {
        host: "web-03".into(),
        kernel: "6.12.107".into(),
        interval_ms: INTERVAL_MS,
        devices: devices(&rows),
        rows,
        resources: Some(resources(number)),
        drops: drops(number),
        tcp: vec![TcpReport {
            event: "retransmit".into(),
            device: Some("eth0".into()),
            pid: Some(27_258),
            start_time_ns: Some(27_258_000_000_000),
            comm: Some("rsync".into()),
            count: Count { interval: 211, total: 211 * number },
            ..TcpReport::default()
        }],
        ..Snapshot::default()
    };
    Measured { snapshot, at_ms, local_time: format!("2026-11-18 22:10:{:02}", seconds % 60) }
}

/// A connection of rsync's, and a listener of both workers'.
pub fn sockets() -> Document {
    let holder = |pid: u32, comm: &str, exe: &str| HolderReport {
        pid,
        start_time_ns: u64::from(pid) * 1_000_000_000,
        fd: 5,
        comm: comm.into(),
        process: ProcessNames { exe: Some(exe.into()), ..ProcessNames::default() },
        warnings: Vec::new(),
    };
    let socket = |state: &'static str, local: &str, remote: &str, ports: [u16; 2], holders| SocketReport {
        protocol: "tcp".into(),
        ip_version: Some(4),
        state: state.into(),
        local: local.into(),
        remote: remote.into(),
        local_address: Some("10.0.0.3".into()),
        remote_address: Some("192.0.2.7".into()),
        local_port: Some(ports[0]),
        remote_port: Some(ports[1]),
        netns: 4_026_531_833,
        netns_cookie: 1,
        device: None,
        uid: 0,
        user: Some("root".into()),
        inode: Some(u64::from(ports[0])),
        receive_queue: Some(0),
        send_queue: Some(2_100_000),
        tcp: (state == "established").then_some(Tcp {
            rtt_us: Some(41_000),
            cwnd_segments: Some(512),
            retransmits: Some(211),
            acked_bytes: Some(975_000_000),
            received_bytes: Some(1_800_000),
            segments_sent: None,
            segments_received: None,
            data_segments_sent: None,
            data_segments_received: None,
        }),
        age_ms: None,
        interval: None,
        holders,
        rpc_program: None,
    };
    let workers = vec![holder(812, "nginx", "/usr/sbin/nginx"), holder(813, "nginx", "/usr/sbin/nginx")];
    Document {
        schema: "nettop.sockets/1".into(),
        version: "0".into(),
        host: "web-03".into(),
        boot_id: "b".into(),
        kernel: "k".into(),
        time: "t".into(),
        interval_ms: None,
        sockets: vec![
            socket("listen", "*:https", "*", [443, 0], workers),
            socket(
                "established",
                "10.0.0.3:40412",
                "backup.example.net:rsync",
                [40_412, 873],
                vec![holder(27_258, "rsync", "/usr/bin/rsync")],
            ),
        ],
        truncated: false,
        namespaces_unread: 0,
        packets_uncounted: None,
        names_unanswered: 0,
    }
}
