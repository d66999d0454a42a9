//! What an operator is told who asks, by way of control, what this node makes of another.

use rap_proto::{
    InquiryId, NodeId,
    bus::{ExplainedLane, ExplainedPeer, Explanation, MAX_TOLD},
};

use crate::board::{LaneReport, PeerReport, StatusReport};

pub(crate) fn explain(report: &StatusReport, inquiry: InquiryId, node: NodeId) -> Explanation {
    let peers = || report.peers.peers.iter();
    let mut relays: Vec<&PeerReport> =
        peers().filter(|peer| peer.is_relay && peer.node != node).collect();
    // An excluded one comes after the worst.
    relays.sort_by_key(|peer| std::cmp::Reverse(peer.score));
    let lanes = report.mesh.lanes.iter().filter(|lane| lane.egress == node);
    Explanation {
        inquiry,
        peer: peers().find(|peer| peer.node == node).map(explained),
        lanes: lanes.take(MAX_TOLD).map(led).collect(),
        relays: relays.into_iter().take(MAX_TOLD).map(explained).collect(),
    }
}

fn explained(peer: &PeerReport) -> ExplainedPeer {
    ExplainedPeer {
        node: peer.node,
        class: peer.class.clone(),
        up: peer.up,
        resting: peer.resting,
        forwards: peer.forwards,
        score: peer.score,
        excluded_by: peer.excluded_by.clone(),
        parts: peer.parts.clone(),
        rtt_us: peer.rtt_us,
        failures: peer.failures,
    }
}

fn led(lane: &LaneReport) -> ExplainedLane {
    ExplainedLane {
        lane: lane.lane,
        relay: lane.relay,
        onward: lane.onward.clone(),
        rtt_ms: lane.rtt_ms,
        last_switch: lane.last_switch.clone(),
    }
}
