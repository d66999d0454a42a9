//! In which order relays are tried: what the agent measured, and the orders that follow from it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rap_mesh_core::{
    View, paths,
    score::{
        Candidate, ChannelClass, Decisions, Policy, chains::ways, decisions::Asked,
        relays::RelayQuestion,
    },
};
use rap_proto::{NodeId, Timestamp};

pub(crate) use rap_mesh_core::score::relays::Use;

use crate::{lanes::LaneKey, mesh::locked};

#[derive(Default)]
pub(crate) struct RelayOrders {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    policy: Policy,
    known: BTreeMap<NodeId, Candidate<'static>>,
    /// What the decisions were made by.
    view: Option<Arc<View>>,
    decisions: Decisions,
}

impl RelayOrders {
    /// Takes what is known of peers from now on.
    pub(crate) fn know(&self, known: BTreeMap<NodeId, Candidate<'static>>) {
        let mut state = locked(&self.state);
        if state.known != known {
            state.known = known;
            state.decisions.forget();
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
        let LaneKey { egress: target, organization, lane } = key;
        let class = ChannelClass::of_lane(lane);
        let asked = Asked { target, organization, class, purpose };
        let mut state = locked(&self.state);
        let State { policy, known, view: held, decisions } = &mut *state;
        // Whoever still asks with the view before gets no order of this one, nor the other way round.
        if !held.as_ref().is_some_and(|held| Arc::ptr_eq(held, view)) {
            *held = Some(view.clone());
            decisions.forget();
        }
        if decisions.get(asked).is_none() {
            let question = RelayQuestion { view, known, policy, organization, class, purpose, now };
            let order = question.order(target);
            let chains = question.chains(&order);
            decisions.keep(asked, order);
            decisions.keep_chains(asked, chains);
        }
        ways(decisions.get(asked).unwrap_or_default(), decisions.chains(asked))
    }
}
