//! Flows on the `tcp` carrier: a TLS connection for each, end to end with the egress, direct or
//! through a relay that joins two sockets.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rap_mesh_core::{
    carrier::Carrier,
    ended::Close,
    paths::{Attempt, Candidate, PathBook},
    refusals::refusal,
    view::peer_has_role,
};
use rap_proto::{
    NodeId, NodeRole, RefusalCode,
    refusal::Refusal,
    snapshot::Peer,
    wire::{self, lane::FlowReply, resume::Resume},
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    LaneKey, Ways, chains,
    request::{Asked, Counted, Flow, FlowRefused, LaneFlow, here},
};
use crate::{
    frames::{ReadFrameError, read_frame},
    hops,
    kept::new_name,
    mesh::{Mesh, locked},
    pipe::{Broken, Leg, Short, lasting},
    race::race,
    relays::Use,
    tcp::{self, Secured},
};

/// The most flows of one entry on TCP.
const MAX_STREAMS: usize = 4096;

#[derive(Default)]
pub(super) struct Streams {
    paths: Mutex<PathBook>,
    open: AtomicUsize,
    /// Paths that are tried because nothing came over them: one at a time, however many flows say so.
    looks: Mutex<BTreeSet<(NodeId, Candidate)>>,
}

/// A flow's place among the open ones.
pub(super) struct Place(Arc<Mesh>);

impl Streams {
    pub(super) fn clear(&self) {
        locked(&self.paths).clear();
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place, unless all are taken.
    fn take(&self) -> bool {
        let one_more = |open: usize| (open < MAX_STREAMS).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) fn take(mesh: &Arc<Mesh>) -> Option<Self> {
        mesh.lanes.streams.take().then(|| Self(mesh.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lanes.streams.give_back();
    }
}

/// Asks the egress for a flow on a connection of its own. Refused as `path_unavailable` when there
/// is no way on TCP at the moment; the egress knows nothing of the flow then.
pub(super) async fn ask(
    mesh: &Arc<Mesh>,
    (key, ways): (LaneKey, Ways),
    asked: &Asked<'_>,
) -> Result<Flow, FlowRefused> {
    let place = Place::take(mesh).ok_or_else(|| here(refusal(RefusalCode::LimitReached)))?;
    let (secured, over) = dial(mesh, (key, ways), false).await.map_err(here)?;
    let Secured { mut outlet, mut inlet, .. } = secured;
    let unavailable = || here(refusal(RefusalCode::PathUnavailable));
    let name = new_name().ok_or_else(unavailable)?;
    let mut request = asked.request.clone();
    request.resume = Some(Resume::opening(name));
    outlet.write_all(&wire::frame(&request)).await.map_err(|_| unavailable())?;
    match read_frame(&mut inlet).await {
        Ok(FlowReply::Opened) => {
            let _place = Counted::OnTcp { _place: place };
            let egress = key.egress;
            Ok(Flow::Lane(LaneFlow { egress, send: outlet, recv: inlet, _place }))
        }
        Ok(FlowReply::Attached { .. }) => {
            let leg = Leg::new(outlet, inlet).ok_or_else(unavailable)?;
            let keeper = Arc::new(asked.keeper(mesh, key, name, Carrier::Tcp));
            let store = mesh.lanes.store.of(key.organization);
            let (send, recv, flow) = lasting(leg, keeper.clone(), store, None);
            keeper.join(&flow, over);
            let _place = Counted::OnTcp { _place: place };
            Ok(Flow::Lane(LaneFlow { egress: key.egress, send, recv, _place }))
        }
        Ok(FlowReply::Gone) => Err(here(refusal(RefusalCode::Malformed))),
        Ok(FlowReply::Refused(refusal)) => Err(FlowRefused { refusal, by_egress: true }),
        Err(ReadFrameError::Stream(Short::Broken(Broken::Reset(code)))) => {
            match Close::from_code(code) {
                Some(Close::Refused(code)) => {
                    Err(FlowRefused { refusal: refusal(code), by_egress: true })
                }
                _ => Err(unavailable()),
            }
        }
        Err(ReadFrameError::Malformed(_)) => Err(here(refusal(RefusalCode::Malformed))),
        Err(_) => Err(unavailable()),
    }
}

/// Connects over the best of the ways that did not fail a short while ago. With `insist`, over any
/// when all did: for a flow that has nothing else.
pub(super) async fn dial(
    mesh: &Arc<Mesh>,
    (key, ways): (LaneKey, Ways),
    insist: bool,
) -> Result<(Secured, Candidate), Refusal> {
    let (peer, plan) = planned(mesh, (key, ways), insist)?;
    let attempts = plan
        .iter()
        .map(|attempt| (attempt.start_after, try_one(mesh, key, &peer, attempt.candidate)))
        .collect();
    won_over(mesh, key, &plan, race(attempts).await)
}

/// The same without TLS, which somebody else will do: whether the egress is there is not known yet.
pub(super) async fn reach(
    mesh: &Arc<Mesh>,
    (key, ways): (LaneKey, Ways),
    insist: bool,
) -> Result<(TcpStream, Candidate), Refusal> {
    let (peer, plan) = planned(mesh, (key, ways), insist)?;
    let attempts = plan
        .iter()
        .map(|attempt| (attempt.start_after, reach_over(mesh, key, &peer, attempt.candidate)))
        .collect();
    won_over(mesh, key, &plan, race(attempts).await)
}

/// The same over this path alone.
pub(super) async fn reach_by(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    over: Candidate,
) -> Option<(TcpStream, Candidate)> {
    let view = mesh.view();
    let peer = view.peer(key.egress)?;
    let serves = peer_has_role(peer, NodeRole::StreamWorker, key.organization);
    if !serves {
        return None;
    }
    reach_over(mesh, key, peer, over).await.ok()
}

/// Tries a path that nothing came over, and remembers what comes of it.
pub(super) async fn look(mesh: &Arc<Mesh>, key: LaneKey, over: Candidate) {
    let (looks, path) = (&mesh.lanes.streams.looks, (key.egress, over));
    if !locked(looks).insert(path) {
        return;
    }
    let view = mesh.view();
    if let Some(peer) = view.peer(key.egress) {
        let _ = try_one(mesh, key, peer, over).await;
    }
    locked(looks).remove(&path);
}

fn planned(
    mesh: &Mesh,
    (key, ways): (LaneKey, Ways),
    insist: bool,
) -> Result<(Peer, Vec<Attempt>), Refusal> {
    let view = mesh.view();
    let peer = view.peer(key.egress).ok_or_else(|| refusal(RefusalCode::PeerNotTrusted))?;
    if !peer_has_role(peer, NodeRole::StreamWorker, key.organization) {
        return Err(refusal(RefusalCode::RoleNotAssigned));
    }
    let relays = ways.of(mesh.relays.order(&view, Use::New, key, mesh.clock.now()));
    let (now, paths) = (mesh.clock.moment(), locked(&mesh.lanes.streams.paths));
    let plan = if insist {
        paths.plan(now, key.egress, view.direct_to(key.egress), relays)
    } else {
        paths.untried(now, key.egress, view.direct_to(key.egress), relays)
    };
    Ok((peer.clone(), plan))
}

fn won_over<T>(
    mesh: &Mesh,
    key: LaneKey,
    plan: &[Attempt],
    outcome: Result<(T, Candidate), Vec<()>>,
) -> Result<(T, Candidate), Refusal> {
    let (won, candidate) = outcome.map_err(|_| refusal(RefusalCode::PathUnavailable))?;
    let now = mesh.clock.moment();
    locked(&mesh.lanes.streams.paths).won(now, key.egress, plan, candidate);
    tracing::debug!(egress = %key.egress, lane = %key.lane, path = ?candidate, "flow on tcp");
    Ok((won, candidate))
}

/// Connects over this path, and remembers whether that works.
pub(super) async fn try_one(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> Result<(Secured, Candidate), ()> {
    let config = mesh.configs().tcp_lane(key.lane).clone();
    let attempt =
        async { tcp::secure_with(config, socket(mesh, key, peer, candidate).await?, peer).await };
    match timeout(candidate.timeout(), attempt).await {
        Ok(Ok(secured)) => {
            secured.outlet.keep_queue_short(key.lane, &mesh.controllers);
            locked(&mesh.lanes.streams.paths).succeeded(key.egress, candidate);
            Ok((secured, candidate))
        }
        Ok(Err(_)) | Err(_) => {
            failed(mesh, key, candidate);
            Err(())
        }
    }
}

/// Connects over this path, and gives the connection up again. The round trip over the whole path, or
/// `None` if the egress did not answer.
pub(super) async fn measure(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> Option<Duration> {
    let (secured, _) = try_one(mesh, key, peer, candidate).await.ok()?;
    let Secured { mut outlet, mut inlet, .. } = secured;
    let begun = mesh.clock.moment();
    // An egress answers whoever ends before it asked for anything. TLS' own round trip says less: a relay
    // connects to the egress in it.
    let answer = async {
        outlet.finish().await;
        inlet.chunk().await
    };
    match timeout(candidate.timeout(), answer).await {
        Ok(Ok(Some(_))) => Some(mesh.clock.moment().since(begun)),
        Ok(Ok(None) | Err(_)) | Err(_) => {
            failed(mesh, key, candidate);
            None
        }
    }
}

/// That a path failed is remembered; that it works is not known before somebody speaks over it.
async fn reach_over(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> Result<(TcpStream, Candidate), ()> {
    let reaching = socket(mesh, key, peer, candidate);
    match timeout(candidate.timeout(), reaching).await {
        Ok(Ok(stream)) => Ok((stream, candidate)),
        Ok(Err(_)) | Err(_) => {
            failed(mesh, key, candidate);
            Err(())
        }
    }
}

fn failed(mesh: &Mesh, key: LaneKey, candidate: Candidate) {
    let now = mesh.clock.moment();
    locked(&mesh.lanes.streams.paths).failed(now, key.egress, candidate);
}

/// A socket that leads to the egress over this path.
async fn socket(
    mesh: &Arc<Mesh>,
    key: LaneKey,
    peer: &Peer,
    candidate: Candidate,
) -> io::Result<TcpStream> {
    match candidate {
        // It may have been forbidden since it was chosen.
        Candidate::Direct(_) if !mesh.view().allows_direct() => {
            Err(io::Error::other("direct paths are forbidden"))
        }
        Candidate::Direct(address) => tcp::dialled(address).await,
        Candidate::Relay(relay) => {
            let stream = hops::set_up_stream(mesh, relay, peer.node, key.lane)
                .await
                .map_err(|refusal| io::Error::other(refusal.to_string()))?;
            tcp::joined(stream.address, stream.ticket).await
        }
        Candidate::Chain(chain) => {
            let stream = chains::set_up_stream(mesh, chain, key)
                .await
                .map_err(|refused| io::Error::other(refused.to_string()))?;
            tcp::joined(stream.address, stream.ticket).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_flows_are_open_on_tcp_and_a_place_comes_back() {
        let streams = Streams::default();
        assert!((0..MAX_STREAMS).all(|_| streams.take()));
        assert!(!streams.take());
        assert_eq!(streams.open(), MAX_STREAMS);
        streams.give_back();
        assert!(streams.take());
        assert!(!streams.take());
    }
}
