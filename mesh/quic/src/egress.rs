//! The egress: lane connections of entries, and their flows to resources.

mod tokens;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use quinn::{Connection, RecvStream, SendStream};
use rap_mesh_core::{
    Caller,
    admission::{Presented, admit_flow, claimed, flow_must_end, may_stay_connected},
    ended::Close,
    refusals::refusal,
};
use rap_proto::{
    ChannelKind, Lane, RefusalCode, SessionId,
    observation::{EndReason, Observation},
    refusal::Refusal,
    snapshot::Resource,
    token::AccessClaims,
    wire::lane::{FlowReply, OpenFlow},
};
use tokio::{task::JoinSet, time::timeout};
use tracing::Instrument as _;

use crate::{
    DialRequest, Dialed,
    frames::{HELLO_TIMEOUT, ReadFrameError, TARGET_DIAL_TIMEOUT, read_frame_within, write_frame},
    mesh::{Mesh, close, locked},
    splice::{Counters, Halves, splice_target},
    tls::caller,
    transport::adjust_accepted_lane,
    watch::{until, wait_for_version},
};
use tokens::TokenCache;

/// How long flows may take to end once they were told.
const CUT_LINGER: Duration = Duration::from_secs(1);

struct Served {
    mesh: Arc<Mesh>,
    caller: Caller,
    lane: Lane,
    tokens: TokenCache,
}

/// Serves one lane connection until it is gone or its entry is no longer trusted.
pub(crate) async fn serve(mesh: Arc<Mesh>, connection: Connection, lane: Lane) {
    let most = mesh.limits.lane_streams;
    adjust_accepted_lane(&connection, lane, most);
    let Some(caller) = caller(&connection) else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
    };
    let served = Arc::new(Served { mesh, caller, lane, tokens: TokenCache::default() });
    let mesh = &served.mesh;
    let distrusted = until(mesh, |view, _| (!may_stay_connected(view, &caller)).then_some(()));
    tokio::pin!(distrusted);
    let mut flows = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = &mut distrusted => {
                mesh.refused(RefusalCode::PeerNotTrusted, None);
                close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
                break;
            }
            () = mesh.leaving.cancelled() => {
                // The flows say so themselves; what is left is closed with the endpoint.
                let ended = async { while flows.join_next().await.is_some() {} };
                let _ = timeout(CUT_LINGER, ended).await;
                break;
            }
            Some(_) = flows.join_next() => {}
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) if flows.len() < most as usize => {
                    flows.spawn(serve_flow(served.clone(), send, recv));
                }
                Ok((send, _)) => refuse_flow(send),
                Err(_) => break,
            },
        }
    }
    flows.shutdown().await;
}

/// Answers a flow too many: one whose predecessor gave its stream back and is not quite done, or
/// one of an entry that keeps to no limit. What cannot be said at once is left unsaid.
fn refuse_flow(mut send: SendStream) {
    let refused = FlowReply::Refused(refusal(RefusalCode::LimitReached));
    if matches!(write_frame(&mut send, &refused).now_or_never(), Some(Ok(()))) {
        let _ = send.finish();
    }
}

async fn serve_flow(served: Arc<Served>, mut send: SendStream, mut recv: RecvStream) {
    let opened = match open(&served, &mut recv).await {
        Ok(opened) => opened,
        Err(refusal) => {
            if write_frame(&mut send, &FlowReply::Refused(refusal)).await.is_ok() {
                // Nothing follows the refusal.
                let _ = send.finish();
            }
            return;
        }
    };
    let Opened { claims, dialed, place } = opened;
    if write_frame(&mut send, &FlowReply::Opened).await.is_err() {
        return;
    }
    let mesh = &served.mesh;
    let first = locked(&mesh.egress).flow_reached(place.session);
    if first {
        let started = Observation::SessionStarted { session: place.session };
        mesh.events.session(mesh.clock.now(), started).await;
    }
    let over = async {
        tokio::select! {
            biased;
            reason = until(mesh, |view, now| flow_must_end(view, &served.caller, &claims, now)) => reason,
            () = mesh.leaving.cancelled() => EndReason::NodeLeft,
        }
    };
    let mut lane = Halves { send: &mut send, recv: &mut recv };
    let Dialed { stream, worker_died } = dialed;
    let counters = Counters::default();
    let reason = splice_target(&mut lane, stream, worker_died.shared(), &counters, over).await;
    tracing::debug!(session = %place.session, %reason, "flow ended");
}

struct Opened {
    claims: Arc<AccessClaims>,
    dialed: Dialed,
    place: Place,
}

async fn open(served: &Served, recv: &mut RecvStream) -> Result<Opened, Refusal> {
    let mesh = &served.mesh;
    let request: OpenFlow = match read_frame_within(recv, HELLO_TIMEOUT).await {
        Ok(request) => request,
        Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => {
            mesh.refused(RefusalCode::Malformed, None);
            return Err(refusal(RefusalCode::Malformed));
        }
        // The entry gave the flow up before it asked for anything.
        Err(ReadFrameError::Stream(_)) => return Err(refusal(RefusalCode::Malformed)),
    };
    let claims = served.tokens.open(&mesh.view(), &request.token).map_err(|code| {
        mesh.refused(code, None);
        refusal(code)
    })?;
    let refused = |code| {
        mesh.refused(code, Some(claimed(&claims)));
        refusal(code)
    };
    let resource = admit(served, &request, &claims).await.map_err(refused)?;
    let channel = request.channel;
    let place = Place::take(mesh, &claims, channel).map_err(refused)?;
    let span = tracing::info_span!("flow", session = %claims.session, lane = %served.lane);
    let asked = DialRequest {
        session: claims.session,
        resource,
        channel,
        traceparent: mesh.continue_trace(&span, request.traceparent),
    };
    let dialling = mesh.dialer.dial(asked).instrument(span);
    let dialled = timeout(TARGET_DIAL_TIMEOUT, dialling).await;
    let dialed = dialled
        .unwrap_or_else(|_| Err(refusal(RefusalCode::TargetUnreachable)))
        .inspect_err(|refusal| mesh.refused(refusal.code, Some(claimed(&claims))))?;
    Ok(Opened { claims, dialed, place })
}

/// Checks a flow; when the snapshot is behind what the token was issued under, lets it catch up.
async fn admit(
    served: &Served,
    request: &OpenFlow,
    claims: &AccessClaims,
) -> Result<Resource, RefusalCode> {
    let mesh = &served.mesh;
    let check = || {
        let presented = Presented { claims, token: &request.token, proof: &request.proof };
        let view = mesh.view();
        let now = mesh.clock.now();
        admit_flow(&view, &served.caller, presented, request.channel, served.lane, now).cloned()
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

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.mesh.clock.moment();
        locked(&self.mesh.egress).close_flow(now, self.session, self.channel);
    }
}
