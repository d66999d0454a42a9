//! The egress: lane connections of entries, and their flows to resources.

mod flow;
mod gated;
mod tokens;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use quinn::Connection;
use rap_mesh_core::{admission::may_stay_connected, ended::Close, refusals::refusal};
use rap_proto::{
    Lane, RefusalCode,
    refusal::Refusal,
    wire::lane::{FlowReply, OpenFlow},
};
use tokio::{task::JoinSet, time::timeout};

pub(crate) use flow::{Origin, Reached, reach};

use crate::{
    frames::{HELLO_TIMEOUT, ReadFrameError, read_frame_within, write_frame},
    mesh::{Mesh, close},
    pipe::{Inlet, Outlet},
    splice::{Counters, Halves, Side},
    tcp::{Secured, refuse},
    tls::caller,
    transport::adjust_accepted_lane,
    watch::until,
};
pub(crate) use tokens::TokenCache;

/// How long flows may take to end once they were told.
const CUT_LINGER: Duration = Duration::from_secs(1);

struct Served {
    mesh: Arc<Mesh>,
    origin: Origin,
}

/// Serves one lane connection until it is gone or its entry is no longer trusted.
pub(crate) async fn serve(mesh: Arc<Mesh>, connection: Connection, lane: Lane) {
    let most = mesh.limits.lane_streams;
    adjust_accepted_lane(&connection, lane, most);
    let Some(caller) = caller(&connection) else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return close(&connection, Close::Refused(RefusalCode::PeerNotTrusted));
    };
    let origin = Origin { caller, lane };
    let served = Arc::new(Served { mesh, origin });
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
                Ok((send, _)) => refuse_flow(Outlet::Quic(send)),
                Err(_) => break,
            },
        }
    }
    flows.shutdown().await;
}

/// Answers a flow too many: one whose predecessor gave its stream back and is not quite done, or
/// one of an entry that keeps to no limit. What cannot be said at once is left unsaid.
fn refuse_flow(mut send: Outlet) {
    let refused = FlowReply::Refused(refusal(RefusalCode::LimitReached));
    if matches!(write_frame(&mut send, &refused).now_or_never(), Some(Ok(()))) {
        let _ = send.finish().now_or_never();
    }
}

/// Serves the one flow of a TLS connection.
pub(crate) async fn serve_tcp(mesh: Arc<Mesh>, secured: Secured, lane: Lane) {
    let trusted = secured.caller.filter(|caller| may_stay_connected(&mesh.view(), caller));
    let Some(caller) = trusted else {
        mesh.refused(RefusalCode::PeerNotTrusted, None);
        return refuse(secured, RefusalCode::PeerNotTrusted);
    };
    let served = Arc::new(Served { mesh, origin: Origin { caller, lane } });
    serve_flow(served, secured.outlet, secured.inlet).await;
}

async fn serve_flow(served: Arc<Served>, mut send: Outlet, mut recv: Inlet) {
    let reached = match open(&served, &mut recv).await {
        Ok(reached) => reached,
        Err(refusal) => {
            if write_frame(&mut send, &FlowReply::Refused(refusal)).await.is_ok() {
                // Nothing follows the refusal.
                send.finish().await;
            }
            return;
        }
    };
    if write_frame(&mut send, &FlowReply::Opened).await.is_err() {
        return;
    }
    let mut lane = Halves { send: &mut send, recv: &mut recv };
    reached.pass(&mut lane, Side::Lane, &Counters::default(), std::future::pending()).await;
}

async fn open(served: &Served, recv: &mut Inlet) -> Result<Reached, Refusal> {
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
    let claims = mesh.tokens.open(&mesh.view(), &request.token).map_err(|code| {
        mesh.refused(code, None);
        refusal(code)
    })?;
    reach(mesh, served.origin, request, claims).await
}
