//! What a device's counters count, by its driver or kind, its features and the devices that belong to it.

use nettop_common::{abi::ETHERNET_HEADER_BYTES, row::GSO_MAX_SIZE};

use super::{
    basis::{
        Basis,
        Counts::{Buffers, Either, Once, Segments},
        Padding::ToBlocks,
        RX, TX, Whole,
    },
    device::{Device, LinkLayer},
    drivers,
    measured::UNMARKED,
};

/// `struct message_data` and the authentication tag.
const SEALED_HEADER_BYTES: u32 = 32;

/// The devices that affect what one counts.
#[derive(Default)]
pub struct Related<'a> {
    /// Other ends of a veth; several if it is not known which of them it is.
    pub peers: Vec<&'a Device>,
    /// Parts of a bond, or a virtual function under a synthetic device.
    pub parts: Vec<&'a Device>,
}

/// What the device counts, by direction.
pub fn basis(device: &Device, related: &Related<'_>) -> [Basis; 2] {
    match device.setup.link_layer {
        // loopback_xmit counts after eth_type_trans has pulled the header.
        LinkLayer::Loopback => [Basis::new(Once, 0), Basis::new(Buffers, 0)],
        LinkLayer::Ethernet if device.identity.kind.is_empty() => hardware(device, related),
        LinkLayer::Ethernet => ethernet(device, related),
        LinkLayer::Other => other(&device.identity.kind),
    }
}

/// Which super-packets it gets, by the features in force.
pub fn whole(device: &Device) -> Whole {
    let Some(features) = &device.setup.features else { return Whole::default() };
    // TCP fills up to the device's limit, but for two segments, which may be more (`tcp_tso_autosize`).
    let least = GSO_MAX_SIZE.saturating_add(1).max(device.setup.mtu_bytes.saturating_mul(2));
    let is_large = |family: usize| features.tcp_segmentation[family] && device.setup.gso_max_bytes[family] >= least;
    Whole { tcp: features.tcp_segmentation, udp: features.udp_segmentation, large: [is_large(0), is_large(1)] }
}

/// Whether a frame's VLAN tag is in its length where the device counts it. The stack takes tags out before any device above
/// the first receives a frame (`skb_vlan_untag` in `__netif_receive_skb_core`).
pub fn counts_tags(device: &Device, basis: &[Basis; 2]) -> [bool; 2] {
    let Some(features) = device.setup.features else { return [false; 2] };
    let is_first = matches!(device.identity.kind.as_str(), "" | "veth" | "tun" | "netkit");
    // The MAC's registers have what is on the wire.
    let is_on_wire = basis.map(|basis| device.is_hardware() && basis.link_header_bytes > ETHERNET_HEADER_BYTES);
    let [tx, rx] = features.vlan_offload.map(|is_beside| !is_beside);
    [is_on_wire[TX] || tx, is_on_wire[RX] || rx && is_first]
}

fn hardware(device: &Device, related: &Related<'_>) -> [Basis; 2] {
    let setup = &device.setup;
    if setup.driver.is_empty() {
        return [Basis::undecided("no driver is known"); 2];
    }
    let Some(driver) = drivers::find(&setup.driver) else {
        return [Basis::undecided("what this driver counts is not known"); 2];
    };
    let [tx, mut rx] = driver.basis;
    match driver.name {
        // Its counters are the hardware's; hypervisors emulate them differently.
        "e1000e" if setup.is_virtual => return [Basis::undecided("an emulated e1000e counts as its maker likes"); 2],
        "hv_netvsc" if !related.parts.is_empty() => {
            return [Basis::undecided("a virtual function carries part of its traffic"); 2];
        }
        _ => {}
    }
    // Of hv_netvsc the device counts as one, too, what the host merged (`netvsc_recv_callback`).
    let merges = driver.name != "hv_netvsc" && setup.features.is_some_and(|features| features.lro);
    if rx.packets == Segments && merges {
        rx = Basis::undecided(UNMARKED);
    }
    [tx, rx]
}

/// Software that uses Ethernet.
fn ethernet(device: &Device, related: &Related<'_>) -> [Basis; 2] {
    match device.identity.kind.as_str() {
        "veth" => veth(device, &related.peers),
        // bond_get_stats adds up those of its parts.
        "bond" => bond(&related.parts),
        // br_pass_frame_up, vlan_do_receive and team_handle_frame count after eth_type_trans.
        "bridge" | "vlan" | "team" => [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Buffers, 0)],
        // iptunnel_xmit counts from the inner IP header; vxlan_rcv, geneve_rx and __ip6_tnl_rcv as above, ip_tunnel_rcv
        // before.
        "vxlan" | "geneve" | "ip6gretap" | "ip6erspan" => [Basis::new(Once, 0), Basis::new(Either, 0)],
        "gretap" | "erspan" => [Basis::new(Once, 0), Basis::new(Either, ETHERNET_HEADER_BYTES)],
        // vrf_xmit; vrf_ip_rcv counts from the IP header (6.12).
        "vrf" => [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Buffers, 0)],
        // dummy_xmit, netkit_xmit, macvlan_start_xmit and macvlan_count_rx, ipvlan_start_xmit and ipvlan_count_rx,
        // tun_net_xmit and tun_get_user, ifb_xmit.
        "dummy" | "netkit" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "tun" | "ifb" => {
            [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Buffers, ETHERNET_HEADER_BYTES)]
        }
        _ => [Basis::undecided("what this kind of device counts is not known"); 2],
    }
}

/// Without link headers.
fn other(kind: &str) -> [Basis; 2] {
    match kind {
        // iptunnel_xmit; ip_tunnel_rcv, __ip6_tnl_rcv and xfrmi_rcv_cb count before gro_cells_receive merges.
        "ipip" | "gre" | "ip6gre" | "ip6tnl" | "xfrm" => [Basis::new(Once, 0), Basis::new(Either, 0)],
        // Their own, which merge nothing afterwards; tun of layer 3.
        "sit" | "vti" | "vti6" | "tun" | "ipvlan" | "netkit" => [Basis::new(Once, 0), Basis::new(Buffers, 0)],
        // wg_xmit makes segments, encrypt_packet pads each; iptunnel_xmit and update_rx_stats count it with 32 bytes more.
        "wireguard" => [Basis::new(Segments, SEALED_HEADER_BYTES).padded(ToBlocks); 2],
        _ => [Basis::undecided("what this kind of device counts is not known"); 2],
    }
}

/// A packet takes one of two ways: straight into the other end's stack, or through its NAPI, if that has one (GRO or XDP)
/// and this end does not segment TCP (`veth_xmit`, `veth_skb_is_eligible_for_gro`). On that way both count when it is
/// polled, behind eth_type_trans.
fn veth(device: &Device, peers: &[&Device]) -> [Basis; 2] {
    let goes_by_napi = |from: &Device, to: &Device| {
        let (Some(from), Some(features)) = (from.setup.features, to.setup.features) else { return Some(false) };
        if from.any_tcp_segmentation {
            // Such a device sends its own sockets' packets that way if the other end merges UDP.
            return if features.udp_gro { None } else { Some(false) };
        }
        Some(features.gro || to.setup.has_xdp)
    };
    let direct = [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Buffers, ETHERNET_HEADER_BYTES)];
    let by_napi = [Basis::new(Once, 0), Basis::new(Segments, 0)];
    let all = |direction: usize, by_napi_of: &dyn Fn(&Device) -> Option<bool>| {
        let of_peers: Vec<Option<bool>> = peers.iter().map(|peer| by_napi_of(peer)).collect();
        match of_peers.first() {
            None => direct[direction],
            Some(Some(is_so)) if of_peers.iter().all(|other| *other == Some(*is_so)) => {
                if *is_so {
                    by_napi[direction]
                } else {
                    direct[direction]
                }
            }
            _ => Basis::undecided("packets may reach a veth in two ways"),
        }
    };
    [all(TX, &|peer| goes_by_napi(device, peer)), all(RX, &|peer| goes_by_napi(peer, device))]
}

fn bond(parts: &[&Device]) -> [Basis; 2] {
    let Some(first) = parts.first() else { return [Basis::undecided("it has no parts"); 2] };
    let is_alike = |direction: usize| parts.iter().all(|part| part.basis[direction].counts_as(&first.basis[direction]));
    [TX, RX].map(|direction| {
        let undecided = parts.iter().map(|part| part.basis[direction]).find(|basis| !basis.is_decided());
        if let Some(undecided) = undecided {
            undecided
        } else if is_alike(direction) && parts.iter().all(|part| part.whole == first.whole) {
            first.basis[direction]
        } else {
            Basis::undecided("its parts do not count alike")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::device::Identity, *};
    use crate::sys::ethtool::Features;

    fn veth_with(features: Features) -> Device {
        let mut device =
            Device { identity: Identity { kind: "veth".into(), ..Identity::default() }, ..Device::default() };
        device.setup.features = Some(features);
        device
    }

    fn hardware_with(driver: &str) -> Device {
        let mut device = Device::default();
        device.setup.driver = driver.into();
        device
    }

    #[test]
    fn a_veth_counts_by_the_way_that_its_packets_take() {
        const ON: Features = Features {
            tcp_segmentation: [true; 2],
            any_tcp_segmentation: true,
            udp_segmentation: true,
            gro: true,
            udp_gro: false,
            lro: false,
            vlan_offload: [true; 2],
        };
        const OFF: Features = Features { tcp_segmentation: [false; 2], any_tcp_segmentation: false, ..ON };
        let peer = veth_with(ON);
        let of = |features| basis(&veth_with(features), &Related { peers: vec![&peer], parts: Vec::new() });
        assert_eq!(of(ON), [Basis::new(Once, ETHERNET_HEADER_BYTES), Basis::new(Buffers, ETHERNET_HEADER_BYTES)]);
        // Its own packets are counted by the other end's NAPI, those of the other end take the short way.
        assert_eq!(of(OFF), [Basis::new(Once, 0), Basis::new(Buffers, ETHERNET_HEADER_BYTES)]);
        let without_gro = veth_with(Features { gro: false, ..ON });
        let related = Related { peers: vec![&without_gro], parts: Vec::new() };
        assert_eq!(basis(&veth_with(OFF), &related)[TX], Basis::new(Once, ETHERNET_HEADER_BYTES));
        // It may be either of two.
        let related = Related { peers: vec![&peer, &without_gro], parts: Vec::new() };
        assert!(!basis(&veth_with(OFF), &related)[TX].is_decided());
    }

    #[test]
    fn what_is_not_known_is_undecided() {
        let of = |device: &Device| basis(device, &Related::default()).map(|basis| basis.is_decided());
        assert_eq!(of(&hardware_with("virtio_net")), [true; 2]);
        assert_eq!(of(&hardware_with("bnxt_en")), [false; 2]);
        assert_eq!(of(&hardware_with("")), [false; 2]);
        let mut merging = hardware_with("mlx5_core");
        merging.setup.features = Some(Features { lro: true, ..Features::default() });
        assert_eq!(of(&merging), [true, false]);
        merging.setup.driver = "hv_netvsc".into();
        assert_eq!(of(&merging), [true; 2]);
        let mut emulated = hardware_with("e1000e");
        emulated.setup.is_virtual = true;
        assert_eq!(of(&emulated), [false; 2]);
    }

    #[test]
    fn a_bond_counts_as_its_parts_if_they_agree() {
        let with = |basis| Device { basis: [basis; 2], ..Device::default() };
        let [one, other] = [with(Basis::new(Once, 14)), with(Basis::new(Segments, 18))];
        assert_eq!(bond(&[&one, &one]), one.basis);
        assert!(!bond(&[&one, &other])[TX].is_decided());
        assert!(!bond(&[])[TX].is_decided());
    }

    #[test]
    fn large_packets_are_whole_if_the_limit_lets_two_segments_through() {
        let mut lo = Device::default();
        lo.setup.features = Some(Features { tcp_segmentation: [true; 2], ..Features::default() });
        lo.setup.mtu_bytes = 65_536;
        for (limit, is_whole) in [(65_536, false), (100_000, false), (150_000, true)] {
            lo.setup.gso_max_bytes = [65_536, limit];
            assert_eq!(whole(&lo).large, [false, is_whole]);
        }
    }
}
