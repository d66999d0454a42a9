//! What the status report says of peers.

use std::{cmp::Reverse, collections::BTreeMap};

use rap_mesh_core::{
    peers::{Availability, Class, PeerBook, PeerPolicy, PeerStatus},
    score::{ChannelClass, Finding},
};
use rap_proto::{Lane, Moment};

use crate::board::{PeerCount, PeerPolicyReport, PeerReport, PeersStatus};

/// The most peers that a report shows.
pub(crate) const MAX_SHOWN: usize = 256;

pub(crate) fn peers_status(
    book: &PeerBook,
    now: Moment,
    steps: &BTreeMap<String, u64>,
) -> PeersStatus {
    let standing = book.standing();
    let mut peers = book.status(now);
    let counts = counts(&peers);
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
        counts,
        policy: policy(book.policy()),
        peers: peers.into_iter().map(peer_report).collect(),
    }
}

fn policy(PeerPolicy { counts, weights, .. }: &PeerPolicy) -> PeerPolicyReport {
    let weighed = |lane: &Lane| {
        let class = ChannelClass::of_lane(*lane);
        let parts = weights.weights(class).iter();
        (class.to_string(), parts.map(|(part, weight)| (part.to_string(), weight)).collect())
    };
    PeerPolicyReport {
        least_active: counts.least_active,
        most_active: counts.most_active,
        most_warm: counts.most_warm,
        weights: Lane::ALL.iter().map(weighed).collect(),
    }
}

fn counts(peers: &[PeerStatus]) -> Vec<PeerCount> {
    let mut counts: BTreeMap<(Class, bool), PeerCount> = BTreeMap::new();
    for peer in peers {
        let (class, is_relay) = (class(peer.class).to_owned(), peer.is_relay);
        let none = PeerCount { class, is_relay, count: 0, up: 0, resting: 0 };
        let count = counts.entry((peer.class, is_relay)).or_insert(none);
        count.count += 1;
        count.up += u64::from(peer.up);
        count.resting += u64::from(peer.resting);
    }
    counts.into_values().collect()
}

const fn class(class: Class) -> &'static str {
    match class {
        Class::Active => "active",
        Class::Warm => "warm",
        Class::Cold => "cold",
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
        class: class(peer.class).to_owned(),
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
