//! What the command line says of peers: the lines of `status`, and the answer to `why`.

use rap_node_agent::{
    ControllersReport, HoleReport, LaneReport, MeshReport, MoveReport, PeerReport, PeersStatus,
    StatusReport,
};
use rap_proto::{
    NodeId,
    hole::{Failure, failure_in_words},
    mesh::ChannelClass,
};

use super::carriers;

/// One line for all, as `status` shows it first.
pub(super) fn summary(peers: &PeersStatus) -> String {
    let PeersStatus { availability, recovery, active, warm, cold, .. } = peers;
    let counts = format!("{active} active, {warm} warm, {cold} cold");
    match recovery {
        _ if availability.is_empty() => "-".to_owned(),
        Some(step) => format!("{availability}, nobody answers, trying: {step}; {counts}"),
        None => format!("{availability}, {counts}"),
    }
}

/// What became of flows on TCP whose path is not the best.
pub(super) fn moves(moves: &MoveReport) -> String {
    let MoveReport { relayed, moved, stayed, trials } = moves;
    format!(
        "{relayed} flows on tcp over relays, {moved} moved to another path, {stayed} could not, \
         {trials} paths tried"
    )
}

/// Which congestion controllers bulk on TCP has.
pub(super) fn controllers(mesh: &MeshReport) -> String {
    let ControllersReport { bbr, changed, changed_back, refused } = mesh.controllers;
    let support = match mesh.bbr.as_deref() {
        Some("available") => "bbr is available",
        Some("not_permitted") => "bbr is not permitted to this agent",
        Some("not_there") => "the kernel has no bbr",
        _ => return "-".to_owned(),
    };
    format!(
        "{support}; {bbr} connections have it, {changed} changed to it, {changed_back} back, \
         {refused} were refused"
    )
}

/// A line for each peer.
pub(super) fn lines(peers: &PeersStatus) -> String {
    peers.peers.iter().map(|peer| format!("\n  peer        {}", line(peer))).collect()
}

/// Why a node is used or not, and how it is reached.
pub(super) fn why(report: &StatusReport, node: NodeId) -> String {
    let found = report.peers.peers.iter().find(|peer| peer.node == node);
    let Some(peer) = found else {
        return format!(
            "{node} is no peer of this node: its snapshot does not name it, or it is beyond those shown"
        );
    };
    let mut text = line(peer);
    let weights = report.peers.policy.weights.get(ChannelClass::Interactive.as_str());
    for (part, value) in &peer.parts {
        text += &format!("\n  {part:<17} {value:>4}");
        // An agent of a release before says nothing of weights.
        if let Some(weight) = weights.and_then(|weights| weights.get(part)) {
            text += &format!(", weight {weight}");
        }
    }
    text += &ways(&report.peers, &report.mesh.lanes, node);
    text += &carriers::lines(&report.mesh.carriers, node);
    match &report.mesh.tcp_moves {
        none if *none == MoveReport::default() => text,
        some => text + "\n  of all egresses: " + &moves(some),
    }
}

/// The lanes that lead to a node or through it.
fn ways(peers: &PeersStatus, lanes: &[LaneReport], node: NodeId) -> String {
    let mut text = String::new();
    for lane in lanes.iter().filter(|lane| lane.egress == node) {
        text += &match lane.relay {
            Some(relay) => format!(
                "\n  lane {}: relayed through {relay}{}: {}; the {} {}",
                lane.lane,
                behind(&lane.onward),
                reason(lane.last_switch.as_deref()),
                if lane.onward.is_empty() { "relay" } else { "first" },
                worth(peers, relay),
            ),
            None => format!("\n  lane {}: direct, {} ms", lane.lane, lane.rtt_ms),
        };
        text += &hole(&lane.hole);
    }
    let leads_on = |lane: &&LaneReport| lane.relay == Some(node) || lane.onward.contains(&node);
    for lane in lanes.iter().filter(leads_on) {
        text += &format!("\n  leads to {} for lane {}", lane.egress, lane.lane);
    }
    text
}

/// Why a lane goes the way that it goes.
fn reason(last_switch: Option<&str>) -> &str {
    match last_switch {
        None => "it answered first when the lane was opened",
        Some("silent") => "nothing came back on the path before",
        Some("hollow") => "the path before answered and carried nothing",
        Some("gone") => "the relay before it ended the flow",
        Some("not_allowed") => "the snapshot no longer allows the path before",
        Some("better") => "it is better than the path before",
        Some("unproven") => "what seemed better did not carry the lane",
        Some("draining") => "a relay of the path before drains",
        Some("slower") => "the direct path before became slower",
        Some(other) => other,
    }
}

/// What came of the search for a direct path through NATs.
fn hole(hole: &HoleReport) -> String {
    let HoleReport { step, own_nat, far_nat, failure, .. } = hole;
    let nats = format!("the NAT on this side is {own_nat}, the egress' {far_nat}");
    let not_better = failure.as_deref() == Some(Failure::NotBetter.as_str());
    let failure = failure.as_deref().map(|word| failure_in_words(word, "this node"));
    match (step.as_str(), failure) {
        ("" | "idle", _) => String::new(),
        ("open", _) => format!(", through a hole: {nats}"),
        ("forbidden", _) => "; the platform forbids direct paths".to_owned(),
        (_, Some(why)) if not_better => format!("; {why}"),
        ("given_up", Some(why)) => format!("; no hole: {why}; {nats}"),
        (step, Some(why)) => format!("; no hole yet ({step}): {why}; {nats}"),
        (step, None) => format!("; no hole yet ({step})"),
    }
}

/// The further relays of a lane, in the order in which they are passed.
fn behind(onward: &[NodeId]) -> String {
    onward.iter().map(|relay| format!(", then {relay}")).collect()
}

fn worth(peers: &PeersStatus, node: NodeId) -> String {
    let score = peers.peers.iter().find(|peer| peer.node == node);
    match score.and_then(|peer| peer.score) {
        Some(score) => format!("is worth {score} of 1000"),
        None => "was not measured".to_owned(),
    }
}

fn line(peer: &PeerReport) -> String {
    let answers = match (peer.class.as_str(), peer.up) {
        ("active", false) => ", not answering",
        _ => "",
    };
    let worth = match (&peer.excluded_by, peer.score) {
        (Some(constraint), _) => format!("excluded by {constraint}"),
        (None, Some(score)) => format!("score {score}"),
        (None, None) => "no score".to_owned(),
    };
    let rtt = peer
        .rtt_us
        .map_or_else(String::new, |rtt| format!(", {}.{:03} ms", rtt / 1_000, rtt % 1_000));
    let forwards = match peer.forwards {
        Some(true) => ", forwards",
        Some(false) => ", does not forward",
        None => "",
    };
    let resting = if peer.resting { ", resting" } else { "" };
    format!("{} {}{answers}, {worth}{rtt}{forwards}{resting}", peer.node, peer.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerReport {
        PeerReport {
            node: NodeId::from_u128(7),
            class: "warm".to_owned(),
            is_relay: true,
            up: false,
            resting: true,
            forwards: Some(false),
            score: Some(340),
            excluded_by: None,
            parts: [("latency".to_owned(), 500)].into(),
            rtt_us: Some(12_034),
            loss_ppm: None,
            failures: 5,
        }
    }

    #[test]
    fn a_peer_is_said_in_one_line() {
        let said = line(&peer());
        assert!(said.ends_with("warm, score 340, 12.034 ms, does not forward, resting"), "{said}");
        let excluded = PeerReport {
            score: None,
            excluded_by: Some("placement".to_owned()),
            class: "active".to_owned(),
            ..peer()
        };
        let said = line(&excluded);
        assert!(said.contains("active, not answering, excluded by placement"), "{said}");
    }

    #[test]
    fn moves_are_said_in_numbers() {
        let said = moves(&MoveReport { relayed: 1, moved: 2, stayed: 3, trials: 12 });
        let all =
            "1 flows on tcp over relays, 2 moved to another path, 3 could not, 12 paths tried";
        assert_eq!(said, all);
    }

    #[test]
    fn controllers_are_said_with_what_the_kernel_lets_them_be() {
        let controllers = ControllersReport { refused: 3, ..ControllersReport::default() };
        let of = |word: Option<&str>| {
            let bbr = word.map(str::to_owned);
            super::controllers(&MeshReport { bbr, controllers, ..MeshReport::default() })
        };
        let said = "bbr is not permitted to this agent; 0 connections have it, 0 changed to it, \
            0 back, 3 were refused";
        assert_eq!(of(Some("not_permitted")), said);
        assert!(of(Some("not_there")).starts_with("the kernel has no bbr; "));
        // An agent of the release before says nothing, one of a later release what is not known here.
        assert_eq!([of(None), of(Some("later"))], ["-", "-"]);
    }

    #[test]
    fn why_names_every_relay_of_a_lane_over_several() {
        let (egress, first, second) = (7, 8, 9);
        let node = NodeId::from_u128;
        let lanes = [LaneReport {
            egress: node(egress),
            lane: rap_proto::Lane::Bulk,
            relay: Some(node(first)),
            onward: vec![node(second)],
            rtt_ms: 3,
            switches: 1,
            last_switch: None,
            recovery: None,
            refused_datagrams: 0,
            hole: HoleReport::default(),
        }];
        let said = ways(&PeersStatus::default(), &lanes, node(egress));
        let way = format!("relayed through {}, then {}: it answered", node(first), node(second));
        assert!(said.contains(&way), "{said}");
        let single = LaneReport {
            onward: Vec::new(),
            last_switch: Some("hollow".to_owned()),
            ..lanes[0].clone()
        };
        let said_of_it = ways(&PeersStatus::default(), &[single], node(egress));
        let way = "the path before answered and carried nothing; the relay was not measured";
        assert!(said_of_it.contains(way), "{said_of_it}");
        let said = ways(&PeersStatus::default(), &lanes, node(second));
        assert!(said.contains(&format!("leads to {} for lane bulk", node(egress))), "{said}");
    }

    #[test]
    fn why_tells_what_became_of_a_hole() {
        let mut report = HoleReport {
            step: "given_up".to_owned(),
            own_nat: "symmetric".to_owned(),
            far_nat: "symmetric".to_owned(),
            failure: Some("both_symmetric".to_owned()),
            rounds: 1,
        };
        let said = "; no hole: the NATs on both sides are symmetric; the NAT on this side is \
                    symmetric, the egress' symmetric";
        assert_eq!(hole(&report), said);
        report.step = "resting".to_owned();
        assert!(hole(&report).starts_with("; no hole yet (resting): the NATs"));
        report.failure = Some("not_better".to_owned());
        assert_eq!(hole(&report), "; a direct path is not better");
        report = HoleReport { step: "looking".to_owned(), ..HoleReport::default() };
        assert_eq!(hole(&report), "; no hole yet (looking)");
        report.step = "open".to_owned();
        assert!(hole(&report).starts_with(", through a hole: "));
        assert_eq!(hole(&HoleReport::default()), "");
    }

    #[test]
    fn the_summary_tells_the_step_of_the_way_back() {
        let mut peers = PeersStatus { availability: "degraded".to_owned(), ..Default::default() };
        assert_eq!(summary(&peers), "degraded, 0 active, 0 warm, 0 cold");
        peers.recovery = Some("cold".to_owned());
        assert!(summary(&peers).contains("trying: cold"));
        assert_eq!(summary(&PeersStatus::default()), "-");
        peers.peers.push(peer());
        assert_eq!(lines(&peers).lines().count(), 2);
    }
}
