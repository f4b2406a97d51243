//! What is recorded of a slot besides the network: what processes used, and the host's own counters. What is a state, and not
//! a count, is recorded as its product with time, so that it adds up over processes, slots and resolutions alike.

use std::hash::Hash;

use indexmap::{IndexMap, map::Entry};

/// A struct of sums and highest values, with their columns.
macro_rules! columns {
    (
        $(#[$of:meta])* $name:ident
        sums: { $($(#[$about:meta])* $sum:ident,)* }
        highest: { $($(#[$about_highest:meta])* $highest:ident,)* }
    ) => {
        $(#[$of])*
        #[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$about])* pub $sum: u64,)*
            $($(#[$about_highest])* pub $highest: u64,)*
        }

        impl $name {
            pub(crate) const SUMS: &'static [&'static str] = &[$(stringify!($sum)),*];
            pub(crate) const HIGHEST: &'static [&'static str] = &[$(stringify!($highest)),*];

            /// Adds more of the same: counts grow, and the highest stays.
            pub fn add(&mut self, more: &Self) {
                // A file may hold anything.
                $(self.$sum = self.$sum.saturating_add(more.$sum);)*
                $(self.$highest = self.$highest.max(more.$highest);)*
            }

            /// What is left of the counts without the others.
            #[must_use]
            pub fn without(&self, others: &Self) -> Self {
                Self { $($sum: self.$sum.saturating_sub(others.$sum),)* $($highest: self.$highest,)* }
            }

            /// All of them, for a query.
            pub(crate) fn columns() -> String {
                [Self::SUMS, Self::HIGHEST].concat().join(", ")
            }

            /// In the order of the columns.
            pub(crate) fn values(&self) -> Vec<i64> {
                vec![$(self.$sum.cast_signed(),)* $(self.$highest.cast_signed(),)*]
            }

            /// From the columns, of which the first is this one.
            pub(crate) fn read(row: &rusqlite::Row<'_>, mut at: usize) -> rusqlite::Result<Self> {
                let mut next = || {
                    at += 1;
                    // None below nothing, whoever wrote the file.
                    row.get::<_, Option<i64>>(at - 1).map(|value| value.unwrap_or(0).max(0).cast_unsigned())
                };
                Ok(Self { $($sum: next()?,)* $($highest: next()?,)* })
            }
        }
    };
}

columns! {
    /// What one process used.
    Usage
    sums: {
        /// On a CPU.
        user_us,
        system_us,
        /// Its threads, each, runnable and waiting for a CPU.
        wait_us,
        /// Waiting for block I/O, where the kernel accounts delays.
        block_io_us,
        /// Threads in the run queue or on a CPU at a reading, times the interval.
        runnable_ms,
        /// Threads that waited uninterruptibly, likewise.
        blocked_ms,
        /// Resident memory, and what is in swap, at a reading, times the interval.
        rss_kib_s,
        swap_kib_s,
        /// From and to storage.
        read_bytes,
        write_bytes,
        cancelled_write_bytes,
        major_faults,
        voluntary_switches,
        involuntary_switches,
        /// Whether the kernel ended it to free memory.
        oom_kills,
        /// Whether it ended, with a code that is not 0, or by a signal.
        exits,
        exits_failed,
        exits_signaled,
    }
    highest: {
        rss_peak_kib,
        threads,
        /// As `wait` tells it. Of several processes it says nothing.
        exit_status,
    }
}

columns! {
    /// What the host as a whole did, by its own counters.
    HostUsage
    sums: {
        /// Sum of the intervals between readings of what processes used.
        usage_ms,
        /// All CPUs together, by kind.
        user_ms,
        system_ms,
        irq_ms,
        iowait_ms,
        idle_ms,
        steal_ms,
        /// Of block devices; those of loop devices twice, and what goes over the network not at all.
        disk_read_bytes,
        disk_write_bytes,
        swap_in_bytes,
        swap_out_bytes,
        oom_kills,
    }
    highest: {
        memory_total_kib,
        memory_used_kib,
        swap_total_kib,
        swap_used_kib,
        /// 1 where the kernel does not tell this of processes: time waiting for a CPU and for block I/O, bytes of storage,
        /// memory, and what was used until the end.
        untold_wait,
        untold_block_io,
        untold_disk,
        untold_memory,
        untold_ended,
    }
}

columns! {
    /// What a block device did, by its own counters.
    DiskUsage
    sums: {
        /// While at least one request was in flight.
        busy_ms,
        /// Requests in flight at a reading, times the interval.
        in_flight_ms,
        read_bytes,
        write_bytes,
    }
    highest: {}
}

/// A block device, with its partitions apart.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Disk {
    /// As in /proc/diskstats.
    pub name: String,
    /// Where its file system is mounted, escaped; empty if nowhere.
    pub mounted: String,
}

/// Disks that are recorded of a slot, with the most requests in flight. A disk, its partitions and what is built upon them are
/// several.
pub const MAX_DISKS: usize = 32;

/// Adds what a disk did to that of the same name: it may be mounted elsewhere now.
pub fn add_disk(disks: &mut Vec<(Disk, DiskUsage)>, disk: Disk, usage: &DiskUsage) {
    match disks.iter_mut().find(|(known, _)| known.name == disk.name) {
        Some((known, sum)) => {
            *known = disk;
            sum.add(usage);
        }
        None => disks.push((disk, *usage)),
    }
}

/// Keeps those with the most requests in flight; of those the busiest.
pub fn keep_busiest(disks: &mut Vec<(Disk, DiskUsage)>) {
    disks.sort_by_key(|(_, usage)| std::cmp::Reverse((usage.in_flight_ms, usage.busy_ms)));
    disks.truncate(MAX_DISKS);
}

impl Usage {
    pub const fn cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }

    pub const fn disk_bytes(&self) -> u64 {
        self.read_bytes.saturating_add(self.write_bytes)
    }

    /// In the load average.
    pub const fn load_ms(&self) -> u64 {
        self.runnable_ms.saturating_add(self.blocked_ms)
    }

    /// Amounts by which leaders are found: of CPU, memory, disk, load, and time that threads waited for a CPU.
    pub const fn ranks(&self) -> [u64; 5] {
        [self.cpu_us(), self.rss_kib_s, self.disk_bytes(), self.load_ms(), self.wait_us]
    }
}

/// Less than this leads in nothing, as most of what commands of a moment use: 10 ms of CPU, 1 MiB for 10 s, 64 KiB, any load,
/// and 10 ms of waiting.
const LEAST: [u64; 5] = [10_000, 10 << 10, 64 << 10, 1, 10_000];

/// Processes that are named of an interval, a slot, a minute or an hour, of each measure.
pub const LEADERS_PER_RANK: usize = 16;

/// Groups of processes of one name, user, cgroup and program that are named, of each measure: of those that lead in nothing
/// by themselves.
pub const CROWDS_PER_RANK: usize = 4;

/// As many rows as leaders may have are kept without a look at who leads.
pub const MOST_ROWS: usize = LEADERS_PER_RANK * 5;

/// Keeps those that lead in any of the ranks, `most` in each, and of those that the kernel ended for memory, and of those
/// that ended by a signal, the first `most`. The others go to `other`.
pub fn keep_leaders<T>(rows: Vec<T>, usage_of: impl Fn(&T) -> &Usage, most: usize, mut other: impl FnMut(T)) -> Vec<T> {
    let mut is_kept = vec![false; rows.len()];
    let ended: [fn(&Usage) -> u64; 2] = [|usage| usage.oom_kills, |usage| usage.exits_signaled];
    for how in ended {
        let some = (0..rows.len()).filter(|at| how(usage_of(&rows[*at])) > 0).take(most);
        some.for_each(|at| is_kept[at] = true);
    }
    let ranks: Vec<[u64; 5]> = rows.iter().map(|row| usage_of(row).ranks()).collect();
    for (rank, least) in LEAST.into_iter().enumerate() {
        let mut order: Vec<usize> = (0..rows.len()).filter(|at| ranks[*at][rank] >= least).collect();
        if order.len() > most {
            order.select_nth_unstable_by_key(most, |at| std::cmp::Reverse(ranks[*at][rank]));
        }
        order.into_iter().take(most).for_each(|at| is_kept[at] = true);
    }
    let mut kept = Vec::new();
    for (row, is_kept) in rows.into_iter().zip(is_kept) {
        if is_kept {
            kept.push(row);
        } else {
            other(row);
        }
    }
    kept
}

/// What is named of a slot, a minute or an hour, and the sum of the rest.
pub struct Recorded<K, C, P> {
    pub leaders: Vec<(K, Usage)>,
    /// With the parents, if all have the same.
    pub crowds: Vec<(C, Option<P>, Usage)>,
    pub others: Usage,
}

/// Those that lead in nothing by themselves, and have the same name, user, cgroup and program.
struct Crowd<K, P> {
    /// While it is but one, with its place: that keeps its own name.
    only: Option<(usize, K)>,
    parents: Option<P>,
    usage: Usage,
}

impl<K, P: PartialEq> Crowd<K, P> {
    fn add(&mut self, parents: &P, usage: &Usage) {
        self.only = None;
        self.parents.take_if(|common| common != parents);
        self.usage.add(usage);
    }
}

/// Keeps those that lead, and of the others the crowds that lead together. `crowd_of` tells whose crowd one is in, and its
/// parents.
pub fn keep_recorded<K, C: Eq + Hash, P: PartialEq>(
    rows: Vec<(K, Usage)>,
    crowd_of: impl Fn(&K) -> (C, P),
) -> Recorded<K, C, P> {
    let rows = rows.into_iter().enumerate().map(|(at, (row, usage))| (at, row, usage)).collect();
    let mut crowds: IndexMap<C, Crowd<K, P>> = IndexMap::new();
    let add_to_crowd = |(at, row, usage): (usize, K, Usage)| {
        let (crowd, parents) = crowd_of(&row);
        match crowds.entry(crowd) {
            Entry::Occupied(mut known) => known.get_mut().add(&parents, &usage),
            Entry::Vacant(new) => {
                new.insert(Crowd { only: Some((at, row)), parents: Some(parents), usage });
            }
        }
    };
    let mut leaders = keep_leaders(rows, |(.., usage)| usage, LEADERS_PER_RANK, add_to_crowd);
    let mut recorded = Recorded { leaders: Vec::new(), crowds: Vec::new(), others: Usage::default() };
    let add_to_others = |(_, crowd): (C, Crowd<K, P>)| recorded.others.add(&crowd.usage);
    let crowds = crowds.into_iter().collect();
    for (key, crowd) in keep_leaders(crowds, |(_, crowd)| &crowd.usage, CROWDS_PER_RANK, add_to_others) {
        match crowd.only {
            Some((at, row)) => leaders.push((at, row, crowd.usage)),
            None => recorded.crowds.push((key, crowd.parents, crowd.usage)),
        }
    }
    leaders.sort_by_key(|(at, ..)| *at);
    recorded.leaders.extend(leaders.into_iter().map(|(_, row, usage)| (row, usage)));
    recorded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_in_any_measure_stays_and_the_rest_is_added_up() {
        let mut rows: Vec<(u32, Usage)> = Vec::new();
        for number in 0..100 {
            let amount = u64::from(number) + 1;
            let usage = Usage { user_us: 20_000 + amount, rss_kib_s: 20_000 - amount, ..Usage::default() };
            rows.push((number, usage));
        }
        rows.push((200, Usage { write_bytes: 70_000, ..Usage::default() }));
        rows.push((201, Usage { blocked_ms: 5, ..Usage::default() }));
        rows.push((202, Usage { wait_us: 10_000, ..Usage::default() }));
        rows.extend((203..206).map(|number| (number, Usage { oom_kills: 1, ..Usage::default() })));
        rows.push((206, Usage { user_us: 9999, read_bytes: 65_535, ..Usage::default() }));
        rows.extend((207..210).map(|number| (number, Usage { exits: 1, exits_signaled: 1, ..Usage::default() })));
        rows.push((210, Usage { exits: 1, exits_failed: 1, ..Usage::default() }));
        let (mut sum, mut number) = (Usage::default(), 0);
        let all = rows.iter().fold(Usage::default(), |mut all, (_, usage)| {
            all.add(usage);
            all
        });
        let kept = keep_leaders(
            rows,
            |(_, usage)| usage,
            2,
            |(_, usage)| {
                sum.add(&usage);
                number += 1;
            },
        );
        let who: Vec<u32> = kept.iter().map(|(who, _)| *who).collect();
        assert_eq!(who, [0, 1, 98, 99, 200, 201, 202, 203, 204, 207, 208], "of those ended, no more than lead");
        assert_eq!(number, 100);
        kept.iter().for_each(|(_, usage)| sum.add(usage));
        assert_eq!(sum, all);
    }
}
