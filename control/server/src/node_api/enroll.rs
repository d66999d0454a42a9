use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rap_control_core::{
    State, quota,
    state::{JoinToken, Node, NodeStanding},
};
use rap_events::{
    Actor,
    join_token::{self, JoinTokenCommand, JoinTokenRejection},
    keys,
    node::{self, NodeCommand, Offer},
};
use rap_pki::csr;
use rap_proto::{
    CommandId, Digest, NodeId, PublicKey,
    wire::node_api::{EnrollReply, EnrollRequest, NodeApiCode, PollRequest},
};
use tokio::time::timeout;

use super::{
    NodeAnswer, NodeCall, NodeStop, credentials, refusal::Refused, refused_use::RefusedUse,
};
use crate::{
    clock,
    work::{Identity, Work},
};

/// How far a poll's time may be from ours: an old one could be somebody's recording.
const POLL_TOLERANCE: Duration = Duration::from_secs(120);
/// How long the reply waits until the projections know the new node.
const FOLD_WAIT: Duration = Duration::from_secs(5);

/// A host with a join secret becomes a node: pending, or enrolled at once.
pub(super) async fn enroll(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let invalid = || Refused::new(NodeApiCode::TokenInvalid, "the join token opens nothing");
    let secret = call.bearer.as_ref().ok_or_else(invalid)?.digest();
    let request: EnrollRequest = call.parse()?;
    let key = bound_key(&call, &request)?;
    let Some(token) = call.state.join_tokens().presented(&secret) else {
        call.app.metrics.count("enrollments", "unknown_token");
        return Err(invalid().into());
    };
    // A host that lost the answer asks again, with the same key.
    if let Some(known) = call.state.nodes().with_key(&key) {
        if token.used_by == Some(known.id) {
            return status(&call, known).await;
        }
        let (name, known) = (request.name, Some(known.id));
        let refused = RefusedUse { token: token.id, presented: secret, name, known };
        refused.record(&call).await;
        return Err(used().into());
    }
    let (id, last) = request_enrollment(&call, token, secret, key, request).await?;
    let state = folded(&call, id, last)
        .await
        .ok_or_else(|| Refused::new(NodeApiCode::Unavailable, "the projections are behind"))?;
    let call = NodeCall { state: state.clone(), ..call };
    let node = state.nodes().get(id).ok_or_else(invalid)?;
    status(&call, node).await
}

/// The projections, once they know the node, and all that was appended with it.
async fn folded(call: &NodeCall, node: NodeId, last: u64) -> Option<Arc<State>> {
    let mut states = call.app.states();
    let known =
        states.wait_for(|state| state.position() >= last && state.nodes().get(node).is_some());
    let state = timeout(FOLD_WAIT, known).await.ok()?.ok()?;
    Some(Arc::clone(&state))
}

/// A host asks what became of its request.
pub(super) async fn poll(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let untrusted = || Refused::new(NodeApiCode::NotTrusted, "the signature does not hold");
    let request: PollRequest = call.parse()?;
    let apart = call.now.since(request.at).max(request.at.since(call.now));
    let node = call.state.nodes().get(request.node).ok_or_else(untrusted)?;
    let message = PollRequest::message(request.node, request.at);
    if apart > POLL_TOLERANCE || !node.key.verifies(&message, &request.signature) {
        return Err(untrusted().into());
    }
    status(&call, node).await
}

async fn status(call: &NodeCall, node: &Node) -> Result<NodeAnswer, NodeStop> {
    let reply = match node.standing {
        NodeStanding::Pending => EnrollReply::Pending {
            node: node.id,
            cluster: call.app.custody.cluster,
            fingerprint: node.key.id(),
        },
        NodeStanding::Rejected => EnrollReply::Rejected,
        NodeStanding::Revoked => {
            super::refusal::check_standing(node)?;
            EnrollReply::Rejected
        }
        NodeStanding::Approved => {
            EnrollReply::Enrolled(Box::new(credentials::issue(call, node).await?))
        }
    };
    Ok(NodeAnswer::of(&reply))
}

/// The key of the request, held by whoever is at the other end of this very connection.
fn bound_key(call: &NodeCall, request: &EnrollRequest) -> Result<PublicKey, Refused> {
    let key = csr::public_key(&request.csr)
        .map_err(|error| Refused::new(NodeApiCode::Malformed, &error.to_string()))?;
    let exported = call
        .tls
        .exported
        .ok_or_else(|| Refused::new(NodeApiCode::NotTrusted, "TLS exported no value"))?;
    if !key.verifies(&exported, &request.binding) {
        return Err(Refused::new(
            NodeApiCode::NotTrusted,
            "the key is not bound to this connection",
        ));
    }
    Ok(key)
}

/// Uses the token and makes the node, in one append: of two at once, one wins. Where the log has that the host
/// did so before, at another replica perhaps, its node is the answer. Returns the node, and the position of the last
/// event that was appended here.
async fn request_enrollment(
    call: &NodeCall,
    token: &JoinToken,
    presented: Digest,
    key: PublicKey,
    request: EnrollRequest,
) -> Result<(NodeId, u64), NodeStop> {
    if let Some(organization) = token.organization {
        quota::check_nodes(&call.state, organization).map_err(|reached| {
            call.app.metrics.count("quota_reached", reached.quota.as_str());
            Refused::new(NodeApiCode::QuotaReached, &reached.to_string())
        })?;
    }
    let id = NodeId::new(call.now, clock::random());
    let mut work = Work::new(call.app.log.clone(), call.now);
    let mut loaded = work.load::<join_token::JoinToken>(token.id.uuid()).await?;
    let name = request.name.clone();
    let using = JoinTokenCommand::Use { presented: presented.into(), node: id, name };
    if let Err(rejection) = work.try_decide(&mut loaded, using) {
        if rejection == JoinTokenRejection::AlreadyUsed
            && let Some(node) = loaded.state.used_by
            && work.load::<node::Node>(node.uuid()).await?.state.key == Some(key)
        {
            return Ok((node, 0));
        }
        let (name, known) = (request.name, None);
        RefusedUse { token: token.id, presented, name, known }.record(call).await;
        return Err(token_refused(rejection).into());
    }
    let mut node = work.load::<node::Node>(id.uuid()).await?;
    work.claim(keys::node_name(&request.name));
    work.claim(keys::node_key(&key.id()));
    let request_hash = Digest::of(&call.body);
    let command = NodeCommand::Request {
        name: request.name,
        key,
        addresses: request.addresses,
        capabilities: request.capabilities,
        bus_key: request.bus_key,
        agent_version: request.agent_version,
        join_token: token.id,
        offer: Offer {
            organization: token.organization,
            roles: token.roles.clone(),
            pools: token.pools.clone(),
            auto_approve: token.auto_approve,
        },
    };
    work.decide(&mut node, command)?;
    let identity = Identity {
        command: CommandId::new(call.now, clock::random()),
        request_hash,
        actor: Actor::Node(id),
        allowed: None,
        causation: None,
    };
    call.may_grant()?;
    let appended = work.commit(identity, Bytes::new()).await?;
    Ok((id, appended.last))
}

fn token_refused(rejection: JoinTokenRejection) -> Refused {
    match rejection {
        JoinTokenRejection::AlreadyUsed => used(),
        JoinTokenRejection::HostNameMismatch => {
            Refused::new(NodeApiCode::NotPermitted, "the join token is for another host name")
        }
        other => Refused::new(NodeApiCode::TokenInvalid, &other.to_string()),
    }
}

fn used() -> Refused {
    Refused::new(NodeApiCode::TokenUsed, "the join token was used")
}
