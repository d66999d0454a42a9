//! What may carry a lane, and what that is worth.

use std::{collections::BTreeMap, sync::Arc};

use rap_mesh_core::{
    View,
    lane_path::{Worth, keeping},
    paths::{Candidate, PathBook},
    score::{
        ChannelClass, Way,
        renewals::{Interest, Pace},
    },
};

use super::LaneKey;
use crate::{
    mesh::Mesh,
    relays::{Listener, Use},
};

#[derive(Default)]
pub(super) struct Offers {
    /// The best first: direct paths, then relays in the order in which they would be dialled.
    pub(super) candidates: Vec<Candidate>,
    pub(super) worths: BTreeMap<Candidate, Worth>,
    /// What all of this rests on, where there is anything.
    pub(super) interest: Option<Interest>,
}

/// For a lane that has these `open` over relays.
pub(super) fn offers(mesh: &Mesh, view: &Arc<View>, key: LaneKey, open: &[Candidate]) -> Offers {
    if view.must_stop(mesh.clock.now()) {
        return Offers::default();
    }
    let addresses = view.direct_to(key.egress);
    let ways = mesh.relays.ways(view, Use::Running, key, mesh.clock.now());
    let worths = ways.iter().map(|way| (way.path, worth(view, way))).collect();
    let now = mesh.clock.moment();
    // What failed for others is tried again here: probes along it cost little.
    let plan = PathBook::default().plan(now, key.egress, addresses, ways.iter().copied());
    let mut candidates: Vec<Candidate> =
        plan.into_iter().map(|attempt| attempt.candidate).collect();
    candidates.sort_by_key(Candidate::is_relayed);
    let question = (key.organization, ChannelClass::of_lane(key.lane));
    let interest = Some(Interest::of(question, &ways, &candidates, open));
    Offers { candidates, worths, interest }
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
            view.may_lead_over(relays, key.organization, key.lane) && !relays.contains(&key.egress)
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

/// Other measurements that concern the lane, told now and then.
pub(super) struct Renewals {
    mesh: Arc<Mesh>,
    listener: Listener,
    pace: Pace,
}

impl Renewals {
    pub(super) fn of(mesh: &Arc<Mesh>) -> Self {
        let listener = mesh.relays.listen();
        Self { mesh: mesh.clone(), listener, pace: Pace::new(mesh.network.seed()) }
    }

    /// Waits for some; may be asked anew at any time.
    pub(super) async fn next(&mut self, hurries: bool) {
        let clock = self.mesh.clock;
        if self.pace.due(hurries).is_none() {
            self.listener.concerned().await;
            self.pace.concerned(clock.moment());
        }
        clock.until(self.pace.due(hurries)).await;
    }

    /// To be called before the offers are looked at …
    pub(super) fn begin_look(&mut self) {
        self.mesh.relays.begin_look(&mut self.listener);
    }

    /// … and this after it.
    pub(super) fn looked(&mut self, interest: Option<Interest>) {
        self.pace.looked(self.mesh.clock.moment());
        if let Some(interest) = interest {
            self.mesh.relays.heed(&self.listener, interest);
        }
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        self.mesh.relays.leave(&self.listener);
    }
}
