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

/// Asks the first two of these relays what they see of the socket that `knock` sends from; where
/// there is one, it looks at two of its own ports.
pub(crate) async fn look(
    mesh: &Arc<Mesh>,
    relays: &[NodeId],
    knock: impl Fn(SocketAddr, &[u8; 16]) + Sync,
) -> Seen {
    let Some(first) = relays.first() else { return Seen::default() };
    let second = relays.get(1).unwrap_or(first);
    let (one, other) = tokio::join!(see(mesh, *first, &knock), see(mesh, *second, &knock));
    let looks: Vec<SocketAddr> = one.into_iter().chain(other).collect();
    seen(&looks)
}

async fn see(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    knock: &(impl Fn(SocketAddr, &[u8; 16]) + Sync),
) -> Option<SocketAddr> {
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
        let knocks = async {
            let begun = Instant::now();
            for after in KNOCK_AT {
                sleep_until(begun + after).await;
                knock(to, &secret);
            }
            std::future::pending().await
        };
        tokio::select! {
            said = read_frame(&mut recv) => match said {
                Ok(Reply::SeenAt { address }) => {
                    may_be_seen_from(to.ip().to_canonical(), address).then_some(address)
                }
                _ => None,
            },
            never = knocks => never,
        }
    };
    let outcome = timeout(HOP_REPLY_TIMEOUT, seeing).await.ok().flatten();
    if outcome.is_none() {
        tracing::debug!(%relay, "a relay did not say where it sees this node");
    }
    outcome
}
