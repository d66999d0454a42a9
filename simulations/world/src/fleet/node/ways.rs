//! The ways that a node would lead somebody, and what it lets through when it is asked to.

use rap_mesh_core::{
    Caller,
    admission::{self, admit_onward, admit_set_up},
    paths::{Attempt, Candidate, Chain},
    score::{ChannelClass, decisions::Asked, relays::Use},
};
use rap_proto::{Lane, Moment, NodeId, wire::hop::Onward};

use super::{CLUSTER, Mutation, SimNode, calendar, id_of, index_of, key_of};
use crate::fleet::scope::ORGANIZATIONS;

/// Whom a relay sends to, and what it asks of that one if it is another relay.
pub enum Next {
    Relay(usize, Onward),
    Egress(usize),
}

impl Next {
    pub const fn index(&self) -> usize {
        match self {
            Self::Relay(index, _) | Self::Egress(index) => *index,
        }
    }
}

impl SimNode {
    /// The ways by which it would lead a session of an organization to `egress`, the best first.
    pub fn ways(&mut self, now: Moment, organization: usize, egress: usize) -> Vec<Candidate> {
        let (Some(book), Some(view)) = (&self.book, &self.view) else { return Vec::new() };
        let known = book.path_candidates().map(|candidate| (candidate.node, candidate));
        self.decisions.know(known.collect());
        let asked = Asked {
            target: id_of(egress),
            organization: ORGANIZATIONS[organization],
            class: ChannelClass::Interactive,
            purpose: Use::New,
        };
        let ways = self.decisions.ways(view, asked, calendar(now));
        let ways = ways.iter().map(|way| way.path).collect();
        self.mistaken(ways, organization)
    }

    /// Which of these it tries, in this order.
    pub fn plan(&self, now: Moment, egress: usize, ways: Vec<Candidate>) -> Vec<Attempt> {
        self.paths.plan(now, id_of(egress), &[], ways)
    }

    /// Whether its newest directory lets it lead an organization over these.
    pub fn may_lead(&self, organization: usize, relays: &[usize]) -> bool {
        let relays: Vec<NodeId> = relays.iter().copied().map(id_of).collect();
        let organization = ORGANIZATIONS[organization];
        self.view
            .as_ref()
            .is_some_and(|view| view.may_lead_over(&relays, organization, Lane::Interactive))
    }

    /// How an attempt ended.
    pub fn tried(&mut self, now: Moment, egress: usize, path: Candidate, is_up: bool) {
        if is_up {
            self.paths.succeeded(id_of(egress), path);
        } else {
            self.paths.failed(now, id_of(egress), path);
        }
    }

    /// As a relay: where it leads on what `asker` asks for, if it does. Whoever asks for one relay
    /// `alone` names no organization.
    pub fn passes_on(
        &self,
        now: Moment,
        asker: usize,
        asked: &Onward,
        alone: bool,
    ) -> Option<Next> {
        let (view, at) = (self.view.as_ref()?, calendar(now));
        let caller = Caller { cluster: CLUSTER, node: id_of(asker), key: key_of(asker) };
        if alone {
            let egress = admit_set_up(view, &caller, (asked.target, asked.lane), at).ok()?;
            return Some(Next::Egress(index_of(egress.node)));
        }
        Some(match admit_onward(view, &caller, asked, at).ok()? {
            admission::Next::Target(egress) => Next::Egress(index_of(egress.node)),
            admission::Next::Relay(relay, _) if self.planted(Mutation::HopsNotCounted) => {
                Next::Relay(index_of(relay.node), asked.clone())
            }
            admission::Next::Relay(relay, rest) => Next::Relay(index_of(relay.node), rest),
        })
    }

    /// What a node that is wrong about several relays in a row makes of its ways.
    fn mistaken(&self, ways: Vec<Candidate>, organization: usize) -> Vec<Candidate> {
        match self.mutation {
            Some(Mutation::ChainsForgotten) => {
                ways.into_iter().filter(|way| way.hops() < 2).collect()
            }
            Some(Mutation::OnwardMistaken) => {
                let strangers = self.relays_of_others(organization);
                let other = |way: Candidate| {
                    let chain = strangers.first().and_then(|stranger| match way {
                        Candidate::Chain(chain) => Chain::new(&[chain.first(), *stranger]),
                        _ => None,
                    });
                    chain.map_or(way, Candidate::Chain)
                };
                ways.into_iter().map(other).collect()
            }
            _ => ways,
        }
    }

    fn relays_of_others(&self, organization: usize) -> Vec<NodeId> {
        let Some(view) = &self.view else { return Vec::new() };
        let relays = view.peers().map(|peer| peer.node).filter(|node| view.is_relay(*node));
        let organization = ORGANIZATIONS[organization];
        relays
            .filter(|relay| !view.may_lead_over(&[*relay], organization, Lane::Interactive))
            .collect()
    }
}
