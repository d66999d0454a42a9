//! What the status report says of peers.

use std::{cmp::Reverse, collections::BTreeMap};

use rap_mesh_core::{
    peers::{Availability, Class, PeerBook, PeerStatus},
    score::Finding,
};
use rap_proto::Moment;

use crate::board::{PeerReport, PeersStatus};

/// The most peers that a report shows.
pub(crate) const MAX_SHOWN: usize = 256;

pub(crate) fn peers_status(
    book: &PeerBook,
    now: Moment,
    steps: &BTreeMap<String, u64>,
) -> PeersStatus {
    let standing = book.standing();
    let mut peers = book.status(now);
    // Within each class they come by their score already.
    peers.sort_by_key(|peer| (peer.class, Reverse(peer.up)));
    peers.truncate(MAX_SHOWN);
    PeersStatus {
        availability: match standing.availability {
            Availability::Available => "available",
            Availability::Degraded => "degraded",
            Availability::Unavailable => "unavailable",
        }
        .to_owned(),
        recovery: standing.recovery.map(|step| step.as_str().to_owned()),
        recovery_steps: steps.clone(),
        active: standing.active,
        warm: standing.warm,
        cold: standing.cold,
        peers: peers.into_iter().map(peer_report).collect(),
    }
}

fn peer_report(peer: PeerStatus) -> PeerReport {
    let (score, excluded_by, parts) = match peer.finding {
        Finding::Excluded(constraint) => (None, Some(constraint.as_str()), BTreeMap::new()),
        Finding::Scored { total, parts } => {
            let parts = parts.iter().map(|(part, value)| (part.as_str().to_owned(), value));
            (Some(total), None, parts.collect())
        }
    };
    PeerReport {
        node: peer.node,
        class: match peer.class {
            Class::Active => "active",
            Class::Warm => "warm",
            Class::Cold => "cold",
        }
        .to_owned(),
        is_relay: peer.is_relay,
        up: peer.up,
        resting: peer.resting,
        forwards: peer.forwards,
        score,
        excluded_by: excluded_by.map(str::to_owned),
        parts,
        rtt_us: peer.measured.rtt_us,
        loss_ppm: peer.measured.loss_ppm,
        failures: peer.measured.failures,
    }
}
