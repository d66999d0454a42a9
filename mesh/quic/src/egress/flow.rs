//! One flow at its egress: checked, its resource dialled, its bytes passed.

use std::{future::Future, sync::Arc};

use futures_util::FutureExt as _;
use rap_mesh_core::{
    Caller,
    admission::{Presented, admit_flow, admit_through, claimed, flow_must_end},
    refusals::refusal,
};
use rap_proto::{
    ChannelKind, Lane, RefusalCode, SessionId,
    observation::{EndReason, Observation, Vantage},
    refusal::Refusal,
    snapshot::Resource,
    token::AccessClaims,
    wire::lane::OpenFlow,
};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::gated::Gated;
use crate::{
    DialRequest, Dialed,
    frames::TARGET_DIAL_TIMEOUT,
    kept::Opener,
    mesh::{Mesh, locked},
    messages,
    shaping::Shaped,
    splice::{Counters, Halves, Side, splice_target},
    watch::{until, wait_for_version},
};

/// The entry that a flow comes from, and the lane that it comes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) caller: Caller,
    pub(crate) lane: Lane,
    /// Of a through flow, the exported value of its client's own connection: the entry only vouched for
    /// it.
    pub(crate) through: Option<[u8; 32]>,
}

impl Origin {
    pub(crate) const fn entry(caller: Caller, lane: Lane) -> Self {
        Self { caller, lane, through: None }
    }

    /// Who may come back to a flow: a client with its key, through whichever entry.
    pub(super) fn opener(self, claims: &AccessClaims) -> Opener {
        match self.through {
            None => Opener::Entry(self),
            Some(_) => Opener::Client(claims.client_key, self.lane),
        }
    }
}

/// A flow that reached its resource.
pub(crate) struct Reached {
    origin: Origin,
    claims: Arc<AccessClaims>,
    dialed: Dialed,
    shaped: Shaped,
    place: Place,
}

/// Checks a flow whose token's signature was verified, and dials its resource. Whatever is refused
/// is reported.
pub(crate) async fn reach(
    mesh: &Arc<Mesh>,
    origin: Origin,
    request: OpenFlow,
    claims: Arc<AccessClaims>,
) -> Result<Reached, Refusal> {
    let refused = |code| {
        mesh.refused(code, Some(claimed(&claims)));
        refusal(code)
    };
    let resource = allow(mesh, origin, &request, &claims).await.map_err(refused)?;
    let channel = request.channel;
    let place = Place::take(mesh, &claims, channel).map_err(refused)?;
    let shaped = Shaped::open(mesh, &claims, origin.lane).map_err(refused)?;
    let span = tracing::info_span!("flow", session = %claims.session, lane = %origin.lane);
    let asked = DialRequest {
        session: claims.session,
        resource,
        channel,
        traceparent: mesh.continue_trace(&span, request.traceparent),
    };
    let dialling = messages::dial(&*mesh.dialer, &mesh.tally, asked).instrument(span);
    let dialled = timeout(TARGET_DIAL_TIMEOUT, dialling).await;
    let dialed = dialled
        .unwrap_or_else(|_| Err(refusal(RefusalCode::TargetUnreachable)))
        .inspect_err(|refusal| mesh.refused(refusal.code, Some(claimed(&claims))))?;
    Ok(Reached { origin, claims, dialed, shaped, place })
}

/// The checks of an opening, which are also those of every further connection of a flow.
pub(super) async fn allow(
    mesh: &Mesh,
    origin: Origin,
    request: &OpenFlow,
    claims: &AccessClaims,
) -> Result<Resource, RefusalCode> {
    let resource = admit(mesh, origin, request, claims).await?;
    mesh.fencing.admit(claims.leased).await?;
    mesh.fencing.hold(claims.leased).await?;
    Ok(resource)
}

impl Reached {
    /// Passes bytes between `from` and the resource until both directions are closed, the access
    /// is withdrawn, its lease is over, the node leaves, or `over` says so. Returns why the flow
    /// ended.
    pub(crate) async fn pass(
        self,
        from: &mut Halves<'_>,
        side: Side,
        counters: &Counters,
        over: impl Future<Output = EndReason>,
    ) -> EndReason {
        let Self { origin, claims, dialed, shaped, place } = self;
        let mesh = &place.mesh;
        place.tell_start().await;
        let caller = origin.through.is_none().then_some(&origin.caller);
        let must_end = until(mesh, |view, now| flow_must_end(view, caller, &claims, now));
        let over = async {
            tokio::select! {
                biased;
                reason = over => reason,
                reason = must_end => reason,
                () = mesh.fencing.over(claims.leased) => EndReason::LeaseLost,
                () = mesh.leaving.cancelled() => EndReason::NodeLeft,
            }
        };
        let Dialed { stream, worker_died } = dialed;
        let stream = match claims.leased {
            None => stream,
            Some(leased) => Box::new(Gated { stream, mesh: mesh.clone(), leased }),
        };
        let worker_died = worker_died.shared();
        let passed = splice_target(from, side, stream, worker_died, &shaped, counters, over);
        let reason = passed.await;
        tracing::debug!(session = %place.session, %reason, "flow ended");
        reason
    }
}

/// Checks a flow; when the snapshot is behind what the token was issued under, lets it catch up.
async fn admit(
    mesh: &Mesh,
    origin: Origin,
    request: &OpenFlow,
    claims: &AccessClaims,
) -> Result<Resource, RefusalCode> {
    let check = || {
        let presented = Presented { claims, token: &request.token, proof: &request.proof };
        let view = mesh.view();
        let now = mesh.clock.now();
        let Origin { caller, lane, through } = origin;
        let channel = request.channel;
        let admitted = match through {
            None => admit_flow(&view, &caller, presented, channel, lane, now),
            Some(exported) => {
                admit_through(&view, &caller, presented, &exported, (channel, lane), now)
            }
        };
        admitted.cloned()
    };
    match check() {
        Err(RefusalCode::SnapshotBehind) => {
            let floor = claims.egresses.get(&mesh.view().node).copied().unwrap_or(0);
            if wait_for_version(mesh, floor).await {
                check()
            } else {
                Err(RefusalCode::SnapshotBehind)
            }
        }
        outcome => outcome,
    }
}

/// A flow's place in its session's book, given back however it ends.
struct Place {
    mesh: Arc<Mesh>,
    session: SessionId,
    channel: ChannelKind,
}

impl Place {
    fn take(
        mesh: &Arc<Mesh>,
        claims: &AccessClaims,
        channel: ChannelKind,
    ) -> Result<Self, RefusalCode> {
        let max_open = claims.channels.get(&channel).map_or(0, |grant| grant.max_open);
        let session = claims.session;
        locked(&mesh.egress).open_flow(mesh.clock.moment(), session, channel, max_open)?;
        Ok(Self { mesh: mesh.clone(), session, channel })
    }
}

impl Place {
    /// Says that the session reached its resource, once.
    async fn tell_start(&self) {
        let Self { mesh, session, .. } = self;
        let at = mesh.clock.now();
        if locked(&mesh.egress).has_started(*session) {
            return;
        }
        if let Some(room) = mesh.events.room().await
            && locked(&mesh.egress).flow_reached(*session)
        {
            let from = Some(Vantage::Egress);
            room.tell(at, Observation::SessionStarted { session: *session, from });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.mesh.clock.moment();
        locked(&self.mesh.egress).close_flow(now, self.session, self.channel);
    }
}
