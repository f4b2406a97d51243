//! Counters of rows as documents have them.

use nettop_common::Direction;
use nettop_kernel::ledger::Flows;
use nettop_model::snapshot::{Amount, Traffic};

/// On the wire.
pub(super) fn traffic(flows: &Flows) -> Traffic {
    let amount = |direction: Direction| {
        let flow = &flows[direction as usize];
        Amount {
            bytes: flow.skb_bytes + flow.gso_bytes,
            packets: flow.skbs + flow.gso_packets,
            app_bytes: flow.app_bytes,
        }
    };
    Traffic { tx: amount(Direction::Tx), rx: amount(Direction::Rx) }
}
