//! What may carry a lane, and what that is worth.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rap_mesh_core::{
    View,
    lane_path::{Worth, keeping},
    paths::{Candidate, PathBook},
    score::Way,
};
use rap_proto::Moment;
use tokio::sync::watch;

use super::LaneKey;
use crate::{clock::Clock, mesh::Mesh, relays::Use};

/// A lane looks at other measurements at most so often: they come one by one, and each would put all
/// of its ways in order.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Offers {
    /// The best first: direct paths, then relays in the order in which they would be dialled.
    pub(super) candidates: Vec<Candidate>,
    pub(super) worths: BTreeMap<Candidate, Worth>,
}

pub(super) fn offers(mesh: &Mesh, view: &Arc<View>, key: LaneKey) -> Offers {
    if view.must_stop(mesh.clock.now()) {
        return Offers::default();
    }
    let addresses = view.peer(key.egress).map_or(&[][..], |peer| &peer.addresses);
    let ways = mesh.relays.ways(view, Use::Running, key, mesh.clock.now());
    let worths = ways.iter().map(|way| (way.path, worth(view, way))).collect();
    let now = mesh.clock.moment();
    // What failed for others is tried again here: probes along it cost little.
    let plan = PathBook::default().plan(now, key.egress, addresses, ways);
    let mut candidates: Vec<Candidate> =
        plan.into_iter().map(|attempt| attempt.candidate).collect();
    candidates.sort_by_key(Candidate::is_relayed);
    Offers { candidates, worths }
}

impl Offers {
    /// Keeps what is open and what the view still allows, however many others are worth more. What
    /// drains is known to drain, although it is none of the ways any more.
    pub(super) fn keep(&mut self, mesh: &Mesh, view: &View, key: LaneKey, open: &[Candidate]) {
        if view.must_stop(mesh.clock.now()) {
            return;
        }
        let allowed = |one: &&Candidate| {
            let relays = one.relays();
            view.may_lead_over(relays, key.organization) && !relays.contains(&key.egress)
        };
        let kept: Vec<Candidate> = open.iter().filter(allowed).copied().collect();
        for one in kept.iter().filter(|one| drains(view, one)) {
            self.worths.entry(*one).or_insert(Worth { total: 0, drains: true });
        }
        self.candidates = keeping(std::mem::take(&mut self.candidates), &kept);
    }
}

fn worth(view: &View, way: &Way) -> Worth {
    Worth { total: way.total, drains: drains(view, &way.path) }
}

fn drains(view: &View, path: &Candidate) -> bool {
    path.relays().iter().any(|relay| view.is_draining(*relay))
}

/// Other measurements, told now and then.
pub(super) struct Renewals {
    renewals: watch::Receiver<()>,
    next_look: Option<Moment>,
}

impl Renewals {
    pub(super) fn of(mesh: &Mesh) -> Self {
        Self { renewals: mesh.relays.renewals(), next_look: None }
    }

    /// Waits for some; may be asked anew at any time.
    pub(super) async fn next(&mut self, clock: Clock) {
        if self.next_look.is_some() {
            clock.until(self.next_look).await;
        }
        if self.renewals.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.next_look = Some(clock.moment() + LOOK_EVERY);
    }
}
