//! The kernels of the matrix, as Debian packages them: fetched once, kept below target/vm.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    command::{output, root, run},
    debian::Suite,
};

/// Modules that scenarios need, with their dependencies. What a kernel has built in, or lacks, is left out.
const MODULES: &[&str] = &[
    // Asked for by name, not by symbol: the first by SCTP, the next by kTLS, those of random numbers by IPsec.
    "crc32c_generic",
    "aes_generic",
    "aesni_intel",
    "ctr",
    "gcm",
    "ccm",
    "ghash_generic",
    "crypto_null",
    "hmac",
    "sha512_generic",
    "jitterentropy_rng",
    "drbg",
    "8021q",
    "algif_aead",
    "bonding",
    "bridge",
    "dccp_ipv4",
    "esp4",
    // The disk of the reset test.
    "ext4",
    "geneve",
    "ip_gre",
    "ipip",
    "ipv6",
    "ipvlan",
    "l2tp_ip",
    // Asked for by name by zram.
    "lzo_rle",
    "macvlan",
    "mptcp_diag",
    "nf_tables",
    "nfsd",
    "nft_chain_nat",
    "nft_counter",
    "nft_masq",
    "nft_reject_inet",
    "nft_queue",
    "nfnetlink_queue",
    // A slow disk.
    "null_blk",
    "pcrypt",
    "sch_cake",
    "sch_codel",
    "sch_fq_codel",
    "sch_netem",
    "sch_tbf",
    "sctp",
    "seqiv",
    "tcp_diag",
    "tls",
    "tun",
    "udp_diag",
    "veth",
    "virtio_blk",
    "virtio_pci",
    "vrf",
    "vxlan",
    "wireguard",
    "xfrm_user",
    "zram",
];

/// Those of the cards in `cards.rs` and of what stands on them, which only its machine loads.
const CARD_MODULES: &[&str] = &["8139cp", "cdc_ether", "e1000", "e1000e", "igb", "virtio_net", "vmxnet3", "xhci_pci"];

/// A line of the matrix.
pub struct Kernel {
    /// As the command line names it.
    pub version: &'static str,
    suite: &'static str,
    /// Package with the image.
    image: &'static str,
    /// What the name of the package with the modules has instead of `binary`, where that is another one.
    has_module_package: bool,
    /// Back ends that must pass here; none where the kernel is below the floor.
    pub backends: &'static [&'static str],
}

/// Oldest first.
pub const MATRIX: &[Kernel] = &[
    Kernel {
        version: "5.10",
        suite: "bullseye",
        image: r"^linux-image-5\.10\.[-0-9]*-cloud-amd64$",
        has_module_package: false,
        backends: &[],
    },
    Kernel {
        version: "6.1",
        suite: "bookworm",
        image: r"^linux-image-6\.1\.[-0-9]*-amd64$",
        has_module_package: false,
        backends: &["fentry", "kprobe"],
    },
    Kernel {
        version: "6.12",
        suite: "trixie",
        image: r"^linux-image-6\.12\.[0-9]*\+deb13-amd64$",
        has_module_package: false,
        backends: &["tracepoint", "fentry", "kprobe"],
    },
    Kernel {
        version: "7.2",
        suite: "sid",
        image: r"^linux-binary-[0-9.]*\+deb[0-9]*-amd64$",
        has_module_package: true,
        backends: &["tracepoint", "fentry", "kprobe"],
    },
];

/// A kernel on disk.
pub struct Installed {
    pub image: PathBuf,
    /// Uncompressed, each after those it needs.
    pub modules: Vec<PathBuf>,
    card_modules: Vec<PathBuf>,
}

impl Installed {
    /// Where the kernel's files are.
    ///
    /// # Errors
    ///
    /// If its image is in no folder.
    pub fn folder(&self) -> anyhow::Result<&Path> {
        self.image.parent().context("an image without a folder")
    }

    /// The same kernel with modules for network cards.
    pub fn with_cards(&self) -> Self {
        let modules = self.modules.iter().chain(&self.card_modules).cloned().collect();
        Self { image: self.image.clone(), modules, card_modules: Vec::new() }
    }
}

impl Kernel {
    /// Fetches the kernel, unless that was done before.
    ///
    /// # Errors
    ///
    /// If Debian has it no longer, or does not answer.
    pub fn install(&self) -> anyhow::Result<Installed> {
        let folder = root().join("target/vm").join(self.suite);
        let (image, modules, order) = (folder.join("vmlinuz"), folder.join("modules"), folder.join("modules.order"));
        let order_of_cards = folder.join("modules.order.cards");
        let (wanted, kept) = ([MODULES, CARD_MODULES].concat().join("\n"), folder.join("modules.wanted"));
        // Written last.
        if fs::read_to_string(&kept).unwrap_or_default() != wanted {
            let work = folder.join("packages");
            let suite = Suite::open(self.suite, &work)?;
            let package = suite.newest(self.image)?;
            let files = suite.unpack(&package)?;
            if self.has_module_package {
                suite.unpack(&package.replace("binary", "modules"))?;
            }
            fs::create_dir_all(&modules)?;
            fs::copy(find_image(&files)?, &image)?;
            let names = collect_modules(&files, &modules, MODULES, &[])?;
            fs::write(&order, names.join("\n"))?;
            let names_of_cards = collect_modules(&files, &modules, CARD_MODULES, &names)?;
            fs::write(&order_of_cards, names_of_cards.join("\n"))?;
            fs::remove_dir_all(work)?;
            fs::write(&kept, wanted)?;
        }
        let in_order = |order: &Path| -> anyhow::Result<Vec<PathBuf>> {
            Ok(fs::read_to_string(order)?.lines().map(|name| modules.join(name)).collect())
        };
        let (all, card_modules) = (in_order(&order)?, in_order(&order_of_cards)?);
        Ok(Installed { image, modules: all, card_modules })
    }
}

fn find_image(files: &Path) -> anyhow::Result<PathBuf> {
    let found = output(Command::new("find").arg(files).args(["-name", "vmlinuz*", "-type", "f"]))?;
    let image = found.lines().next().context("the package holds no kernel image")?;
    Ok(image.into())
}

/// Copies the wanted modules and what they need, uncompressed, except those that are there. Returns their names in the
/// order of loading.
fn collect_modules(files: &Path, to: &Path, wanted: &[&str], there: &[String]) -> anyhow::Result<Vec<String>> {
    let found = output(Command::new("find").arg(files).args(["-name", "*.ko", "-o", "-name", "*.ko.xz"]))?;
    let all: Vec<&Path> = found.lines().map(Path::new).collect();
    let mut order = there.to_vec();
    for name in wanted {
        add_module(name, &all, to, &mut order)?;
    }
    Ok(order.split_off(there.len()))
}

fn add_module(name: &str, all: &[&Path], to: &Path, order: &mut Vec<String>) -> anyhow::Result<()> {
    let is_named = |path: &&&Path| {
        let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next());
        stem.is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
    };
    let Some(path) = all.iter().find(is_named) else { return Ok(()) };
    let copy = format!("{name}.ko");
    if order.contains(&copy) {
        return Ok(());
    }
    let target = to.join(&copy);
    if path.extension().is_some_and(|extension| extension == "xz") {
        let compressed = to.join(format!("{copy}.xz"));
        fs::copy(path, &compressed)?;
        run(Command::new("xz").args(["--decompress", "--force"]).arg(&compressed))?;
    } else {
        fs::copy(path, &target)?;
    }
    for needed in dependencies(&fs::read(&target)?)? {
        add_module(&needed, all, to, order)?;
    }
    order.push(copy);
    Ok(())
}

/// The `depends=` line of a module's `.modinfo`.
fn dependencies(module: &[u8]) -> anyhow::Result<Vec<String>> {
    const TAG: &[u8] = b"\0depends=";
    let Some(at) = module.windows(TAG.len()).position(|window| window == TAG) else {
        bail!("a module without depends=")
    };
    let rest = &module[at + TAG.len()..];
    let end = rest.iter().position(|byte| *byte == 0).context("depends= has no end")?;
    let names = std::str::from_utf8(&rest[..end])?;
    Ok(names.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
}
