//! Opening a flow to one of the egresses that a token names.

use std::sync::{Arc, atomic::Ordering};

use quinn::ConnectionError;
use rap_mesh_core::{
    Caller,
    carrier::Carrier,
    carriers::Reason,
    ended::Close,
    paths::egress_order,
    refusals::{refusal, worth_trying_elsewhere},
};
use rap_proto::{
    Lane, NodeId, RefusalCode,
    refusal::Refusal,
    token::AccessClaims,
    wire::{
        self,
        client::OpenChannel,
        lane::{FlowReply, OpenFlow},
        resume::{FlowId, Resume},
    },
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    LaneConnection, LaneKey, Ways, carriers::may_use, dial::dial, resume::LaneKeeper, stream,
};
use crate::{
    carried::{OneFlow, Spot, Tag},
    egress::{Origin, Reached, reach},
    entry::Admitted,
    frames::{CHANNEL_REPLY_TIMEOUT, ReadFrameError, read_frame},
    kept::new_name,
    mesh::Mesh,
    pipe::{Inlet, Leg, Outlet, lasting, lost},
    watch::{SNAPSHOT_WAIT, catch_up},
};

/// A flow that reached its resource.
pub(crate) enum Flow {
    Lane(LaneFlow),
    /// This node is the egress, too: there is nothing to carry over a lane.
    Here(Box<Reached>),
}

/// A flow on a lane.
pub(crate) struct LaneFlow {
    pub(crate) egress: NodeId,
    pub(crate) send: Outlet,
    pub(crate) recv: Inlet,
    // Counted as open for as long as it lives.
    pub(super) _place: Counted,
}

/// What a flow is counted among: a lane connection's, or the TLS connections.
pub(super) enum Counted {
    OnLane {
        _place: Place,
    },
    OnTcp {
        _place: stream::Place,
    },
    /// Its connection holds the place, as the flow can go on over another.
    WithItsLeg,
}

/// A place among a lane's flows.
pub(super) struct Place {
    mesh: Arc<Mesh>,
    lane: Arc<LaneConnection>,
    spot: Spot<OneFlow>,
}

/// A session's token as the client showed it last.
pub(crate) type Newest = Arc<dyn Fn() -> Arc<Admitted> + Send + Sync>;

/// Why no flow was opened, and who decided that: what an egress refused, it reported itself.
#[derive(Debug)]
pub(crate) struct FlowRefused {
    pub(crate) refusal: Refusal,
    pub(crate) by_egress: bool,
}

/// Asks the token's egresses in the session's order until one opens the flow, or refuses it for
/// a reason that is the same everywhere.
pub(crate) async fn open_flow(
    mesh: &Arc<Mesh>,
    newest: Newest,
    open: OpenChannel,
) -> Result<Flow, FlowRefused> {
    let OpenChannel { channel, lane, traceparent, .. } = open;
    let admitted = newest();
    let Admitted { claims, token, proof } = &*admitted;
    let (token, proof) = (token.clone(), proof.clone());
    let request = OpenFlow { token, proof, channel, traceparent, resume: None };
    let asked = Asked { claims, lane, request, newest };
    let asking = async {
        let version = mesh.view().version;
        match ask_all(mesh, &asked).await {
            Err(refused) if refused.may_be_outdated() => {
                if catch_up(mesh, version, SNAPSHOT_WAIT).await {
                    ask_all(mesh, &asked).await
                } else {
                    Err(refused)
                }
            }
            outcome => outcome,
        }
    };
    let late = || Err(here(refusal(RefusalCode::PathUnavailable)));
    timeout(CHANNEL_REPLY_TIMEOUT, asking).await.unwrap_or_else(|_| late())
}

/// One flow, as every egress is asked for it.
pub(super) struct Asked<'a> {
    claims: &'a AccessClaims,
    lane: Lane,
    pub(super) request: OpenFlow,
    pub(super) newest: Newest,
}

async fn ask_all(mesh: &Arc<Mesh>, asked: &Asked<'_>) -> Result<Flow, FlowRefused> {
    let Asked { claims, lane, .. } = asked;
    let mut refused = here(refusal(RefusalCode::PathUnavailable));
    let mut egresses = egress_order(claims.session, claims.egresses.keys().copied());
    // Where there are others, what is not likely to work comes after all of them.
    let passes: &[Ways] =
        if egresses.len() > 1 { &[Ways::Likely, Ways::All] } else { &[Ways::All] };
    for ways in passes {
        let mut unreached = Vec::new();
        for egress in egresses {
            let key = LaneKey { egress, organization: claims.organization, lane: *lane };
            let answer = match own_caller(mesh, egress) {
                Some(caller) => ask_self(mesh, caller, asked).await,
                None => ask(mesh, (key, *ways), asked).await,
            };
            match answer {
                Ok(flow) => return Ok(flow),
                Err(other) if !worth_trying_elsewhere(other.refusal.code) => return Err(other),
                Err(other) => {
                    if other.is_unreached() {
                        unreached.push(egress);
                    }
                    if other.by_egress || !refused.by_egress {
                        refused = other;
                    }
                }
            }
        }
        egresses = unreached;
    }
    Err(refused)
}

/// This node as an egress would know it, when it is the egress itself.
pub(super) fn own_caller(mesh: &Mesh, egress: NodeId) -> Option<Caller> {
    let view = mesh.view();
    let own = view.peer(egress).filter(|peer| peer.node == view.node)?;
    Some(Caller { cluster: view.cluster, node: view.node, key: own.key })
}

/// Does what the egress would do for another entry, with the same checks.
async fn ask_self(
    mesh: &Arc<Mesh>,
    caller: Caller,
    asked: &Asked<'_>,
) -> Result<Flow, FlowRefused> {
    let origin = Origin::entry(caller, asked.lane);
    let claims = Arc::new(asked.claims.clone());
    let reached = reach(mesh, origin, asked.request.clone(), claims).await;
    let flow = reached.map(|reached| Flow::Here(Box::new(reached)));
    flow.map_err(|refusal| FlowRefused { refusal, by_egress: true })
}

/// Asks on the lane's carriers, the one that was chosen first. What the egress refused on one it would
/// refuse on the other.
async fn ask(
    mesh: &Arc<Mesh>,
    (key, ways): (LaneKey, Ways),
    asked: &Asked<'_>,
) -> Result<Flow, FlowRefused> {
    let mut refused = here(refusal(RefusalCode::PathUnavailable));
    let Some(chosen) = mesh.lanes.choices.choose(mesh, key) else { return Err(refused) };
    let mut carriers: Vec<Carrier> = chosen.carriers().collect();
    if chosen.first == Carrier::Quic && mesh.lanes.is_unreachable(mesh, key) {
        // Nothing is known to work on QUIC: it is tried again when TCP does not work either.
        carriers.reverse();
    }
    for carrier in carriers {
        if !may_use(mesh, key, carrier) {
            continue;
        }
        let begun = mesh.clock.moment();
        let answer = match carrier {
            Carrier::Quic => ask_on_lane(mesh, (key, ways), asked).await,
            Carrier::Tcp => stream::ask(mesh, (key, ways), asked).await,
        };
        match answer {
            Err(other) if other.is_unreached() => refused = other,
            Ok(flow) => {
                let reason = if carrier == chosen.first { chosen.reason } else { Reason::Failed };
                mesh.lanes.choices.took(mesh, key, (carrier, reason));
                if carrier == Carrier::Tcp {
                    let took = mesh.clock.moment().since(begun);
                    mesh.lanes.choices.opened(mesh, key, carrier, took);
                }
                return Ok(flow);
            }
            Err(other) => return Err(other),
        }
    }
    Err(refused)
}

async fn ask_on_lane(
    mesh: &Arc<Mesh>,
    (key, ways): (LaneKey, Ways),
    asked: &Asked<'_>,
) -> Result<Flow, FlowRefused> {
    let pick =
        || mesh.lanes.pool.get(mesh.tasks_of(key.lane), key, || dial(mesh.clone(), key, ways));
    let first = pick().await.map_err(here)?;
    let begun = mesh.clock.moment();
    match request(mesh, &first.value, asked).await {
        // A warm lane can have died unnoticed; the client has sent nothing yet, so ask anew.
        Err(Failed::Lane) if first.reused || first.value.retired.is_cancelled() => {
            first.value.retired.cancel();
            first.value.lasting.lose();
            let second = pick().await.map_err(here)?;
            request(mesh, &second.value, asked).await.map_err(Failed::into_refused)
        }
        outcome => {
            if outcome.is_ok() {
                // How long the lane itself took to open is no matter of each flow.
                let took = mesh.clock.moment().since(begun);
                mesh.lanes.choices.opened(mesh, key, Carrier::Quic, took);
            }
            outcome.map_err(Failed::into_refused)
        }
    }
}

impl FlowRefused {
    /// No way led to the egress.
    fn is_unreached(&self) -> bool {
        !self.by_egress && self.refusal.code == RefusalCode::PathUnavailable
    }

    /// An egress that was assigned a moment ago is not known here yet.
    fn may_be_outdated(&self) -> bool {
        let code = self.refusal.code;
        !self.by_egress
            && matches!(code, RefusalCode::PeerNotTrusted | RefusalCode::RoleNotAssigned)
    }
}

enum Failed {
    Lane,
    Refused(FlowRefused),
}

impl Failed {
    fn into_refused(self) -> FlowRefused {
        match self {
            Self::Lane => here(refusal(RefusalCode::PathUnavailable)),
            Self::Refused(refused) => refused,
        }
    }
}

async fn request(
    mesh: &Arc<Mesh>,
    lane: &Arc<LaneConnection>,
    asked: &Asked<'_>,
) -> Result<Flow, Failed> {
    let refused = |code| Failed::Refused(here(refusal(code)));
    let place = Place::take(mesh, lane).ok_or_else(|| refused(RefusalCode::LimitReached))?;
    let (send, recv) = lane.connection.open_bi().await.map_err(|error| lane_failed(&error))?;
    let (mut send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
    let lost = || match lane.connection.close_reason() {
        Some(error) => lane_failed(&error),
        None => Failed::Lane,
    };
    let name = new_name().ok_or_else(|| refused(RefusalCode::PathUnavailable))?;
    let message = OpenFlow { resume: Some(Resume::opening(name)), ..asked.request.clone() };
    send.write_all(&wire::frame(&message)).await.map_err(|_| lost())?;
    let reply = tokio::select! {
        biased;
        reply = read_frame(&mut recv) => reply,
        // The relay is gone: the answer may never come.
        () = lane.retired.cancelled() => return Err(Failed::Lane),
    };
    match reply {
        // An egress of before, or one that keeps no more flows.
        Ok(FlowReply::Opened) => {
            let (egress, _place) = (lane.key.egress, Counted::OnLane { _place: place });
            Ok(Flow::Lane(LaneFlow { egress, send, recv, _place }))
        }
        Ok(FlowReply::Attached { .. }) => {
            let keeper = asked.keeper(mesh, lane.key, name, Carrier::Quic);
            let flow = last_on_lane(keeper, (send, recv), place);
            flow.ok_or_else(|| refused(RefusalCode::Malformed))
        }
        Ok(FlowReply::Gone) => Err(refused(RefusalCode::Malformed)),
        Ok(FlowReply::Refused(refusal)) => {
            Err(Failed::Refused(FlowRefused { refusal, by_egress: true }))
        }
        Err(ReadFrameError::Malformed(_)) => Err(refused(RefusalCode::Malformed)),
        Err(_) => Err(lost()),
    }
}

/// A flow that began on the lane and goes on elsewhere when that carries nothing any more. `None`
/// when something came that does not belong to it.
fn last_on_lane(keeper: LaneKeeper, ends: (Outlet, Inlet), place: Place) -> Option<Flow> {
    let LaneKey { egress, organization, .. } = place.lane.key;
    let (store, tag) = (place.mesh.lanes.store.of(organization), place.tag());
    let leg = Leg::new(ends.0, ends.1)?.in_place(place);
    let (send, recv, flow) = lasting(leg, Arc::new(keeper), store, None);
    tag.by(&flow, Resume::FIRST);
    Some(Flow::Lane(LaneFlow { egress, send, recv, _place: Counted::WithItsLeg }))
}

impl Asked<'_> {
    /// Who brings the flow of that name another connection.
    pub(super) fn keeper(
        &self,
        mesh: &Arc<Mesh>,
        key: LaneKey,
        flow: FlowId,
        began_on: Carrier,
    ) -> LaneKeeper {
        let opened = (self.request.clone(), self.newest.clone(), flow);
        LaneKeeper::new(mesh.clone(), key, opened, began_on)
    }
}

/// An egress that wants nothing of this node closes the whole lane, and says why.
fn lane_failed(error: &ConnectionError) -> Failed {
    if let Some(Close::Refused(code)) = lost(error) {
        return Failed::Refused(FlowRefused { refusal: refusal(code), by_egress: true });
    }
    Failed::Lane
}

pub(super) const fn here(refusal: Refusal) -> FlowRefused {
    FlowRefused { refusal, by_egress: false }
}

impl Place {
    /// `None` when the lane carries as many flows as it may: the egress would not take another.
    pub(super) fn take(mesh: &Arc<Mesh>, lane: &Arc<LaneConnection>) -> Option<Self> {
        let most = mesh.limits.lane_streams as usize;
        let one_more = |open: usize| (open < most).then_some(open + 1);
        lane.open_flows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { mesh: mesh.clone(), lane: lane.clone(), spot: lane.lasting.spot() })
    }

    /// For saying which flow it is that is carried here.
    pub(super) fn tag(&self) -> Tag<OneFlow> {
        self.spot.tag()
    }

    pub(super) fn lane_retired(&self) -> CancellationToken {
        self.lane.retired.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.last_used.store(self.mesh.clock.moment().micros(), Ordering::Relaxed);
        self.lane.open_flows.fetch_sub(1, Ordering::Relaxed);
    }
}
