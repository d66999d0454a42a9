//! Heartbeats of a node that no datagram reaches: one after the other on one TCP connection.

use std::time::Duration;

use rap_mesh_core::{Caller, admission::may_stay_connected, ended::Close};
use rap_proto::{RefusalCode, wire::hop::Request};
use tokio::time::timeout;

use super::here;
use crate::{
    frames::{HELLO_TIMEOUT, read_frame_within, write_frame},
    mesh::Mesh,
    pipe::{Inlet, Outlet},
    watch::until,
};

/// How long the next heartbeat is waited for.
pub(crate) const NEXT_HEARTBEAT_WITHIN: Duration = Duration::from_secs(60);

/// Answers the heartbeat that came, and those that follow it.
pub(super) async fn serve(mesh: &Mesh, caller: Caller, (mut send, mut recv): (Outlet, Inlet)) {
    let distrusted = until(mesh, |view, _| (!may_stay_connected(view, &caller)).then_some(()));
    tokio::pin!(distrusted);
    loop {
        let said = timeout(HELLO_TIMEOUT, write_frame(&mut send, &here(mesh))).await;
        if !matches!(said, Ok(Ok(()))) {
            return;
        }
        let next = tokio::select! {
            biased;
            () = &mut distrusted => {
                mesh.refused(RefusalCode::PeerNotTrusted, None);
                return send.reset(Close::Refused(RefusalCode::PeerNotTrusted).code());
            }
            () = mesh.leaving.cancelled() => return,
            next = read_frame_within(&mut recv, NEXT_HEARTBEAT_WITHIN) => next,
        };
        if !matches!(next, Ok(Request::Heartbeat {})) {
            break;
        }
    }
    let _ = timeout(HELLO_TIMEOUT, send.finish()).await;
}
