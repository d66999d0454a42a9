//! In which order relays are tried: [`Decisions`], for whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    View, paths,
    score::{Candidate, ChannelClass, Decisions, Way, decisions::Asked},
};
use rap_proto::{NodeId, Timestamp};
use tokio::sync::watch;

pub(crate) use rap_mesh_core::score::relays::Use;

use crate::{lanes::LaneKey, mesh::locked};

#[derive(Default)]
pub(crate) struct RelayOrders {
    decisions: Mutex<Decisions>,
    renewed: watch::Sender<()>,
}

impl RelayOrders {
    /// Takes what is known of peers from now on.
    pub(crate) fn know(&self, known: BTreeMap<NodeId, Candidate<'static>>) {
        if locked(&self.decisions).know(known) {
            self.renewed.send_replace(());
        }
    }

    /// Hears when something else is known of peers.
    pub(crate) fn renewals(&self) -> watch::Receiver<()> {
        self.renewed.subscribe()
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
