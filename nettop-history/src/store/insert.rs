//! A slot becomes rows.

use rusqlite::{Connection, ToSql, params, params_from_iter};

use crate::{
    measures::{DEVICE, DISK, DROP, HOST, SAMPLE, TICK, USAGE},
    names::Names,
    plan::Resolution,
    rollup,
    slot::Slot,
};

/// Inserts a slot's rows, and notes that its minute has to be rolled up.
///
/// # Errors
///
/// If SQLite refuses, as with a full disk or a damaged file. The caller is to roll back, and to read `names` again:
/// some may have numbers that the file lacks.
pub fn insert(connection: &Connection, names: &mut Names, slot: &Slot) -> rusqlite::Result<()> {
    let ts = slot.ts;
    let tick = &slot.tick;
    let lost: u64 = slot.losses.values().sum();
    let [load1, load5, load15] = tick.load.map_or([None; 3], |load| load.map(Some));
    connection.prepare_cached(&TICK.insert(Resolution::Slot))?.execute(params![
        ts,
        tick.measured_ms.cast_signed(),
        tick.readings.cast_signed(),
        tick.clock_step_ms,
        lost.cast_signed(),
        slot.flush,
        tick.late_ms.cast_signed(),
        load1,
        load5,
        load15,
        tick.cpu_some,
        tick.memory_some,
        tick.memory_full,
        tick.io_some,
        tick.io_full,
        tick.namespaces_unread.map(u64::cast_signed),
    ])?;
    let mut samples = Vec::with_capacity(slot.samples.len());
    for (who, counters) in &slot.samples {
        samples.push((names.process(connection, who, ts)?, counters));
    }
    // In the order of the key: pages fill up from left to right.
    samples.sort_unstable_by_key(|(process, _)| *process);
    let mut statement = connection.prepare_cached(&SAMPLE.insert(Resolution::Slot))?;
    for (process, counters) in samples {
        statement.execute(params![
            ts,
            process,
            counters.tx_bytes.cast_signed(),
            counters.rx_bytes.cast_signed(),
            counters.tx_packets.cast_signed(),
            counters.rx_packets.cast_signed(),
            counters.tx_app_bytes.cast_signed(),
            counters.rx_app_bytes.cast_signed(),
        ])?;
    }
    let mut statement = connection.prepare_cached(&DEVICE.insert(Resolution::Slot))?;
    for (device, balance) in &slot.devices {
        let (tx, rx) = (&balance.tx, &balance.rx);
        statement.execute(params![
            ts,
            names.device(connection, device)?,
            tx.bytes.cast_signed(),
            tx.packets.cast_signed(),
            tx.attributed_bytes.cast_signed(),
            tx.kernel_bytes.cast_signed(),
            tx.forwarded_bytes.cast_signed(),
            tx.upper_bytes.cast_signed(),
            tx.copied_bytes.cast_signed(),
            tx.unattributed_bytes,
            tx.undecided_bytes,
            rx.bytes.cast_signed(),
            rx.packets.cast_signed(),
            rx.attributed_bytes.cast_signed(),
            rx.kernel_bytes.cast_signed(),
            rx.forwarded_bytes.cast_signed(),
            rx.upper_bytes.cast_signed(),
            rx.copied_bytes.cast_signed(),
            rx.unattributed_bytes,
            rx.undecided_bytes,
        ])?;
    }
    let mut statement = connection.prepare_cached(&DROP.insert(Resolution::Slot))?;
    for ((kind, who), dropped) in &slot.drops {
        let (kind, process) = (names.kind(connection, kind)?, names.process(connection, who, ts)?);
        statement.execute(params![ts, kind, process, dropped.packets.cast_signed(), dropped.bytes.cast_signed()])?;
    }
    let mut usage = Vec::with_capacity(slot.usage.len());
    for (who, used) in &slot.usage {
        usage.push((names.process(connection, who, ts)?, used));
    }
    usage.sort_unstable_by_key(|(process, _)| *process);
    let mut statement = connection.prepare_cached(&USAGE.insert(Resolution::Slot))?;
    for (process, used) in usage {
        statement.execute(params_from_iter([ts, process].into_iter().chain(used.values())))?;
    }
    if let Some(host) = &slot.host {
        connection
            .prepare_cached(&HOST.insert(Resolution::Slot))?
            .execute(params_from_iter([ts].into_iter().chain(host.values())))?;
    }
    let mut statement = connection.prepare_cached(&DISK.insert(Resolution::Slot))?;
    for (disk, usage) in &slot.disks {
        let key: [&dyn ToSql; 3] = [&ts, &disk.name, &disk.mounted];
        let values = usage.values();
        let values = values.iter().map(|value| value as &dyn ToSql);
        statement.execute(params_from_iter(key.into_iter().chain(values)))?;
    }
    for (id, container) in &slot.containers {
        names.container(connection, id, container)?;
    }
    for (cause, count) in &slot.losses {
        connection
            .prepare_cached("INSERT INTO loss VALUES(?1, ?2, ?3) ON CONFLICT(ts, cause) DO UPDATE SET count = count + excluded.count")?
            .execute(params![ts, cause, count.cast_signed()])?;
    }
    rollup::mark_dirty(connection, Resolution::Minute, ts)
}
