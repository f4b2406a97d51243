//! The views of the file, which any SQLite client reads.

/// For people: names instead of numbers, times of day. `ts` is an indexed column: select by it.
pub const VIEWS: &str = "
DROP VIEW IF EXISTS talkers;
CREATE VIEW talkers AS SELECT datetime(s.ts, 'unixepoch', 'localtime') AS time, s.ts, b.host, p.pid, p.uid, g.comm, g.exe, g.unit,
    g.container, d.name AS device, d.netns, s.tx_bytes, s.rx_bytes, s.tx_packets, s.rx_packets, s.tx_app_bytes, s.rx_app_bytes,
    s.tx_bytes + s.rx_bytes AS bytes, b.boot_id, p.start_time_ns, g.cgroup, g.script,
    a.comm AS parent, a.starter, c.name AS container_name, c.image, c.runtime, c.pod, c.pod_container, c.workload,
    l.login_uid, l.session, l.session_comm, l.arguments
    FROM sample_10s s JOIN process p ON p.id = s.process JOIN program g ON g.id = p.program JOIN device d ON d.id = p.device
    JOIN boot b ON b.id = p.boot LEFT JOIN ancestor a ON a.id = p.parent LEFT JOIN container c ON c.id = g.container
    LEFT JOIN login l ON l.process = p.id;
DROP VIEW IF EXISTS hogs;
CREATE VIEW hogs AS SELECT datetime(s.ts, 'unixepoch', 'localtime') AS hour, s.ts, p.pid, p.uid, g.comm, g.unit, g.container,
    sum(s.tx_bytes) AS tx_bytes, sum(s.rx_bytes) AS rx_bytes, sum(s.tx_bytes + s.rx_bytes) AS bytes,
    max(s.tx_peak) / 10 AS tx_peak_bytes_per_s, max(s.rx_peak) / 10 AS rx_peak_bytes_per_s, b.boot_id, p.start_time_ns,
    c.name AS container_name, c.pod
    FROM sample_1h s JOIN process p ON p.id = s.process JOIN program g ON g.id = p.program JOIN boot b ON b.id = p.boot
    LEFT JOIN container c ON c.id = g.container
    GROUP BY s.ts, p.boot, p.pid, p.start_time_ns, p.uid, g.id;
DROP VIEW IF EXISTS drops;
CREATE VIEW drops AS SELECT datetime(s.ts, 'unixepoch', 'localtime') AS time, s.ts, k.reason, k.class, k.location, k.protocol,
    nullif(p.pid, 0) AS pid, p.uid, nullif(g.comm, '') AS comm, g.unit, g.container, d.name AS device, s.packets, s.bytes,
    b.boot_id, p.start_time_ns, c.name AS container_name, c.pod
    FROM drop_10s s JOIN drop_kind k ON k.id = s.kind JOIN process p ON p.id = s.process JOIN program g ON g.id = p.program
    JOIN device d ON d.id = p.device JOIN boot b ON b.id = p.boot LEFT JOIN container c ON c.id = g.container;
DROP VIEW IF EXISTS devices;
CREATE VIEW devices AS SELECT datetime(s.ts, 'unixepoch', 'localtime') AS time, s.*, d.name, d.netns
    FROM device_10s s JOIN device d ON d.id = s.device;
DROP VIEW IF EXISTS ticks;
CREATE VIEW ticks AS SELECT datetime(ts, 'unixepoch', 'localtime') AS time, ts, measured_ms, readings, late_ms, clock_step_ms, lost,
    load1, load5, load15, cpu_some, memory_some, memory_full, io_some, io_full FROM tick_10s;
DROP VIEW IF EXISTS resources;
CREATE VIEW resources AS SELECT datetime(u.ts, 'unixepoch', 'localtime') AS time, u.ts, b.host, p.pid, p.uid, g.comm, g.exe, g.unit,
    g.container, u.user_us, u.system_us, round((u.user_us + u.system_us) / 10.0 / nullif(h.usage_ms, 0), 2) AS cpu_percent, u.wait_us,
    u.block_io_us, round(1.0 * u.runnable_ms / nullif(h.usage_ms, 0), 2) AS runnable,
    round(1.0 * u.blocked_ms / nullif(h.usage_ms, 0), 2) AS blocked, u.rss_kib_s * 1000 / nullif(h.usage_ms, 0) AS rss_kib,
    u.rss_peak_kib, u.swap_kib_s * 1000 / nullif(h.usage_ms, 0) AS swap_kib, u.read_bytes, u.write_bytes, u.cancelled_write_bytes,
    u.major_faults, u.voluntary_switches, u.involuntary_switches, u.threads, u.oom_kills, b.boot_id, p.start_time_ns,
    g.cgroup, a.comm AS parent, a.starter, c.name AS container_name, c.pod, u.exits,
    iif(u.exits = 1 AND p.pid <> 0 AND u.exit_status & 127 = 0, u.exit_status >> 8, NULL) AS exit_code,
    iif(u.exits = 1 AND p.pid <> 0, nullif(u.exit_status & 127, 0), NULL) AS exit_signal
    FROM usage_10s u JOIN host_10s h ON h.ts = u.ts JOIN process p ON p.id = u.process JOIN program g ON g.id = p.program
    JOIN boot b ON b.id = p.boot LEFT JOIN ancestor a ON a.id = p.parent LEFT JOIN container c ON c.id = g.container;
DROP VIEW IF EXISTS host;
CREATE VIEW host AS SELECT datetime(ts, 'unixepoch', 'localtime') AS time, * FROM host_10s;
DROP VIEW IF EXISTS disks;
CREATE VIEW disks AS SELECT datetime(d.ts, 'unixepoch', 'localtime') AS time, d.ts, d.name, nullif(d.mounted, '') AS mounted,
    round(min(100.0, 100.0 * d.busy_ms / nullif(h.usage_ms, 0)), 1) AS busy_percent,
    round(1.0 * d.in_flight_ms / nullif(h.usage_ms, 0), 2) AS in_flight, d.read_bytes, d.write_bytes
    FROM disk_10s d JOIN host_10s h ON h.ts = d.ts;
DROP VIEW IF EXISTS savetop;
CREATE VIEW savetop AS SELECT
    (SELECT b.host FROM usage_10s u JOIN process p ON p.id = u.process JOIN boot b ON b.id = p.boot WHERE u.ts = t.ts LIMIT 1)
        AS HostName,
    datetime(t.ts, 'unixepoch', 'localtime') AS DateAndTime, t.load1 AS Load,
    (SELECT group_concat(line, char(10)) FROM
         (SELECT printf('%7d %-16s %6.1f %7d', pid, comm, cpu_percent, rss_kib / 1024) AS line FROM resources r
          WHERE r.ts = t.ts ORDER BY cpu_percent DESC)) AS TopProcesses
    FROM tick_10s t JOIN host_10s h ON h.ts = t.ts;
DROP VIEW IF EXISTS gaps;
CREATE VIEW gaps AS SELECT datetime(from_ms / 1000, 'unixepoch', 'localtime') AS from_time,
    datetime(to_ms / 1000, 'unixepoch', 'localtime') AS to_time, (to_ms - from_ms) / 1000.0 AS seconds, from_ms, to_ms FROM gap;";
