//! What an agent asks of other nodes for its peer book: whether they are there, and whether a relay
//! forwards. All of it over hop connections.

use std::{collections::BTreeMap, time::Duration};

use rap_mesh_core::{
    busy::MachineTimes,
    ended::DONE,
    paths::Chain,
    peers::{Packets, Said},
    score::Candidate,
};
use rap_proto::{Lane, NodeId, OrganizationId, RefusalCode, Timestamp, snapshot::Peer};
use tokio::time::Instant;

use crate::{
    MeshEndpoint,
    hops::{self, RelayedStream, connect},
    lanes::{LaneKey, chains},
    mesh::{Mesh, code},
    tcp,
};

/// A peer that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAnswer {
    pub rtt: Duration,
    /// What it said of itself; nothing, where it is of an earlier release.
    pub said: Option<Said>,
    /// Those of its hop connection since its last answer: each counts once. `None` on TCP.
    pub packets: Option<Packets>,
    /// The end of the certificate that it showed.
    pub certificate_until: Timestamp,
}

/// What to make of a peer that did not do as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskPeerError {
    /// It may be gone: count it.
    #[error("the peer did not answer")]
    NoAnswer,
    /// It is there and takes no more: ask others for a while.
    #[error("the peer takes no more")]
    Full,
}

/// Why a probe over several relays did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeChainError {
    /// Leave this relay out, or ask again when its reason may be over.
    #[error("relay {relay} refused: {code}")]
    Refused { relay: NodeId, code: RefusalCode },
    /// The path was set up, and nobody answered over it: count it against all of its relays.
    #[error("nobody answered over the relays")]
    NoAnswer,
}

impl MeshEndpoint {
    /// Asks a peer whether it is there, over a hop connection that is made when there is none, and
    /// on TCP where no datagram gets through. The connection stays until [`Self::release_peer`].
    pub async fn ask_peer(&self, node: NodeId) -> Result<PeerAnswer, AskPeerError> {
        hops::ask_peer(self.mesh(), node).await.map_err(|refusal| of_code(refusal.code))
    }

    /// Lets the hop connection to a peer go, unless a flow that was set up over it still runs.
    pub fn release_peer(&self, node: NodeId) {
        hops::release(self.mesh(), node);
    }

    /// Sets up a flow through `relay` and shakes hands with `target` over it. Returns the round
    /// trip over the whole path, in the most urgent lane that the relay carries. Where no datagram
    /// gets to the relay, the flow is a stream, and the
    /// round trip how long the handshake took.
    pub async fn probe_through(
        &self,
        relay: NodeId,
        target: NodeId,
    ) -> Result<Duration, AskPeerError> {
        let mesh = self.mesh();
        let view = mesh.view();
        let peer = view.peer(target).ok_or(AskPeerError::NoAnswer)?;
        let lane = view.relayed_lanes(relay).most_urgent();
        let unreached = hops::connected(mesh, relay).await.err();
        if unreached.is_some_and(|refused| refused.code == RefusalCode::PathUnavailable) {
            return probe_through_on_tcp(mesh, (relay, lane), peer).await;
        }
        let flow = hops::set_up(mesh, relay, target, lane, &mesh.knocker)
            .await
            .map_err(|refusal| of_code(refusal.code))?;
        let config = mesh.configs().hop.clone();
        let connected = connect(&mesh.endpoint, config, flow.address, peer).await;
        let connection = connected.map_err(|()| AskPeerError::NoAnswer)?;
        let rtt = connection.rtt();
        connection.close(code(DONE), b"");
        Ok(rtt)
    }

    /// Sets up a flow over a chain, for an organization, and shakes hands with `target` over it.
    /// Returns the round trip over the whole path.
    pub async fn probe_chain(
        &self,
        chain: Chain,
        target: NodeId,
        organization: OrganizationId,
    ) -> Result<Duration, ProbeChainError> {
        let mesh = self.mesh();
        let view = mesh.view();
        let peer = view.peer(target).ok_or(ProbeChainError::NoAnswer)?;
        let key = LaneKey { egress: target, organization, lane: Lane::Interactive };
        let flow = chains::set_up(mesh, chain, key, &mesh.knocker).await.map_err(|refused| {
            ProbeChainError::Refused { relay: refused.relay, code: refused.code }
        })?;
        let config = mesh.configs().hop.clone();
        let connected = connect(&mesh.endpoint, config, flow.address, peer).await;
        let connection = connected.map_err(|()| ProbeChainError::NoAnswer)?;
        let rtt = connection.rtt();
        connection.close(code(DONE), b"");
        Ok(rtt)
    }

    /// Orders relays by these measurements from now on.
    pub fn know_peers(&self, known: BTreeMap<NodeId, Candidate<'static>>) {
        let mesh = self.mesh();
        mesh.relays.know(known, mesh.clock.now());
    }

    /// Takes in what the machine did so far: part of how busy this node says that it is.
    pub fn know_machine(&self, times: MachineTimes) {
        self.mesh().relay.know_machine(times);
    }
}

async fn probe_through_on_tcp(
    mesh: &Mesh,
    (relay, lane): (NodeId, Lane),
    target: &Peer,
) -> Result<Duration, AskPeerError> {
    let stream = hops::set_up_stream_on_tcp(mesh, relay, target.node, lane).await;
    let RelayedStream { address, ticket } = stream.map_err(|refused| of_code(refused.code))?;
    // A node that only dials out takes nothing but lanes there.
    let config = mesh.configs().tcp_lane(lane).clone();
    let shaking_hands = async {
        let stream = tcp::joined(address, ticket).await?;
        let begun = Instant::now();
        tcp::secure_with(config, stream, target).await?;
        Ok(begun.elapsed())
    };
    tcp::within(shaking_hands).await.map_err(|_| AskPeerError::NoAnswer)
}

const fn of_code(code: RefusalCode) -> AskPeerError {
    match code {
        RefusalCode::LimitReached => AskPeerError::Full,
        _ => AskPeerError::NoAnswer,
    }
}
