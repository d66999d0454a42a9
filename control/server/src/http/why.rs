//! What a node makes of another: the node itself is asked, over the bus.

use rap_control_core::{Action, State, Target};
use rap_proto::{
    InquiryId, NodeId,
    api::{Explained, ExplainedHole, ExplainedLane, ExplainedPeer, Problem, ProblemCode},
    bus::{self, ControlBody},
};

use super::{
    call::Call,
    failure::{Failure, not_found},
    reference,
};
use crate::inquiries::Full;

pub(super) async fn get(call: Call) -> Result<Explained, Failure> {
    call.allow(Action::ExplainPaths, Target::Platform)?;
    let (node, other) = (named(&call, "node")?, named(&call, "other")?);
    let inquiry = call.fresh(InquiryId::new);
    let asked = call.app.inquiries.ask(inquiry, node).map_err(|Full| {
        let detail = "too many such questions wait for their answers; repeat later";
        Problem::new(ProblemCode::Unavailable, detail).rule("max_inquiries")
    })?;
    let question = ControlBody::Explain { inquiry, node: other };
    let (subject, payload) = call.app.say(node, question, call.now);
    let unheard = || Problem::new(ProblemCode::Unavailable, "the node does not answer");
    call.app.bus.publish(subject, payload).await.map_err(|error| {
        tracing::debug!(%error, "a node was not asked");
        unheard()
    })?;
    let explanation = asked.answer().await.ok_or_else(unheard)?;
    Ok(shown(&call.state, (node, other), explanation))
}

fn named(call: &Call, parameter: &str) -> Result<NodeId, Failure> {
    let named = call.reference(parameter)?;
    let found = reference::node(&call.state, &named).filter(|node| node.is_approved());
    found.map(|node| node.id).ok_or_else(|| not_found().into())
}

fn shown(
    state: &State,
    (node, other): (NodeId, NodeId),
    explanation: bus::Explanation,
) -> Explained {
    let peer = |peer| shown_peer(state, peer);
    Explained {
        node,
        other,
        peer: explanation.peer.map(peer),
        lanes: explanation.lanes.into_iter().map(shown_lane).collect(),
        relays: explanation.relays.into_iter().map(peer).collect(),
    }
}

fn shown_peer(state: &State, peer: bus::ExplainedPeer) -> ExplainedPeer {
    ExplainedPeer {
        node: peer.node,
        name: state.nodes().get(peer.node).map(|node| node.name.clone()),
        class: peer.class,
        up: peer.up,
        resting: peer.resting,
        forwards: peer.forwards,
        score: peer.score,
        excluded_by: peer.excluded_by,
        parts: peer.parts,
        rtt_us: peer.rtt_us,
        failures: peer.failures,
    }
}

fn shown_lane(lane: bus::ExplainedLane) -> ExplainedLane {
    let bus::ExplainedLane { lane, relay, onward, rtt_ms, last_switch, hole } = lane;
    ExplainedLane { lane, relay, onward, rtt_ms, last_switch, hole: hole.map(shown_hole) }
}

fn shown_hole(hole: bus::ExplainedHole) -> ExplainedHole {
    let bus::ExplainedHole { step, own_nat, far_nat, failure } = hole;
    ExplainedHole { step, own_nat, far_nat, failure }
}
