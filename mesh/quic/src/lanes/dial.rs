//! Dialling a lane: direct and relayed attempts race, as `rap_mesh_core::paths` plans them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize},
    },
};

use quinn::{Connection, Endpoint};
use rap_mesh_core::{
    carrier::Carrier, lane_path::LanePath, paths::Candidate, refusals::refusal, view::peer_has_role,
};
use rap_proto::{NodeRole, RefusalCode, refusal::Refusal, snapshot::Peer};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Carried, LaneConnection, LaneKey, Ways, attend, chains,
    drive::PathDriver,
    moves::part,
    socket::{Answer, LaneSocket},
};
use crate::{
    Network,
    congestion::Steering,
    hops::{self, RelayedFlow, connect},
    mesh::{Mesh, locked},
    network::{Kernel, endpoint},
    race::race,
    relays::Use,
    transport,
};

struct Won {
    connection: Connection,
    made: Made,
    candidate: Candidate,
    relayed: Option<RelayedFlow>,
}

/// What is under one lane connection, and nobody else's.
struct Made {
    endpoint: Endpoint,
    socket: Arc<LaneSocket>,
    steering: Steering,
    answers: mpsc::Receiver<Answer>,
}

/// An endpoint for one lane connection, as an entry makes it, for whoever measures lanes. Given
/// where its datagrams shall go, the second part returns the address to connect to.
pub fn lane_endpoint(own: IpAddr) -> io::Result<(Endpoint, impl FnOnce(SocketAddr) -> SocketAddr)> {
    let Made { endpoint, socket, .. } = make(&Kernel, own)?;
    let along = move |path| {
        socket.open(LanePath::FIRST, path);
        socket.take(LanePath::FIRST);
        socket.stable()
    };
    Ok((endpoint, along))
}

pub(super) async fn dial(
    mesh: Arc<Mesh>,
    key: LaneKey,
    ways: Ways,
) -> Result<Arc<LaneConnection>, Refusal> {
    let view = mesh.view();
    let peer = view.peer(key.egress).ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
    if !peer_has_role(peer, NodeRole::StreamWorker, key.organization) {
        return Err(refusal(RefusalCode::RoleNotAssigned));
    }
    let relays = ways.of(mesh.relays.order(&view, Use::New, key, mesh.clock.now()));
    let plan = {
        let (now, direct) = (mesh.clock.moment(), view.direct_to(key.egress));
        let paths = locked(&mesh.lanes.paths);
        match ways {
            Ways::Likely => paths.untried(now, key.egress, direct, relays),
            Ways::All => paths.plan(now, key.egress, direct, relays),
        }
    };
    let attempts = plan
        .iter()
        .map(|attempt| (attempt.start_after, try_one(&mesh, key, peer, attempt.candidate)))
        .collect();
    let won = race(attempts).await.map_err(|_| refusal(RefusalCode::PathUnavailable))?;
    let now = mesh.clock.moment();
    locked(&mesh.lanes.paths).won(now, key.egress, &plan, won.candidate);
    tracing::info!(egress = %key.egress, lane = %key.lane, path = ?won.candidate, "lane open");
    let lane = Arc::new(LaneConnection {
        key,
        connection: won.connection,
        endpoint: won.made.endpoint,
        socket: won.made.socket,
        steering: won.made.steering,
        carried: Mutex::new(Carried::over(won.candidate)),
        retired: CancellationToken::new(),
        open_flows: AtomicUsize::new(0),
        lasting: Arc::default(),
        last_used: AtomicU64::new(mesh.clock.moment().micros()),
    });
    mesh.path_changed(part(key, Carrier::Quic), (None, Some(won.candidate)));
    let driver = PathDriver::new(mesh.clone(), lane.clone(), won.relayed, won.made.answers);
    mesh.tasks_of(key.lane).spawn(attend(mesh.clone(), lane.clone(), driver));
    Ok(lane)
}

async fn try_one(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> Result<Won, ()> {
    let attempt = async {
        let own = mesh.endpoint.local_addr().map_err(drop)?;
        let made = make(&*mesh.network, own.ip()).map_err(drop)?;
        made.steering.serve(key.lane);
        let (address, relayed) = match candidate {
            Candidate::Direct(_) if !mesh.view().allows_direct() => return Err(()),
            Candidate::Direct(address) => (address, None),
            Candidate::Relay(relay) => {
                let from = &*made.socket;
                let flow = hops::set_up(mesh, relay, key.egress, key.lane, from).await;
                let flow = flow.map_err(drop)?;
                (flow.address, Some(flow))
            }
            Candidate::Chain(chain) => {
                let flow = chains::set_up(mesh, chain, key, &*made.socket).await;
                let flow = flow.map_err(drop)?;
                (flow.address, Some(flow))
            }
        };
        if !made.socket.reaches(address) {
            return Err(());
        }
        made.socket.open(LanePath::FIRST, address);
        made.socket.take(LanePath::FIRST);
        let mut config = mesh.configs().lane(key.lane).clone();
        config.transport_config(transport::steered_lane(key.lane, &made.steering));
        let connection = connect(&made.endpoint, config, made.socket.stable(), peer).await?;
        Ok(Won { connection, made, candidate, relayed })
    };
    let outcome = timeout(candidate.timeout(), attempt).await.unwrap_or(Err(()));
    let mut paths = locked(&mesh.lanes.paths);
    match &outcome {
        Ok(_) => paths.succeeded(key.egress, candidate),
        Err(()) => paths.failed(mesh.clock.moment(), key.egress, candidate),
    }
    outcome
}

fn make(network: &dyn Network, own: IpAddr) -> io::Result<Made> {
    let (socket, answers) = LaneSocket::bind(network, own)?;
    let endpoint = endpoint(network, None, socket.clone())?;
    Ok(Made { endpoint, socket, steering: Steering::default(), answers })
}
