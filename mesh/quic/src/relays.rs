//! In which order relays are tried: what the agent measured, and the orders that follow from it.

use std::{collections::BTreeMap, sync::Mutex};

use rap_mesh_core::{
    View,
    score::{Candidate, ChannelClass, Decisions, Policy, decisions::Asked, relays::RelayQuestion},
};
use rap_proto::{Lane, NodeId, OrganizationId, Timestamp};

use crate::mesh::locked;

#[derive(Default)]
pub(crate) struct RelayOrders {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    policy: Policy,
    known: BTreeMap<NodeId, Candidate>,
    decisions: Decisions,
}

impl RelayOrders {
    /// Takes what is known of peers from now on.
    pub(crate) fn know(&self, known: BTreeMap<NodeId, Candidate>) {
        let mut state = locked(&self.state);
        if state.known != known {
            state.known = known;
            state.decisions.forget();
        }
    }

    /// There is another view.
    pub(crate) fn forget(&self) {
        locked(&self.state).decisions.forget();
    }

    /// The relays by which a lane of `organization` could reach `target`, best first.
    pub(crate) fn order(
        &self,
        view: &View,
        target: NodeId,
        organization: OrganizationId,
        lane: Lane,
        now: Timestamp,
    ) -> Vec<NodeId> {
        let class = ChannelClass::of_lane(lane);
        let asked = Asked { target, organization, class };
        let mut state = locked(&self.state);
        let State { policy, known, decisions } = &mut *state;
        if decisions.get(asked).is_none() {
            let question = RelayQuestion { view, known, policy, organization, class, now };
            let order = question.order(target);
            decisions.keep(asked, order);
        }
        let order = decisions.get(asked).unwrap_or_default();
        order.iter().map(|ranked| ranked.node).collect()
    }
}
