//! Asking for a path over several relays: the first is asked, and asks the others.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rap_mesh_core::refusals::refusal;
use rap_proto::{
    NodeId, RefusalCode,
    refusal::Refusal,
    wire::hop::{Onward, Reply, Request},
};

use super::{
    HOP_REPLY_TIMEOUT, Hop, NearSocket, RelayedFlow, RelayedStream, ask_for_flow, ask_somehow,
};
use crate::mesh::Mesh;

/// How much longer a relay may take for each relay behind it, so that whoever is nearest to a failure
/// is the first to give up, and can say so.
const ONWARD_REPLY_TIME: Duration = Duration::from_millis(1500);

/// Why a path over several relays was not set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnwardRefused {
    /// Who refused, or did not answer: 0 is the relay that was asked, 1 the one behind it.
    pub(crate) hop: u8,
    pub(crate) code: RefusalCode,
}

impl OnwardRefused {
    const fn by_the_asked(code: RefusalCode) -> Self {
        Self { hop: 0, code }
    }

    /// The same, for an asker that is one relay further away.
    pub(crate) fn onward(self) -> Reply {
        let hop = self.hop.saturating_add(1);
        Reply::RefusedOnward { hop, refusal: refusal(self.code) }
    }

    /// Of what a relay answered that did not answer as it should; `onward` is what it was asked.
    fn answered(onward: &Onward, reply: Reply) -> Self {
        match reply {
            Reply::Refused(refusal) => Self::by_the_asked(refusal.code),
            Reply::RefusedOnward { hop, refusal }
                if (1..=onward.relays.len()).contains(&usize::from(hop)) =>
            {
                Self { hop, code: refusal.code }
            }
            Reply::RefusedOnward { .. }
            | Reply::Done
            | Reply::FlowReady { .. }
            | Reply::StreamReady { .. }
            | Reply::KnockHere { .. }
            | Reply::SeenAt { .. }
            | Reply::Here { .. } => Self::by_the_asked(RefusalCode::Malformed),
        }
    }
}

impl From<Refusal> for OnwardRefused {
    fn from(refusal: Refusal) -> Self {
        Self::by_the_asked(refusal.code)
    }
}

/// Asks the relay of a hop connection for a flow between this socket and whatever is left of
/// the path.
pub(crate) async fn set_up_onward(
    mesh: &Arc<Mesh>,
    (relay, hop): (NodeId, Hop),
    onward: Onward,
    from: &impl NearSocket,
) -> Result<RelayedFlow, OnwardRefused> {
    let limit = reply_time(&onward);
    let (from_port, hop_port) = (from.port(), Some(mesh.knocker.port()));
    let request = Request::SetUpFlowOnward { onward: onward.clone(), from_port, hop_port };
    match ask_for_flow(&hop, &request, limit, from).await? {
        Reply::FlowReady { flow, port } => {
            let address = SocketAddr::new(hop.0.remote_address().ip(), port);
            Ok(RelayedFlow { mesh: mesh.clone(), hop, flow, relay, address })
        }
        reply => Err(OnwardRefused::answered(&onward, reply)),
    }
}

/// The same for a stream.
pub(crate) async fn set_up_stream_onward(
    mesh: &Arc<Mesh>,
    relay: NodeId,
    onward: Onward,
) -> Result<RelayedStream, OnwardRefused> {
    let limit = reply_time(&onward);
    let request = Request::SetUpStreamOnward { onward: onward.clone() };
    match ask_somehow(mesh, relay, &request, limit).await? {
        (Reply::StreamReady { ticket }, address) => Ok(RelayedStream { address, ticket }),
        (reply, _) => Err(OnwardRefused::answered(&onward, reply)),
    }
}

fn reply_time(onward: &Onward) -> Duration {
    onward.relays.iter().fold(HOP_REPLY_TIMEOUT, |so_far, _| so_far + ONWARD_REPLY_TIME)
}

#[cfg(test)]
mod tests {
    use rap_proto::{Lane, OrganizationId};

    use super::*;

    fn asked(relays: u128) -> Onward {
        Onward {
            relays: (1..=relays).map(NodeId::from_u128).collect(),
            target: NodeId::from_u128(9),
            lane: Lane::Bulk,
            organization: OrganizationId::from_u128(1),
        }
    }

    fn from(hop: u8) -> Reply {
        let refusal = Refusal::new(RefusalCode::NodeDraining, "a sentence of the other's own");
        Reply::RefusedOnward { hop, refusal }
    }

    #[test]
    fn a_refusal_names_nobody_beyond_the_path_that_was_asked_for() {
        let draining = |hop| OnwardRefused { hop, code: RefusalCode::NodeDraining };
        assert_eq!(OnwardRefused::answered(&asked(2), from(1)), draining(1));
        assert_eq!(OnwardRefused::answered(&asked(2), from(2)), draining(2));
        let malformed = OnwardRefused { hop: 0, code: RefusalCode::Malformed };
        for (relays, hop) in [(2, 0), (2, 3), (2, u8::MAX), (0, 1)] {
            assert_eq!(OnwardRefused::answered(&asked(relays), from(hop)), malformed);
        }
        assert_eq!(OnwardRefused::answered(&asked(1), Reply::Done), malformed);
        let here = Reply::Refused(refusal(RefusalCode::LimitReached));
        let limit = OnwardRefused { hop: 0, code: RefusalCode::LimitReached };
        assert_eq!(OnwardRefused::answered(&asked(1), here), limit);
    }

    #[test]
    fn each_relay_on_the_way_back_adds_one_and_says_the_codes_own_sentence() {
        let said = OnwardRefused { hop: 1, code: RefusalCode::NodeDraining }.onward();
        let refusal = refusal(RefusalCode::NodeDraining);
        assert_eq!(said, Reply::RefusedOnward { hop: 2, refusal });
    }

    #[test]
    fn whoever_is_nearer_to_the_end_gives_up_sooner() {
        assert!(reply_time(&asked(0)) < reply_time(&asked(1)));
        assert!(reply_time(&asked(1)) < reply_time(&asked(2)));
    }
}
