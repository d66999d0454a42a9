//! Dialling a lane: direct and relayed attempts race, as `rap_mesh_core::paths` plans them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize},
};

use quinn::Connection;
use rap_mesh_core::{
    paths::{Attempt, Candidate},
    refusals::refusal,
    view::peer_has_role,
};
use rap_proto::{NodeRole, RefusalCode, refusal::Refusal, snapshot::Peer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{LaneConnection, LaneKey, attend};
use crate::{
    hops::{self, RelayedFlow, connect},
    mesh::{Mesh, locked},
    race::race,
};

struct Won {
    connection: Connection,
    candidate: Candidate,
    relayed: Option<RelayedFlow>,
}

pub(super) async fn dial(mesh: Arc<Mesh>, key: LaneKey) -> Result<Arc<LaneConnection>, Refusal> {
    let view = mesh.view();
    let peer = view.peer(key.egress).ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
    if !peer_has_role(peer, NodeRole::StreamWorker, key.organization) {
        return Err(refusal(RefusalCode::RoleNotAssigned));
    }
    let now = mesh.clock.now();
    let relays = mesh.relays.order(&view, key.egress, key.organization, key.lane, now);
    let plan =
        locked(&mesh.lanes.paths).plan(mesh.clock.moment(), key.egress, &peer.addresses, relays);
    let attempts = plan
        .iter()
        .map(|attempt| (attempt.start_after, try_one(&mesh, key, peer, attempt.candidate)))
        .collect();
    let won = race(attempts).await.map_err(|_| refusal(RefusalCode::PathUnavailable))?;
    remember_losers(&mesh, key, &plan, won.candidate);
    tracing::info!(egress = %key.egress, lane = %key.lane, path = ?won.candidate, "lane open");
    let lane = Arc::new(LaneConnection {
        key,
        connection: won.connection,
        candidate: won.candidate,
        relayed: won.relayed,
        retired: CancellationToken::new(),
        open_flows: AtomicUsize::new(0),
        last_used: AtomicU64::new(mesh.clock.moment().micros()),
    });
    mesh.spawn(attend(mesh.clone(), lane.clone()));
    Ok(lane)
}

async fn try_one(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> Result<Won, ()> {
    let attempt = async {
        match candidate {
            Candidate::Direct(address) => {
                let config = mesh.configs().lane(key.lane).clone();
                let connection = connect(mesh, config, address, peer).await?;
                Ok(Won { connection, candidate, relayed: None })
            }
            Candidate::Relay(relay) => {
                let flow = hops::set_up(mesh, relay, key.egress, key.lane).await.map_err(drop)?;
                let config = mesh.configs().lane(key.lane).clone();
                let connection = connect(mesh, config, flow.address, peer).await?;
                Ok(Won { connection, candidate, relayed: Some(flow) })
            }
        }
    };
    let outcome = timeout(candidate.timeout(), attempt).await.unwrap_or(Err(()));
    let mut paths = locked(&mesh.lanes.paths);
    match &outcome {
        Ok(_) => paths.succeeded(key.egress, candidate),
        Err(()) => paths.failed(mesh.clock.moment(), key.egress, candidate),
    }
    outcome
}

/// A direct path that a relay overtook, in spite of its head start, is as good as none.
fn remember_losers(mesh: &Mesh, key: LaneKey, plan: &[Attempt], winner: Candidate) {
    if let Candidate::Direct(_) = winner {
        return;
    }
    let now = mesh.clock.moment();
    let mut paths = locked(&mesh.lanes.paths);
    for Attempt { candidate, .. } in plan {
        if let Candidate::Direct(_) = candidate {
            paths.failed(now, key.egress, *candidate);
        }
    }
}
