//! What hardware drivers count, read in the source of Linux 6.1 and 6.12. A driver that is not here is not known, or leaves
//! its counters to firmware that nobody has read.

use std::time::Duration;

use nettop_common::abi::ETHERNET_HEADER_BYTES;

use super::basis::{
    Basis,
    Counts::{Once, Segments},
    Padding::{Always, Maybe, Never},
};

/// After so long without traffic a card has posted all that it counted: `idpf` does so each 10 s.
pub const POSTING_TIME: Duration = Duration::from_secs(12);

/// One driver.
pub struct Driver {
    /// As `ethtool -i` has it.
    pub name: &'static str,
    /// By [`nettop_common::Direction`].
    pub basis: [Basis; 2],
    /// Files and functions.
    pub source: &'static str,
}

/// Some counters have the frame check sequence as well.
const HEADER_AND_FCS_BYTES: u32 = 18;

const fn driver(name: &'static str, basis: [Basis; 2], source: &'static str) -> Driver {
    Driver { name, basis, source }
}

/// Segments that the hardware makes are counted, by formula or in its registers; received frames always fill 60 bytes.
const SEGMENTS: [Basis; 2] =
    [Basis::new(Segments, ETHERNET_HEADER_BYTES), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Always)];
/// The same, with short frames padded by the driver before it counts.
const PADDED: [Basis; 2] = [
    Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Always),
    Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Always),
];
/// usbnet makes no segments. A frame that fills its last USB packet is sent, and counted, with one byte more.
const USB: [Basis; 2] = [Basis::new(Segments, ETHERNET_HEADER_BYTES), Basis::new(Segments, 0).padded(Maybe)];
/// Super-packets that are sent count once.
const SENT_ONCE: [Basis; 2] =
    [Basis::new(Once, ETHERNET_HEADER_BYTES).padded(Never), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Always)];
/// Sent packets are counted as segments, with the headers of one.
const PACKETS_ONLY: Basis = Basis { bytes: Once, ..Basis::new(Segments, ETHERNET_HEADER_BYTES) };

/// By name.
pub const DRIVERS: [Driver; 26] = [
    driver("bcmgenet", SEGMENTS, "bcmgenet.c: bcmgenet_tx_reclaim, bcmgenet_desc_rx"),
    driver(
        "brcmfmac",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Segments, 0)],
        "brcmfmac/core.c: brcmf_netdev_start_xmit, brcmf_netif_rx",
    ),
    driver("cdc_ether", USB, "usbnet.c: usbnet_start_xmit, usbnet_skb_return behind eth_type_trans"),
    driver("e1000", PADDED, "e1000_main.c: e1000_clean_tx_irq, e1000_clean_rx_irq"),
    driver(
        "e1000e",
        [
            Basis::new(Segments, HEADER_AND_FCS_BYTES).padded(Always),
            Basis::new(Segments, HEADER_AND_FCS_BYTES).padded(Always),
        ],
        "e1000e/netdev.c: e1000e_update_stats, of the MAC's registers",
    ),
    driver(
        "ena",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Segments, 0).padded(Maybe)],
        "ena_netdev.c: ena_xmit_common, ena_clean_rx_irq behind eth_type_trans",
    ),
    driver(
        "fec",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Segments, HEADER_AND_FCS_BYTES).padded(Always)],
        "fec_main.c: fec_enet_tx_queue, fec_enet_rx_queue",
    ),
    driver(
        "gve",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Once, ETHERNET_HEADER_BYTES).padded(Maybe)],
        "gve_tx.c: gve_clean_tx_done, gve_rx_dqo.c: gve_rx_poll_dqo",
    ),
    driver(
        "hv_netvsc",
        // Its merged packets have no mark, and pass as one packet everywhere.
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Maybe)],
        "netvsc_drv.c: netvsc_xmit, netvsc_recv_callback",
    ),
    driver("i40e", SEGMENTS, "i40e_txrx.c: i40e_clean_tx_irq, i40e_clean_rx_irq"),
    driver("ice", PADDED, "ice_txrx.c: ice_clean_tx_irq, ice_clean_rx_irq"),
    driver("igb", SEGMENTS, "igb_main.c: igb_clean_tx_irq, igb_clean_rx_irq"),
    driver("igc", SEGMENTS, "igc_main.c: igc_clean_tx_irq, igc_clean_rx_irq"),
    driver(
        "ixgbe",
        [Basis::new(Segments, ETHERNET_HEADER_BYTES), Basis::new(Once, ETHERNET_HEADER_BYTES).padded(Always)],
        "ixgbe_main.c: ixgbe_clean_tx_irq, ixgbe_clean_rx_irq with RSC",
    ),
    driver(
        "ixgbevf",
        [Basis::new(Segments, ETHERNET_HEADER_BYTES), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Maybe)],
        "ixgbevf_main.c: ixgbevf_clean_tx_irq, ixgbevf_clean_rx_irq",
    ),
    driver(
        "lan78xx",
        [PACKETS_ONLY.padded(Always), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Always)],
        "lan78xx.c: lan78xx_tx_buf_fill, lan78xx_rx",
    ),
    driver(
        "mana",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Segments, ETHERNET_HEADER_BYTES).padded(Maybe)],
        "mana_en.c: mana_start_xmit, mana_rx_skb",
    ),
    driver("mlx4_en", PADDED, "en_tx.c: mlx4_en_xmit, en_rx.c: mlx4_en_process_rx_cq"),
    driver("mlx5_core", PADDED, "en_tx.c: mlx5e_sq_xmit_prepare, en_rx.c: mlx5e_build_rx_skb"),
    driver("mvneta", SENT_ONCE, "mvneta.c: mvneta_tx, mvneta_rx_hwbm"),
    driver("nfp", SEGMENTS, "nfd3/dp.c: nfp_nfd3_tx_complete, nfp_nfd3_rx"),
    driver("r8152", [PACKETS_ONLY, SENT_ONCE[1]], "r8152.c: r8152_tx_agg_fill, rx_bottom"),
    driver("r8169", SENT_ONCE, "r8169_main.c: rtl_tx, rtl_rx"),
    driver("st_gmac", SENT_ONCE, "stmmac_main.c: stmmac_tso_xmit, stmmac_rx"),
    driver(
        // xen-netfront, by its bus.
        "vif",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Once, 0).padded(Maybe)],
        "xen-netfront.c: xennet_start_xmit, handle_incoming_queue",
    ),
    driver(
        "virtio_net",
        [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Once, ETHERNET_HEADER_BYTES).padded(Maybe)],
        "virtio_net.c: __free_old_xmit, virtnet_receive_packets",
    ),
];

/// The driver of that name.
pub fn find(name: &str) -> Option<&'static Driver> {
    DRIVERS.iter().find(|driver| driver.name == name)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::{
        super::basis::{Basis, Counts, Padding},
        DRIVERS,
    };
    use crate::golden;

    #[test]
    fn the_drivers_in_docs_are_these() {
        const PATH: &str = "../docs/devices.md";
        let kept = std::fs::read_to_string(format!("{}/{PATH}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let (before, rest) = kept.split_once("| Driver |").unwrap();
        let (_, after) = rest.split_once("\n\n").unwrap();
        let mut table = "| Driver | Sent packets | Received packets | Read in |\n|---|---|---|---|\n".to_owned();
        for driver in &DRIVERS {
            let [tx, rx] = driver.basis.map(|basis| words(&basis));
            writeln!(table, "| `{}` | {tx} | {rx} | {} |", driver.name, driver.source).unwrap();
        }
        golden::hold(PATH, &format!("{before}{table}\n{after}"));
    }

    fn words(basis: &Basis) -> String {
        let counts = match (basis.packets, basis.bytes) {
            (Counts::Segments, Counts::Segments) => "segments",
            (Counts::Segments, _) => "segments, with the headers of super-packets",
            _ => "super-packets once",
        };
        let padding = match basis.padding {
            Padding::Never => "",
            Padding::Always => ", short frames as 60 B",
            Padding::Maybe => ", short frames as they come",
            Padding::ToBlocks => ", padded",
        };
        format!("{counts}, {:+} B{padding}", basis.link_header_bytes)
    }

    #[test]
    fn drivers_are_in_order_and_once() {
        assert!(DRIVERS.is_sorted_by(|a, b| a.name < b.name));
    }
}
