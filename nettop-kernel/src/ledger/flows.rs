//! Arithmetic on the counters of rows, without packets that no device saw.

use nettop_common::{Direction, Flow, Row};

/// Counters by [`nettop_common::Direction`].
pub type Flows = [Flow; 2];

/// Traffic of a row, without drops before its device. A queue may drop a packet that a reading has reported as sent:
/// the reported count stands until as much more was sent.
pub(super) fn moved(row: &Row) -> Flows {
    let mut flows = row.flows;
    let (sent, reported) = (&mut flows[Direction::Tx as usize], &row.reported);
    // A queue may have segmented a super-packet before the drop: subtract from segments what buffers do not hold.
    let take_back = |[buffers, segments]: [&mut u64; 2], unsent: [u64; 2], reported: [u64; 2]| {
        let more = unsent[0].saturating_sub(*buffers);
        *buffers = buffers.saturating_sub(unsent[0]).max(reported[0]);
        *segments = segments.saturating_sub(unsent[1] + more).max(reported[1]);
    };
    let unsent = &row.unsent;
    take_back(
        [&mut sent.skbs, &mut sent.gso_packets],
        [unsent.skbs, unsent.gso_packets],
        [reported.skbs, reported.gso_packets],
    );
    take_back(
        [&mut sent.skb_bytes, &mut sent.gso_bytes],
        [unsent.skb_bytes, unsent.gso_bytes],
        [reported.skb_bytes, reported.gso_bytes],
    );
    flows
}

/// Adds `more` to `sum`, counter by counter.
pub fn accumulate(sum: &mut Flows, more: &Flows) {
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.skbs += more.skbs;
        sum.skb_bytes += more.skb_bytes;
        sum.gso_packets += more.gso_packets;
        sum.gso_bytes += more.gso_bytes;
        sum.app_bytes += more.app_bytes;
        sum.padding_bytes += more.padding_bytes;
    }
}

pub(super) fn difference(now: &Flows, before: &Flows) -> Flows {
    let mut flows = *now;
    for (flow, before) in flows.iter_mut().zip(before) {
        flow.skbs = flow.skbs.saturating_sub(before.skbs);
        flow.skb_bytes = flow.skb_bytes.saturating_sub(before.skb_bytes);
        flow.gso_packets = flow.gso_packets.saturating_sub(before.gso_packets);
        flow.gso_bytes = flow.gso_bytes.saturating_sub(before.gso_bytes);
        flow.app_bytes = flow.app_bytes.saturating_sub(before.app_bytes);
        flow.padding_bytes = flow.padding_bytes.saturating_sub(before.padding_bytes);
    }
    flows
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::{Direction, Row, moved};

    #[test]
    fn what_was_reported_as_sent_stands_until_as_much_more_was_sent() {
        let mut row = Row::zeroed();
        // Sent so far, of that dropped before the device saw it, and reported.
        for (sent, unsent, expected) in [(3, 0, 3), (3, 3, 3), (5, 3, 3), (10, 3, 7), (10, 12, 7)] {
            row.flows[Direction::Tx as usize].skbs = sent;
            row.unsent.skbs = unsent;
            row.reported.skbs = moved(&row)[Direction::Tx as usize].skbs;
            assert_eq!(row.reported.skbs, expected, "{unsent} of {sent}");
        }
    }

    #[test]
    fn segments_that_a_queue_made_and_dropped_are_taken_from_the_super_packets() {
        let mut row = Row::zeroed();
        // Ten super-packets of 44 extra segments each; 200 were dropped one by one.
        row.flows[Direction::Tx as usize].skbs = 10;
        row.flows[Direction::Tx as usize].gso_packets = 440;
        row.unsent.skbs = 200;
        let flow = moved(&row)[Direction::Tx as usize];
        assert_eq!(flow.skbs + flow.gso_packets, 250);
    }
}
