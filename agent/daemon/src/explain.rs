//! What an operator is told who asks, by way of control, what this node makes of another.

use rap_proto::{
    InquiryId, NodeId,
    bus::{ExplainedHole, ExplainedLane, ExplainedPeer, Explanation, MAX_TOLD},
};

use crate::board::{HoleReport, LaneReport, PeerReport, StatusReport};

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
        weights: report.peers.policy.weights.clone(),
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
        hole: sought(&lane.hole),
    }
}

/// Nothing of a lane that wants no hole.
fn sought(hole: &HoleReport) -> Option<ExplainedHole> {
    let HoleReport { step, own_nat, far_nat, failure, rounds: _ } = hole.clone();
    let wanted = !matches!(step.as_str(), "" | "idle");
    wanted.then_some(ExplainedHole { step, own_nat, far_nat, failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_of_where_one_is_wanted() {
        let hole = |step: &str| HoleReport { step: step.to_owned(), ..HoleReport::default() };
        assert_eq!(sought(&hole("")), None);
        assert_eq!(sought(&hole("idle")), None);
        let sought = sought(&HoleReport {
            own_nat: "steady".to_owned(),
            far_nat: "symmetric".to_owned(),
            failure: Some("silent".to_owned()),
            ..hole("given_up")
        });
        let sought = sought.expect("it was given up");
        assert_eq!((sought.step.as_str(), sought.failure.as_deref()), ("given_up", Some("silent")));
        assert_eq!((sought.own_nat.as_str(), sought.far_nat.as_str()), ("steady", "symmetric"));
    }
}
