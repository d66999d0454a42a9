//! Asking relays from where they see one of this node's sockets.

use std::{net::SocketAddr, sync::Arc};

use rap_mesh_core::holes::{KNOCK_AT, may_be_seen_from, seen};
use rap_proto::{
    NodeId,
    wire::{
        hop::{Reply, Request},
        lane::Seen,
    },
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{HOP_REPLY_TIMEOUT, connected};
use crate::{
    frames::{read_frame, write_frame},
    mesh::Mesh,
    pipe::{Inlet, Outlet},
};

/// The socket that datagrams of this node are to be sent from, through whatever NAT is before it.
pub(crate) trait NearSocket: Sync {
    /// The port that it has on this machine.
    fn port(&self) -> u16;

    /// Sends one knock. One that cannot be sent is as good as lost.
    fn knock(&self, to: SocketAddr, secret: &[u8; 16]);
}

/// Asks the first two of these relays what they see of this socket; where there is one, it looks at
/// two of its own ports.
pub(crate) async fn look(mesh: &Arc<Mesh>, relays: &[NodeId], socket: &impl NearSocket) -> Seen {
    let Some(first) = relays.first() else { return Seen::default() };
    let second = relays.get(1).unwrap_or(first);
    let (one, other) = tokio::join!(see(mesh, *first, socket), see(mesh, *second, socket));
    let looks: Vec<SocketAddr> = one.into_iter().chain(other).collect();
    seen(&looks)
}

async fn see(mesh: &Arc<Mesh>, relay: NodeId, socket: &impl NearSocket) -> Option<SocketAddr> {
    let seeing = async {
        let hop = connected(mesh, relay).await.ok()?;
        let _place = hop.1.places.acquire().await.ok()?;
        let (send, recv) = hop.0.open_bi().await.ok()?;
        let (mut send, mut recv) = (Outlet::Quic(send), Inlet::Quic(recv));
        write_frame(&mut send, &Request::SeeMe {}).await.ok()?;
        send.finish().await;
        // A relay of an earlier release closes the stream.
        let Ok(Reply::KnockHere { port, secret }) = read_frame(&mut recv).await else {
            return None;
        };
        let to = SocketAddr::new(hop.remote().ip(), port);
        match knocking(read_frame(&mut recv), socket, to, &secret).await {
            Ok(Reply::SeenAt { address }) => {
                may_be_seen_from(to.ip().to_canonical(), address).then_some(address)
            }
            _ => None,
        }
    };
    let outcome = timeout(HOP_REPLY_TIMEOUT, seeing).await.ok().flatten();
    if outcome.is_none() {
        tracing::debug!(%relay, "a relay did not say where it sees this node");
    }
    outcome
}

/// Knocks there until `heard` says what came of it.
pub(super) async fn knocking<T>(
    heard: impl Future<Output = T>,
    socket: &impl NearSocket,
    to: SocketAddr,
    secret: &[u8; 16],
) -> T {
    let knocks = async {
        let begun = Instant::now();
        for after in KNOCK_AT {
            sleep_until(begun + after).await;
            socket.knock(to, secret);
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        said = heard => said,
        never = knocks => never,
    }
}
