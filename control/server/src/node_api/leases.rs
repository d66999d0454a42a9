use std::sync::Arc;

use bytes::Bytes;
use rap_control_core::{
    Principal,
    lease::{
        commands::{self, Given},
        may_renew,
    },
    state::Node,
};
use rap_events::{
    lease::{LeaseTableError, Renewal, RenewalOutcome},
    vpn_connection::VpnConnection,
};
use rap_proto::{
    CommandId, Digest, Generation, Timestamp,
    wire::node_api::{
        LeaseRelease, LeaseRenewal, LeasesReply, LeasesRequest, MAX_LEASES_PER_CALL, NodeApiCode,
        RenewalAnswer, RenewalVerdict,
    },
};

use super::{NodeAnswer, NodeCall, NodeStop, refusal::Refused};
use crate::{
    clock,
    lease_desk::Message,
    work::{Identity, Work},
};

/// Renews a node's leases, all in one step, and takes back those that it releases.
pub(super) async fn leases(call: NodeCall) -> Result<NodeAnswer, NodeStop> {
    let node = call.node()?;
    let request: LeasesRequest = call.parse()?;
    let most = request.renewals.len().max(request.releases.len());
    if most > MAX_LEASES_PER_CALL {
        return Err(Refused::new(NodeApiCode::Malformed, "too many leases in one call").into());
    }
    let (now, renewals) = renew(&call, node, &request.renewals).await?;
    for one in &request.releases {
        release(&call, node, *one, now).await?;
    }
    Ok(NodeAnswer::of(&LeasesReply { renewals, released: request.releases }))
}

/// One answer for each renewal, and the database's time.
async fn renew(
    call: &NodeCall,
    node: &Node,
    renewals: &[LeaseRenewal],
) -> Result<(Timestamp, Vec<RenewalAnswer>), NodeStop> {
    let permitted = |renewal: &&LeaseRenewal| {
        let found = call.state.vpn_connections().get(renewal.connection);
        // A connection is not removed while it is held: this state has not seen it yet.
        found
            .is_none_or(|found| may_renew(&call.state, node, (found, renewal.generation), call.now))
    };
    let asked: Vec<_> = renewals.iter().filter(permitted).collect();
    let of_node = |renewal: &&LeaseRenewal| Renewal {
        lease: commands::lease(renewal.connection),
        generation: renewal.generation.number(),
        holder: node.id.uuid(),
    };
    let renewed = call.app.leases.renew(asked.iter().map(of_node).collect()).await;
    let renewed = renewed.map_err(unavailable)?;
    let mut outcomes = asked.iter().zip(renewed.outcomes).peekable();
    let answer = |renewal: &LeaseRenewal| {
        let outcome = match outcomes.next_if(|(next, _)| std::ptr::eq(**next, renewal)) {
            Some((_, outcome)) => verdict(renewal.generation, outcome),
            None => RenewalVerdict::Over,
        };
        call.app.metrics.count("lease_renewals", word(outcome));
        RenewalAnswer { connection: renewal.connection, request: renewal.request, outcome }
    };
    Ok((renewed.now, renewals.iter().map(answer).collect()))
}

fn verdict(generation: Generation, outcome: RenewalOutcome) -> RenewalVerdict {
    match outcome {
        RenewalOutcome::Renewed { remaining_ms } => {
            RenewalVerdict::Renewed { generation, remaining_ms }
        }
        RenewalOutcome::Superseded { generation } => {
            RenewalVerdict::Superseded { generation: Generation::new(generation) }
        }
        RenewalOutcome::Ended | RenewalOutcome::Expired | RenewalOutcome::Unknown => {
            RenewalVerdict::Over
        }
    }
}

const fn word(verdict: RenewalVerdict) -> &'static str {
    match verdict {
        RenewalVerdict::Renewed { .. } => "renewed",
        RenewalVerdict::Superseded { .. } => "superseded",
        RenewalVerdict::Over => "over",
    }
}

fn unavailable(error: LeaseTableError) -> NodeStop {
    tracing::warn!(%error, "leases are not renewed");
    Refused::new(NodeApiCode::Unavailable, "the leases cannot be reached; repeat").into()
}

/// Takes a lease back. One that is over already, or is another's, was released as far as this
/// node is concerned. `now` is the database's time after the request came: by then the node had
/// stopped.
async fn release(
    call: &NodeCall,
    node: &Node,
    LeaseRelease { connection, generation }: LeaseRelease,
    now: Timestamp,
) -> Result<(), NodeStop> {
    let app = &call.app;
    let mut work = Work::new(Arc::clone(&app.log), call.now);
    let mut loaded = work.load::<VpnConnection>(connection.uuid()).await?;
    let held = loaded
        .state
        .tenure
        .present
        .filter(|held| held.generation == generation.number() && held.holder == node.id.uuid());
    if held.is_none() {
        return Ok(());
    }
    let Some(found) = call.state.vpn_connections().get(connection) else {
        return Err(NodeStop::Conflict);
    };
    let stopping = app.live.get(node.id).is_some_and(|live| live.draining);
    let reason = commands::release_reason(&call.state, node, found, stopping);
    let Given { commands, change } = commands::release(connection, generation, reason, now);
    for command in commands {
        work.decide(&mut loaded, command)?;
    }
    work.change_lease(change);
    let command = CommandId::new(call.now, clock::random());
    let identity = Identity {
        command,
        request_hash: Digest::of(command.uuid().as_bytes()),
        actor: Principal::Node(node.id).actor(),
        allowed: None,
        causation: None,
    };
    work.commit(identity, Bytes::new()).await?;
    app.lease_desk.tell(Message::Released(connection), &app.metrics);
    Ok(())
}
