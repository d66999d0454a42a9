//! In which order relays are tried: [`Decisions`], for whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    View, paths,
    score::{
        Candidate, ChannelClass, Decisions, Way,
        decisions::Asked,
        renewals::{Interest, Interests},
    },
};
use rap_proto::{NodeId, Timestamp};
use tokio::sync::Notify;

pub(crate) use rap_mesh_core::score::relays::Use;

use crate::{lanes::LaneKey, mesh::locked};

#[derive(Default)]
pub(crate) struct RelayOrders(Mutex<Orders>);

#[derive(Default)]
struct Orders {
    decisions: Decisions,
    interests: Interests,
    /// Of the lanes that ever were the last.
    last_lane: u64,
    /// By their numbers, those that are.
    notices: BTreeMap<u64, Arc<Notify>>,
    /// How often something else was known.
    renewals: u64,
}

/// A lane that is told of what concerns it.
pub(crate) struct Listener {
    lane: u64,
    notice: Arc<Notify>,
    /// The renewals that it saw when it last began to look.
    seen: u64,
}

impl RelayOrders {
    /// Takes what is known of peers from now on, and tells the lanes that this concerns.
    pub(crate) fn know(&self, known: BTreeMap<NodeId, Candidate<'static>>, now: Timestamp) {
        let orders = &mut *locked(&self.0);
        if !orders.decisions.know(known) {
            return;
        }
        let changes = orders.decisions.follow(now);
        orders.renewals += 1;
        for lane in orders.interests.concerned(&changes) {
            orders.notices.get(&lane).into_iter().for_each(|notice| notice.notify_one());
        }
    }

    /// One more lane. It has to be let go by [`Self::leave`].
    pub(crate) fn listen(&self) -> Listener {
        let orders = &mut *locked(&self.0);
        orders.last_lane += 1;
        let (lane, notice) = (orders.last_lane, Arc::new(Notify::new()));
        orders.notices.insert(lane, notice.clone());
        Listener { lane, notice, seen: orders.renewals }
    }

    pub(crate) fn leave(&self, listener: &Listener) {
        let orders = &mut *locked(&self.0);
        orders.interests.forget(listener.lane);
        orders.notices.remove(&listener.lane);
    }

    /// To be called before the lane asks for its ways.
    pub(crate) fn begin_look(&self, listener: &mut Listener) {
        listener.seen = locked(&self.0).renewals;
    }

    /// What the lane rests on, as far as it has seen.
    pub(crate) fn heed(&self, listener: &Listener, interest: Interest) {
        let orders = &mut *locked(&self.0);
        orders.interests.heed(listener.lane, interest);
        if orders.renewals > listener.seen {
            // What came meanwhile was held against what the lane rested on before.
            listener.notice.notify_one();
        }
    }

    /// The relays, and chains of them, by which a lane could reach its egress, best first.
    pub(crate) fn order(
        &self,
        view: &Arc<View>,
        purpose: Use,
        key: LaneKey,
        now: Timestamp,
    ) -> Vec<paths::Candidate> {
        self.ways(view, purpose, key, now).into_iter().map(|way| way.path).collect()
    }

    /// The same with what they are worth.
    pub(crate) fn ways(
        &self,
        view: &Arc<View>,
        purpose: Use,
        key: LaneKey,
        now: Timestamp,
    ) -> Vec<Way> {
        let LaneKey { egress: target, organization, lane } = key;
        let class = ChannelClass::of_lane(lane);
        let asked = Asked { target, organization, class, purpose };
        locked(&self.0).decisions.ways(view, asked, now).to_vec()
    }
}

impl Listener {
    /// Waits until something concerns the lane.
    pub(crate) async fn concerned(&self) {
        self.notice.notified().await;
    }
}

#[cfg(test)]
mod tests;
