//! What a node makes of another: the node itself is asked, over the bus, and control adds what rules
//! the other out before any node hears of it.

use rap_control_core::{
    Action, State, Target,
    access::Pair,
    state::{Node, Resource},
};
use rap_proto::{
    Constraint, InquiryId, NodeId, NodeRole,
    api::{
        Explained, ExplainedHole, ExplainedLane, ExplainedPeer, Problem, ProblemCode, Reference,
        RuledOut,
    },
    bus::{self, ControlBody, MAX_TOLD},
};

use super::{
    call::Call,
    endpoint::{Form, Parameter},
    failure::{Failure, invalid, not_found},
    reference,
};
use crate::inquiries::Full;

pub(super) const WHY_QUERY: &[Parameter] = &[
    Parameter {
        name: "organization",
        form: Form::Reference,
        description: "The organization of the resource.",
    },
    Parameter {
        name: "resource",
        form: Form::Reference,
        description: "The resource that the path is for; any without.",
    },
];

/// Whoever is asked about need not be approved: that may be the reason.
pub(super) async fn get(call: Call) -> Result<Explained, Failure> {
    call.allow(Action::ExplainPaths, Target::Platform)?;
    let viewer = named(&call, "node")?.filter(|node| node.is_approved()).ok_or_else(not_found)?;
    let asked_about = named(&call, "other")?.ok_or_else(not_found)?;
    let ruled_out = ruled_out(&call, viewer, asked_about, resource(&call)?);
    let (node, other) = (viewer.id, asked_about.id);
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
    Ok(Explained { ruled_out, ..shown(&call.state, (node, other), explanation) })
}

fn named<'a>(call: &'a Call, parameter: &str) -> Result<Option<&'a Node>, Failure> {
    let named = call.reference(parameter)?;
    Ok(reference::node(&call.state, &named))
}

/// The resource that the question is about.
fn resource(call: &Call) -> Result<Option<&Resource>, Failure> {
    let Some(named) = call.query_value::<Reference>("resource")? else { return Ok(None) };
    let organization = call
        .query_value::<Reference>("organization")?
        .ok_or_else(|| invalid("organization", "whose_resource", "say whose resource it is"))?;
    let organization = reference::organization(&call.state, &organization).ok_or_else(not_found)?;
    let found = reference::resource(&call.state, organization.id, &named).ok_or_else(not_found)?;
    Ok(Some(found))
}

/// What rules out the node that is asked about, and then relays of which the other may know nothing.
fn ruled_out(
    call: &Call,
    viewer: &Node,
    other: &Node,
    resource: Option<&Resource>,
) -> Vec<RuledOut> {
    let frozen = call.app.frozen().is_some();
    let of = |other: &Node| {
        let pair = Pair { viewer, other, resource, now: call.now, frozen };
        let (node, name) = (other.id, other.name.clone());
        pair.ruled_out(&call.state).into_iter().map(move |found| RuledOut {
            node,
            name: name.clone(),
            constraint: found.constraint,
            reason: found.reason.to_owned(),
        })
    };
    let is_relay = |node: &&Node| {
        let has_role = node.roles.iter().any(|scope| scope.role == NodeRole::RelayNode);
        has_role && node.id != viewer.id && node.id != other.id
    };
    let relays = call.state.nodes().approved().filter(is_relay);
    let mut of_relays: Vec<RuledOut> = relays.flat_map(of).collect();
    // Where others are ruled out altogether, that comes before what a relay carries not.
    of_relays.sort_by_key(|found| found.constraint == Constraint::Lane);
    of(other).chain(of_relays.into_iter().take(MAX_TOLD)).collect()
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
        ruled_out: Vec::new(),
        weights: explanation.weights,
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
