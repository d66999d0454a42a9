//! The egress: lane connections of entries, and their flows to resources.

mod flow;
mod gated;
mod meetings;
mod through;
mod tokens;

use std::{sync::Arc, time::Duration};

use quinn::Connection;
use rap_mesh_core::{
    admission::{claimed, may_stay_connected},
    ended::Close,
    refusals::refusal,
};
use rap_proto::{
    Lane, RefusalCode,
    observation::EndReason,
    refusal::Refusal,
    token::AccessClaims,
    wire::{
        lane::{FlowReply, OpenFlow, Request, RequestReply},
        resume::Resume,
    },
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use flow::{Origin, Reached, reach};

use crate::{
    carried::CarriedFlows,
    frames::{
        Either, HELLO_TIMEOUT, ReadFrameError, read_either_within, say_last, say_last_at_once,
        write_frame,
    },
    kept::{NotFound, Owner, Waiting, hand_over},
    mesh::{Mesh, close},
    pipe::{Inlet, Outlet},
    splice::{Counters, Halves, Side},
    tally::{FlowEnd, Limit, Passing},
    tcp::{Secured, refuse},
    tls::caller,
    transport::adjust_accepted_lane,
    watch::until,
};
use flow::allow;
pub(crate) use meetings::Meetings;
pub(crate) use through::serve as serve_through;
pub(crate) use tokens::TokenCache;

/// How long flows may take to end once they were told.
const CUT_LINGER: Duration = Duration::from_secs(1);

struct Served {
    mesh: Arc<Mesh>,
    origin: Origin,
    /// Of a lane on QUIC.
    connection: Option<Connection>,
    /// That connection is gone.
    lost: CancellationToken,
    /// The flows that go on without it.
    lasting: Arc<CarriedFlows>,
}

impl Served {
    fn new(mesh: Arc<Mesh>, origin: Origin, connection: Option<Connection>) -> Self {
        Self { mesh, origin, connection, lost: CancellationToken::new(), lasting: Arc::default() }
    }

    /// Tells every flow. Who waits for its resource alone would not hear of it.
    fn lose(&self) {
        self.lost.cancel();
        self.lasting.lose();
    }
}

/// Serves one lane connection until it is gone or its entry is no longer trusted.
pub(crate) async fn serve(mesh: Arc<Mesh>, connection: Connection, lane: Lane) {
    let most = mesh.limits.lane_streams;
    adjust_accepted_lane(&connection, lane, most);
    let Some(caller) = caller(&connection) else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
    };
    let origin = Origin::entry(caller, lane);
    let served = Arc::new(Served::new(mesh, origin, Some(connection.clone())));
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
                    let (outlet, inlet) = (Outlet::Quic(send), Inlet::Quic(recv));
                    flows.spawn(serve_flow(served.clone(), outlet, inlet));
                }
                Ok((send, _)) => {
                    mesh.tally.reached(Limit::LaneStreams);
                    refuse_flow(Outlet::Quic(send));
                }
                Err(_) => {
                    // Some go on over another connection; the others end.
                    served.lose();
                    let rest = async move { while flows.join_next().await.is_some() {} };
                    mesh.tasks_of(lane).spawn(rest);
                    return;
                }
            },
        }
    }
    flows.shutdown().await;
}

/// Answers a flow too many: one whose predecessor gave its stream back and is not quite done, or
/// one of an entry that keeps to no limit. What cannot be said at once is left unsaid.
fn refuse_flow(mut send: Outlet) {
    say_last_at_once(&mut send, &FlowReply::Refused(refusal(RefusalCode::LimitReached)));
}

/// Serves the one flow of a TLS connection.
pub(crate) async fn serve_tcp(mesh: Arc<Mesh>, secured: Secured, lane: Lane) {
    let trusted = secured.caller.filter(|caller| may_stay_connected(&mesh.view(), caller));
    let Some(caller) = trusted else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return refuse(secured, RefusalCode::PeerNotTrusted);
    };
    secured.outlet.keep_queue_short(lane, &mesh.controllers);
    let served = Arc::new(Served::new(mesh, Origin::entry(caller, lane), None));
    serve_flow(served, secured.outlet, secured.inlet).await;
}

async fn serve_flow(served: Arc<Served>, mut send: Outlet, mut recv: Inlet) {
    match asked(&served, &mut recv).await {
        Ok(Asked::Flow(request, claims)) => {
            serve_asked(&served, (send, recv), *request, claims).await;
        }
        Ok(Asked::Besides(request)) => {
            let reply = besides(&served, request).await;
            say_last(&mut send, &reply).await;
        }
        Err(refusal) => refuse_with(&mut send, refusal).await,
    }
}

async fn serve_asked(
    served: &Arc<Served>,
    on: (Outlet, Inlet),
    request: OpenFlow,
    claims: Arc<AccessClaims>,
) {
    match request.resume {
        Some(resume) if resume.generation > 0 => {
            go_on(served, on, request, &claims, resume).await;
        }
        _ => begin(served, on, request, claims).await,
    }
}

/// What an entry asks of a lane itself.
async fn besides(served: &Served, request: Request) -> RequestReply {
    let Request::Meet { round, seen } = request;
    match &served.connection {
        Some(connection) => {
            meetings::meet(&served.mesh, (connection, &served.origin.caller), round, seen).await
        }
        None => RequestReply::Refused(refusal(RefusalCode::Malformed)),
    }
}

/// Opens a flow, and passes its bytes until it ends.
async fn begin(
    served: &Arc<Served>,
    (mut send, mut recv): (Outlet, Inlet),
    request: OpenFlow,
    claims: Arc<AccessClaims>,
) {
    let Served { mesh, origin, .. } = &**served;
    let resume = request.resume;
    let owner = Owner::new(origin.opener(&claims), &claims, request.channel);
    let watched = through::watched(served, &claims);
    let reached = match reach(mesh, *origin, request, claims).await {
        Ok(reached) => reached,
        Err(refusal) => return refuse_with(&mut send, refusal).await,
    };
    let name = resume.and_then(|resume| mesh.kept.name(resume.flow, owner));
    let reply = match name {
        Some(_) => FlowReply::Attached { received: 0 },
        None => FlowReply::Opened,
    };
    if write_frame(&mut send, &reply).await.is_err() {
        return;
    }
    let lasts = name.is_some();
    if let Some(name) = name {
        let spot = served.lasting.spot();
        let tag = spot.tag();
        let place = (spot, watched);
        let kept = mesh.kept.keep(name, (send, recv, place), Waiting::new(mesh, || true));
        let Some((outlet, inlet, flow)) = kept else { return };
        (send, recv) = (outlet, inlet);
        tag.by(&flow, Resume::FIRST);
    }
    let over = async {
        match lasts {
            true => std::future::pending().await,
            false => served.lost.cancelled().await,
        }
        EndReason::PathLost
    };
    let mut lane = Halves { send: &mut send, recv: &mut recv };
    let counters = Arc::new(Counters::default());
    let _passing = Passing::begin(mesh, (FlowEnd::Egress, origin.lane), counters.clone());
    reached.pass(&mut lane, Side::Lane, &counters, over).await;
}

/// Gives a flow this connection, after the checks of an opening: one that lost the connection it was
/// on, or that leaves it.
async fn go_on(
    served: &Arc<Served>,
    (mut send, recv): (Outlet, Inlet),
    request: OpenFlow,
    claims: &AccessClaims,
    resume: Resume,
) {
    let Served { mesh, origin, .. } = &**served;
    let refused = |code| {
        mesh.refused(code, Some(claimed(claims)));
        refusal(code)
    };
    if let Err(code) = allow(mesh, *origin, &request, claims).await {
        return refuse_with(&mut send, refused(code)).await;
    }
    let owner = Owner::new(origin.opener(claims), claims, request.channel);
    let lasting = match mesh.kept.find(resume.flow, owner, resume.generation) {
        Ok(lasting) => lasting,
        Err(NotFound::Gone) => {
            say_last(&mut send, &FlowReply::Gone).await;
            return;
        }
        Err(NotFound::Foreign) => {
            return refuse_with(&mut send, refused(RefusalCode::AccessDenied)).await;
        }
    };
    let spot = served.lasting.spot();
    let tag = spot.tag();
    let place = (spot, through::watched(served, claims));
    let answer = |offer| match offer {
        Some(received) => FlowReply::Attached { received },
        None => FlowReply::Gone,
    };
    if hand_over(&lasting, (send, recv, place), resume, answer).await {
        tag.by(&lasting, resume.generation);
    }
}

async fn refuse_with(send: &mut Outlet, refusal: Refusal) {
    say_last(send, &FlowReply::Refused(refusal)).await;
}

/// What the first message of a stream asks for.
enum Asked {
    /// By a token whose signature was verified.
    Flow(Box<OpenFlow>, Arc<AccessClaims>),
    Besides(Request),
}

async fn asked(served: &Served, recv: &mut Inlet) -> Result<Asked, Refusal> {
    let mesh = &served.mesh;
    let request: OpenFlow = match read_either_within(recv, HELLO_TIMEOUT).await {
        Ok(Either::One(request)) => request,
        Ok(Either::Other(request)) => return Ok(Asked::Besides(request)),
        Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => {
            mesh.refused(RefusalCode::Malformed, None);
            return Err(refusal(RefusalCode::Malformed));
        }
        // The entry gave the flow up before it asked for anything.
        Err(ReadFrameError::Stream(_)) => return Err(refusal(RefusalCode::Malformed)),
    };
    let claims = mesh.tokens.open(&mesh.view(), &request.token).map_err(|code| {
        mesh.refused(code, None);
        refusal(code)
    })?;
    Ok(Asked::Flow(Box::new(request), claims))
}
