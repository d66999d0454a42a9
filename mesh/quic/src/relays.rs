//! In which order relays are tried: [`Decisions`], for whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    View, paths,
    score::{
        Candidate, ChannelClass, Decisions, Way,
        decisions::{Asked, Changes},
        renewals::{Audience, Interest, Listening},
    },
};
use rap_proto::{NodeId, Timestamp};
use tokio::sync::Notify;

pub(crate) use rap_mesh_core::score::relays::Use;

use crate::{lanes::LaneKey, mesh::locked};

/// Whoever asks for ways waits for nobody who is told of them, nor for measurements that are compared with
/// those before. Never are two of these locks held at once, but for `learning` and one of the others.
#[derive(Default)]
pub(crate) struct RelayOrders {
    /// Held from when it is known what is new until it is told.
    learning: Mutex<()>,
    decisions: Mutex<Decisions>,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    audience: Audience,
    /// By their numbers, those that listen.
    notices: BTreeMap<u64, Arc<Notify>>,
}

/// A lane that is told of what concerns it.
pub(crate) struct Listener {
    listening: Listening,
    notice: Arc<Notify>,
}

impl RelayOrders {
    /// Takes what is known of peers from now on, and tells the lanes that this concerns.
    pub(crate) fn know(&self, known: BTreeMap<NodeId, Candidate<'static>>, now: Timestamp) {
        let _one_at_a_time = locked(&self.learning);
        let before = locked(&self.decisions).known();
        let Some(learned) = before.learn(known) else { return };
        let changes = {
            let decisions = &mut *locked(&self.decisions);
            decisions.take(learned);
            decisions.follow(now)
        };
        self.tell(&changes);
    }

    /// Tells the lanes that are concerned. The ways that they ask for are others already.
    fn tell(&self, changes: &Changes) {
        let Listeners { audience, notices } = &mut *locked(&self.listeners);
        for lane in audience.renew(changes) {
            notices.get(&lane).into_iter().for_each(|notice| notice.notify_one());
        }
    }

    /// One more lane. It has to be let go by [`Self::leave`].
    pub(crate) fn listen(&self) -> Listener {
        let Listeners { audience, notices } = &mut *locked(&self.listeners);
        let (listening, notice) = (audience.listen(), Arc::new(Notify::new()));
        notices.insert(listening.lane, notice.clone());
        Listener { listening, notice }
    }

    pub(crate) fn leave(&self, listener: &Listener) {
        let Listeners { audience, notices } = &mut *locked(&self.listeners);
        audience.leave(listener.listening.lane);
        notices.remove(&listener.listening.lane);
    }

    /// To be called before the lane asks for its ways.
    pub(crate) fn begin_look(&self, listener: &mut Listener) {
        locked(&self.listeners).audience.begin_look(&mut listener.listening);
    }

    /// What the lane rests on, as far as it has seen.
    pub(crate) fn heed(&self, listener: &Listener, interest: Interest) {
        if locked(&self.listeners).audience.heed(&listener.listening, interest) {
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
        locked(&self.decisions).ways(view, asked, now).to_vec()
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
