//! Keeping this node reachable at a relay: one stream that stays open, on which the relay calls.

use std::{net::SocketAddr, sync::Arc};

use rap_mesh_core::{carrier::Carrier, refusals::refusal};
use rap_proto::{
    NodeId, RefusalCode,
    refusal::Refusal,
    wire::hop::{Call, Reply, Request},
};
use tokio::time::timeout;

use super::{HOP_REPLY_TIMEOUT, Hop, connected, connected_on_tcp};
use crate::{
    frames::{ReadFrameError, read_frame, write_frame},
    mesh::Mesh,
    pipe::{Inlet, Outlet},
    tcp::Secured,
};

/// The way on which a relay calls this node. Dropping it ends it.
pub(crate) struct Line {
    /// Its end is this node's word that it is over.
    send: Outlet,
    recv: Inlet,
    /// Counted among those that use the connection.
    _hop: Option<Hop>,
    pub(crate) relay: SocketAddr,
    pub(crate) carrier: Carrier,
}

impl Line {
    /// The relay's next call. An error is the end of the line.
    pub(crate) async fn call(&mut self) -> Result<Call, ReadFrameError> {
        read_frame(&mut self.recv).await
    }
}

/// Keeps this node reachable at `relay`: on QUIC, and on TCP where no datagram gets through.
pub(crate) async fn keep_reachable(mesh: &Arc<Mesh>, relay: NodeId) -> Result<Line, Refusal> {
    match keep_reachable_on_quic(mesh, relay).await {
        Err(refused) if refused.code == RefusalCode::PathUnavailable => {
            let (Secured { outlet, inlet, .. }, address) = connected_on_tcp(mesh, relay).await?;
            let (relay, carrier) = (address, Carrier::Tcp);
            Line { send: outlet, recv: inlet, _hop: None, relay, carrier }.ask().await
        }
        outcome => outcome,
    }
}

pub(crate) async fn keep_reachable_on_quic(
    mesh: &Arc<Mesh>,
    relay: NodeId,
) -> Result<Line, Refusal> {
    let hop = connected(mesh, relay).await?;
    let opened = timeout(HOP_REPLY_TIMEOUT, hop.0.open_bi()).await;
    let Ok(Ok((send, recv))) = opened else {
        return Err(refusal(RefusalCode::PathUnavailable));
    };
    let (send, recv) = (Outlet::Quic(send), Inlet::Quic(recv));
    Line { send, recv, relay: hop.remote(), carrier: Carrier::Quic, _hop: Some(hop) }.ask().await
}

impl Line {
    async fn ask(mut self) -> Result<Self, Refusal> {
        let exchange = async {
            write_frame(&mut self.send, &Request::KeepReachable {}).await.ok()?;
            read_frame(&mut self.recv).await.ok()
        };
        // A relay of an earlier release closes the stream.
        let reply = timeout(HOP_REPLY_TIMEOUT, exchange).await.ok().flatten();
        match reply.ok_or_else(|| refusal(RefusalCode::PathUnavailable))? {
            Reply::Done => Ok(self),
            Reply::Refused(refusal) => Err(refusal),
            Reply::FlowReady { .. }
            | Reply::StreamReady { .. }
            | Reply::RefusedOnward { .. }
            | Reply::KnockHere { .. }
            | Reply::SeenAt { .. }
            | Reply::Here { .. } => Err(refusal(RefusalCode::Malformed)),
        }
    }
}
