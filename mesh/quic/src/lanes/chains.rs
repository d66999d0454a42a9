//! A lane's way over several relays: the first is asked, and who refuses is said by name.

use std::{fmt, sync::Arc};

use rap_mesh_core::paths::Chain;
use rap_proto::{NodeId, RefusalCode, wire::hop::Onward};

use super::LaneKey;
use crate::{
    hops::{self, NearSocket, OnwardRefused, RelayedFlow, RelayedStream},
    mesh::Mesh,
};

/// Which relay of a chain refused, or did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainRefused {
    pub(crate) relay: NodeId,
    pub(crate) code: RefusalCode,
}

impl ChainRefused {
    /// INVARIANT: nobody behind the chain's last relay refuses; see `hops`.
    fn by(chain: &Chain, refused: OnwardRefused) -> Self {
        let relay = chain.relays().get(usize::from(refused.hop)).copied();
        Self { relay: relay.unwrap_or_else(|| chain.first()), code: refused.code }
    }
}

impl fmt::Display for ChainRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay {} refused: {}", self.relay, self.code)
    }
}

/// Asks for a flow between this socket and the lane's egress.
pub(crate) async fn set_up(
    mesh: &Arc<Mesh>,
    chain: Chain,
    key: LaneKey,
    from: &impl NearSocket,
) -> Result<RelayedFlow, ChainRefused> {
    let asking = async {
        let hop = hops::connected(mesh, chain.first()).await?;
        let first = (chain.first(), hop);
        hops::set_up_onward(mesh, first, onward(&chain, key), from).await
    };
    asking.await.map_err(|refused| said(&chain, key, refused))
}

/// The same for a stream.
pub(super) async fn set_up_stream(
    mesh: &Arc<Mesh>,
    chain: Chain,
    key: LaneKey,
) -> Result<RelayedStream, ChainRefused> {
    let asked = hops::set_up_stream_onward(mesh, chain.first(), onward(&chain, key)).await;
    asked.map_err(|refused| said(&chain, key, refused))
}

fn onward(chain: &Chain, key: LaneKey) -> Onward {
    let LaneKey { egress: target, organization, lane } = key;
    Onward { relays: chain.onward().to_vec(), target, lane, organization }
}

fn said(chain: &Chain, key: LaneKey, refused: OnwardRefused) -> ChainRefused {
    let refused = ChainRefused::by(chain, refused);
    let LaneKey { egress, lane, .. } = key;
    tracing::debug!(%egress, %lane, %chain, %refused, "no path over these relays");
    refused
}
