//! Through flows: a client's own connection to its egress, for which an entry vouches.

use std::sync::Arc;

use rap_mesh_core::{
    View,
    admission::{check_voucher, claimed, may_lead_through},
    refusals::refusal,
};
use rap_proto::{RefusalCode, token::AccessClaims, wire::through::OpenThrough};
use tokio_util::task::AbortOnDropHandle;

use super::{Origin, Served, refuse_with, serve_asked};
use crate::{
    frames::{HELLO_TIMEOUT, ReadFrameError, read_frame_within},
    mesh::Mesh,
    tcp::Secured,
    watch::until,
};

/// Serves the one flow of a client's connection.
pub(crate) async fn serve(mesh: Arc<Mesh>, secured: Secured) {
    let Secured { mut outlet, mut inlet, exported, .. } = secured;
    let OpenThrough { voucher, flow } = match read_frame_within(&mut inlet, HELLO_TIMEOUT).await {
        Ok(asked) => asked,
        // The client gave the flow up before it asked for anything.
        Err(ReadFrameError::Stream(_)) => return,
        Err(ReadFrameError::Malformed(_) | ReadFrameError::TimedOut) => {
            mesh.refused(RefusalCode::Malformed, None);
            return refuse_with(&mut outlet, refusal(RefusalCode::Malformed)).await;
        }
    };
    let (view, now) = (mesh.view(), mesh.clock.now());
    let claims = match mesh.tokens.open(&view, &flow.token) {
        Ok(claims) => claims,
        Err(code) => {
            mesh.refused(code, None);
            return refuse_with(&mut outlet, refusal(code)).await;
        }
    };
    let named = flow.resume.map(|resume| resume.flow).ok_or(RefusalCode::Malformed);
    let vouched =
        named.and_then(|id| check_voucher(&view, &voucher, &claims, (flow.channel, id), now));
    match vouched {
        Ok(vouched) => {
            let (caller, lane) = (vouched.caller, vouched.lane);
            outlet.keep_queue_short(lane, &mesh.controllers);
            let origin = Origin { caller, lane, through: Some(exported) };
            let served = Arc::new(Served::new(mesh, origin, None));
            serve_asked(&served, (outlet, inlet), flow, claims).await;
        }
        Err(code) => {
            mesh.refused(code, Some(claimed(&claims)));
            refuse_with(&mut outlet, refusal(code)).await;
        }
    }
}

/// Takes a client's connection from its flow when nothing may come through its entry any more. The flow
/// can go on through another one.
pub(super) fn watched(
    served: &Arc<Served>,
    claims: &AccessClaims,
) -> Option<AbortOnDropHandle<()>> {
    let Origin { caller, through, .. } = served.origin;
    through?;
    let (mesh, served, organization) = (&served.mesh, served.clone(), claims.organization);
    let watching = async move {
        let distrusted =
            |view: &View, _| (!may_lead_through(view, &caller, organization)).then_some(());
        until(&served.mesh, distrusted).await;
        served.lose();
    };
    Some(AbortOnDropHandle::new(mesh.bulk.spawn(watching)))
}
