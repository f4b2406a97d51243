//! What ethtool asks the kernel about a network device, in the calling thread's namespace: its driver, and which offload
//! features are in force (`dev_ethtool`, net/ethtool/ioctl.c; neither needs a privilege).

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    sync::OnceLock,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `struct ethtool_drvinfo` has such names.
const NAME_BYTES: usize = 32;
const DRVINFO_BYTES: usize = 196;
/// `ETH_GSTRING_LEN`.
const STRING_BYTES: usize = 32;
/// More features than any kernel has: 64 in 6.12.
const MAX_FEATURES: usize = 256;

/// Offload features in force that decide what a device counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Features {
    /// Segments TCP itself, by IP version ([`nettop_common::Family`]).
    pub tcp_segmentation: [bool; 2],
    /// Any kind of TCP segmentation (`NETIF_F_ALL_TSO`).
    pub any_tcp_segmentation: bool,
    pub udp_segmentation: bool,
    pub gro: bool,
    /// GRO of UDP by lists of packets, or of forwarded UDP.
    pub udp_gro: bool,
    /// The device merges what it receives.
    pub lro: bool,
    /// Tags of VLANs are beside the frame, by direction ([`nettop_common::Direction`]): the hardware puts them in and out.
    pub vlan_offload: [bool; 2],
}

/// Asks for devices of one network namespace.
pub struct Ethtool {
    socket: OwnedFd,
}

impl Ethtool {
    /// For the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// If descriptors are exhausted, or a system call filter forbids sockets.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)? })
    }

    /// Name of the driver.
    ///
    /// # Errors
    ///
    /// ENODEV if the device is gone or its hardware detached, EOPNOTSUPP if no driver is behind it, as of a bridge; else what
    /// the driver returns when it is woken up to be asked. Such a device has no known driver.
    pub fn driver(&self, device: &CStr) -> io::Result<String> {
        const GDRVINFO: u32 = 3;
        let mut info = [0; DRVINFO_BYTES];
        set(&mut info, 0, GDRVINFO);
        self.ask(device, &mut info)?;
        let name = &info[4..4 + NAME_BYTES];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        Ok(String::from_utf8_lossy(&name[..end]).into_owned())
    }

    /// The features in force.
    ///
    /// # Errors
    ///
    /// ENODEV if the device is gone or its hardware detached, EOPNOTSUPP if the kernel has more than [`MAX_FEATURES`]; else
    /// what the driver returns when it is woken up to be asked. The features of such a device are unknown.
    pub fn features(&self, device: &CStr) -> io::Result<Features> {
        /// The kernel's names and numbers of features are the same for all devices.
        static BITS: OnceLock<Bits> = OnceLock::new();
        let bits = match BITS.get() {
            Some(bits) => bits,
            None => {
                let names = self.feature_names(device)?;
                BITS.get_or_init(|| Bits::new(&names))
            }
        };
        const GFEATURES: u32 = 0x3a;
        const HEADER_BYTES: usize = 8;
        // available, requested, active, never_changed
        const BLOCK_BYTES: usize = 16;
        const ACTIVE_OFFSET_BYTES: usize = 8;
        let mut answer = [0; HEADER_BYTES + MAX_FEATURES / 32 * BLOCK_BYTES];
        set(&mut answer, 0, GFEATURES);
        set(&mut answer, 4, MAX_FEATURES as u32 / 32);
        self.ask(device, &mut answer)?;
        let is_active = |bit: usize| {
            get(&answer, HEADER_BYTES + bit / 32 * BLOCK_BYTES + ACTIVE_OFFSET_BYTES) >> (bit % 32) & 1 != 0
        };
        Ok(bits.features(is_active))
    }

    /// Names of features by number.
    fn feature_names(&self, device: &CStr) -> io::Result<Vec<String>> {
        const GSSET_INFO: u32 = 0x37;
        const GSTRINGS: u32 = 0x1b;
        const FEATURES: u32 = 4;
        // cmd, reserved, mask of sets, size of the one set
        let mut info = [0; 20];
        set(&mut info, 0, GSSET_INFO);
        set(&mut info, 8, 1 << FEATURES);
        self.ask(device, &mut info)?;
        let count = get(&info, 16) as usize;
        if get(&info, 8) == 0 || count > MAX_FEATURES {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        const HEADER_BYTES: usize = 12;
        let mut strings = vec![0; HEADER_BYTES + MAX_FEATURES * STRING_BYTES];
        set(&mut strings, 0, GSTRINGS);
        set(&mut strings, 4, FEATURES);
        set(&mut strings, 8, count as u32);
        self.ask(device, &mut strings)?;
        let name = |name: &[u8]| {
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        };
        Ok(strings[HEADER_BYTES..].chunks_exact(STRING_BYTES).take(count).map(name).collect())
    }

    /// One question; `data` begins with its number and has room for the longest answer.
    fn ask(&self, device: &CStr, data: &mut [u8]) -> io::Result<()> {
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        // SAFETY: all zero is an ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = device.to_bytes();
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: the name ends with a zero, and the kernel writes no more than the question's number lets it: `data` has
        // room for that.
        if unsafe { libc::ioctl(self.socket.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Numbers of features; none where the kernel has no such feature.
#[derive(Debug)]
struct Bits {
    tcp_segmentation: [Option<usize>; 2],
    any_tcp_segmentation: [Option<usize>; 4],
    udp_segmentation: Option<usize>,
    gro: Option<usize>,
    udp_gro: [Option<usize>; 2],
    lro: Option<usize>,
    vlan_offload: [Option<usize>; 2],
}

impl Bits {
    /// Of the kernel's names (`netdev_features_strings`).
    fn new(names: &[String]) -> Self {
        let bit = |name: &str| names.iter().position(|other| other == name);
        let tcp_segmentation = [bit("tx-tcp-segmentation"), bit("tx-tcp6-segmentation")];
        let [tcp4, tcp6] = tcp_segmentation;
        Self {
            tcp_segmentation,
            any_tcp_segmentation: [tcp4, tcp6, bit("tx-tcp-ecn-segmentation"), bit("tx-tcp-mangleid-segmentation")],
            udp_segmentation: bit("tx-udp-segmentation"),
            gro: bit("rx-gro"),
            udp_gro: [bit("rx-gro-list"), bit("rx-udp-gro-forwarding")],
            lro: bit("rx-lro"),
            vlan_offload: [bit("tx-vlan-hw-insert"), bit("rx-vlan-hw-parse")],
        }
    }

    fn features(&self, is_active: impl Fn(usize) -> bool) -> Features {
        let is_active = |bit: Option<usize>| bit.is_some_and(&is_active);
        Features {
            tcp_segmentation: self.tcp_segmentation.map(is_active),
            any_tcp_segmentation: self.any_tcp_segmentation.into_iter().any(is_active),
            udp_segmentation: is_active(self.udp_segmentation),
            gro: is_active(self.gro),
            udp_gro: self.udp_gro.into_iter().any(is_active),
            lro: is_active(self.lro),
            vlan_offload: self.vlan_offload.map(is_active),
        }
    }
}

fn get(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn set(data: &mut [u8], at: usize, word: u32) {
    if let Some(place) = data.get_mut(at..at + 4) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Ethtool;

    #[test]
    fn the_kernel_reports_the_features_of_lo() {
        let ethtool = Ethtool::new().unwrap();
        let features = ethtool.features(c"lo").unwrap();
        assert!(features.udp_segmentation && features.tcp_segmentation == [true; 2], "{features:?}");
        assert!(features.any_tcp_segmentation && features.gro && !features.udp_gro, "{features:?}");
        assert_eq!(ethtool.driver(c"no-such-device").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(ethtool.features(c"a-name-that-is-too-long").is_err());
    }
}
