//! Who processes are, as the programs saw them: records that come once for each, before its first packet.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex},
};

use aya::maps::{Map, MapData, RingBuf};
use nettop_common::{
    OwnerKey, ProcessRecord,
    process::{
        ARGUMENTS_CUT, ARGUMENTS_UNREAD, Ancestor, CGROUP_CUT, DELETED, DIRECTORY_CUT, DIRECTORY_KNOWN, NO_LOGIN,
        PROGRAM_CUT,
    },
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::lock::lock;

/// A process when it made its first socket, or executed a program after that. Names are raw bytes.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Described {
    pub key: OwnerKey,
    /// Path of the program, from the root of its mount namespace; none if it has none. Of one that is too long it is the
    /// end, behind `...`.
    pub program: Option<Vec<u8>>,
    /// The program's file has no name any more.
    pub is_deleted: bool,
    /// Path in the cgroup2 hierarchy, or if it is at the root there, in the one by which systemd manages units; none if it is
    /// too long.
    pub cgroup: Option<Vec<u8>>,
    /// None where they could not be read; those that are whole in the first 255 bytes.
    pub arguments: Vec<Vec<u8>>,
    /// Another process was recorded than the running one: its arguments are those that it had.
    pub are_arguments_unread: bool,
    /// There are more than `arguments` has.
    pub are_arguments_cut: bool,
    /// Working directory that the process was made in, empty for the root; none if it has changed it since, or if its path is too long.
    pub directory: Option<Vec<u8>>,
    /// User who logged in, as audit keeps it.
    pub login_uid: Option<u32>,
    /// Leader of its session: only `tgid` if it has ended.
    pub session: Option<Ancestor>,
    /// The parent first.
    pub ancestors: Vec<Ancestor>,
}

/// The ring of records.
pub struct Records(Arc<Mutex<Ring>>);

struct Ring {
    records: RingBuf<MapData>,
    /// Out of the ring already, and not taken.
    ahead: Vec<Described>,
}

/// Most records that are passed on before they are taken; others wait in the ring.
const MAX_EARLY_RECORDS: usize = 4096;

impl Records {
    pub(super) fn from_map(map: Map) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Ring { records: RingBuf::try_from(map)?, ahead: Vec::new() }))))
    }

    /// Takes all that are there now.
    pub fn take(&mut self) -> Vec<Described> {
        let mut ring = lock(&self.0);
        let mut all = std::mem::take(&mut ring.ahead);
        while let Some(item) = ring.records.next() {
            all.extend(parse(&item));
        }
        all
    }

    /// For a thread that waits for records as they come.
    ///
    /// # Errors
    ///
    /// If the ring's descriptor cannot be duplicated.
    pub fn arrivals(&self) -> anyhow::Result<Arrivals> {
        let descriptor = lock(&self.0).records.as_raw_fd();
        // SAFETY: the ring is there as long as the lock.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
        Ok(Arrivals { ring: Arc::clone(&self.0), descriptor })
    }
}

/// Records that nobody has taken yet.
pub struct Arrivals {
    ring: Arc<Mutex<Ring>>,
    descriptor: OwnedFd,
}

impl Arrivals {
    /// Waits for records, and passes each on once. Returns whether there is room for more.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to wait.
    pub fn wait_for_each(&self, mut handle: impl FnMut(&Described)) -> anyhow::Result<bool> {
        let mut descriptors = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut descriptors, PollTimeout::NONE)
            && error != nix::errno::Errno::EINTR
        {
            return Err(error.into());
        }
        let mut ring = lock(&self.ring);
        let Ring { records, ahead } = &mut *ring;
        while ahead.len() < MAX_EARLY_RECORDS
            && let Some(item) = records.next()
        {
            let seen = ahead.len();
            ahead.extend(parse(&item));
            ahead.iter().skip(seen).for_each(&mut handle);
        }
        Ok(ahead.len() < MAX_EARLY_RECORDS)
    }
}

pub(super) fn parse(bytes: &[u8]) -> Option<Described> {
    let (record, names) = bytes.split_at_checked(size_of::<ProcessRecord>())?;
    let record: ProcessRecord = bytemuck::pod_read_unaligned(record);
    let bytes = |count: u32| usize::try_from(count).ok();
    let (program, names) = names.split_at_checked(bytes(record.program_bytes)?)?;
    let (cgroup, names) = names.split_at_checked(bytes(record.cgroup_bytes)?)?;
    let (arguments, names) = names.split_at_checked(bytes(record.argument_bytes)?)?;
    let directory = names.get(..bytes(record.directory_bytes)?)?;
    let has = |flag| record.flags & flag != 0;
    let ancestors = record.above.into_iter().take(bytes(record.ancestors)?).collect();
    let arguments = if has(ARGUMENTS_CUT) {
        // The last is not whole.
        arguments.iter().rposition(|byte| *byte == 0).map_or(&[][..], |end| &arguments[..end])
    } else {
        arguments.strip_suffix(b"\0").unwrap_or(arguments)
    };
    Some(Described {
        key: record.key,
        program: path(program).map(|path| if has(PROGRAM_CUT) { [b"...", &path[..]].concat() } else { path }),
        is_deleted: has(DELETED),
        cgroup: (!has(CGROUP_CUT)).then(|| path(cgroup).unwrap_or_else(|| b"/".to_vec())),
        arguments: if arguments.is_empty() {
            Vec::new()
        } else {
            arguments.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
        },
        are_arguments_unread: has(ARGUMENTS_UNREAD),
        are_arguments_cut: has(ARGUMENTS_CUT),
        directory: (has(DIRECTORY_KNOWN) && !has(DIRECTORY_CUT)).then(|| path(directory).unwrap_or_default()),
        login_uid: (record.login_uid != NO_LOGIN).then_some(record.login_uid),
        session: (record.session.tgid != 0).then_some(record.session),
        ancestors,
    })
}

/// Components from the last to the first, each with a zero behind it.
fn path(components: &[u8]) -> Option<Vec<u8>> {
    let components = components.strip_suffix(b"\0")?;
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(names: [&[u8]; 4], flags: u32) -> Vec<u8> {
        let [program_bytes, cgroup_bytes, argument_bytes, directory_bytes] =
            names.map(|name| u32::try_from(name.len()).unwrap());
        let key = OwnerKey { start_time_ns: 5, tgid: 7, uid: 1 };
        let mut above = [Ancestor::default(); 8];
        above[0].tgid = 6;
        let record = ProcessRecord {
            key,
            flags,
            ancestors: 1,
            program_bytes,
            cgroup_bytes,
            argument_bytes,
            directory_bytes,
            login_uid: if flags & DELETED == 0 { NO_LOGIN } else { 1000 },
            padding: 0,
            session: Ancestor { tgid: flags & DELETED, ..Ancestor::default() },
            above,
        };
        [bytemuck::bytes_of(&record), &names.concat()].concat()
    }

    #[test]
    fn paths_are_put_together_from_their_ends() {
        let bytes = record(
            [b"curl\0bin\0usr\0", b"cron.service\0system.slice\0", b"curl\0\0-s\0", b"etl\0srv\0"],
            DELETED | DIRECTORY_KNOWN,
        );
        let described = parse(&bytes).unwrap();
        assert_eq!(described.program.as_deref(), Some(&b"/usr/bin/curl"[..]));
        assert!(described.is_deleted);
        assert_eq!(described.cgroup.as_deref(), Some(&b"/system.slice/cron.service"[..]));
        assert_eq!(described.arguments, [&b"curl"[..], b"", b"-s"]);
        assert_eq!(described.directory.as_deref(), Some(&b"/srv/etl"[..]));
        assert_eq!((described.login_uid, described.session.map(|leader| leader.tgid)), (Some(1000), Some(DELETED)));
        assert_eq!(described.ancestors.iter().map(|ancestor| ancestor.tgid).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn what_is_cut_or_missing_is_not_known() {
        let names = [&b"curl\0bin\0"[..], b"a\0", b"curl\0-s\0/tm", b"srv\0"];
        let described = |flags| parse(&record(names, flags)).unwrap();
        assert_eq!(described(PROGRAM_CUT).program.as_deref(), Some(&b".../bin/curl"[..]));
        assert_eq!(described(PROGRAM_CUT).cgroup.as_deref(), Some(&b"/a"[..]));
        assert_eq!(described(CGROUP_CUT).cgroup, None);
        assert_eq!(described(CGROUP_CUT).program.as_deref(), Some(&b"/bin/curl"[..]));
        assert_eq!(described(ARGUMENTS_CUT).arguments, [&b"curl"[..], b"-s"]);
        assert_eq!(described(DIRECTORY_KNOWN).directory.as_deref(), Some(&b"/srv"[..]));
        assert_eq!(described(DIRECTORY_KNOWN | DIRECTORY_CUT).directory, None);
        assert_eq!(described(0).directory, None);
        assert_eq!((described(0).login_uid, described(0).session), (None, None));
        let none = parse(&record([b"", b"", b"", b""], 0)).unwrap();
        assert_eq!((none.program, none.cgroup.as_deref()), (None, Some(&b"/"[..])));
        let root = parse(&record([b"", b"", b"", b""], DIRECTORY_KNOWN)).unwrap();
        assert_eq!(root.directory.as_deref(), Some(&b""[..]));
        let whole = record([b"x\0", b"", b"", b""], 0);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "{end}");
        }
    }
}
