//! The places that are kept for relays. As company a relay may be worth less than others nearby; but
//! only one that is kept near is probed through, and what was not tried may swallow.

use rap_proto::{Moment, NodeId};

use super::{Class, PeerBook};

impl PeerBook {
    pub(super) fn active_relays(&self) -> usize {
        self.active.iter().filter(|node| self.peers[*node].leads()).count()
    }

    /// How many of the relays' places are empty, or somebody else's.
    pub(super) fn lacking_relays(&self) -> usize {
        self.policy.counts.relays.saturating_sub(self.active_relays())
    }

    pub(super) fn lacks_relays(&self) -> bool {
        self.lacking_relays() > 0
    }

    /// Whether there are more relays than places that are kept for them.
    pub(super) fn spare_relay(&self) -> bool {
        self.active_relays() > self.policy.counts.relays
    }

    /// Whether no relay is near that may forward.
    pub(super) fn has_no_relay(&self) -> bool {
        self.active_relays() + self.warm_relays() == 0
    }

    /// Whether relays are to be asked before others: too few are near.
    pub(super) fn seeks_relays(&self) -> bool {
        self.lacks_relays() || self.warm_relays() < self.policy.counts.relays
    }

    /// Makes a cold peer that answered warm, if there is room, or it is its to take.
    pub(super) fn warm_up(&mut self, now: Moment, node: NodeId) {
        if self.warm.len() >= self.policy.counts.most_warm {
            let Some(least) = self.gives_way_to(now, node) else { return };
            self.set_class(now, least, Class::Cold);
        }
        self.set_class(now, node, Class::Warm);
    }

    /// The worst warm peer that sits in a relay's place, when a relay comes.
    fn gives_way_to(&self, now: Moment, node: NodeId) -> Option<NodeId> {
        let places = self.policy.counts.relays;
        let comes = &self.peers[&node];
        let leads = comes.leads() || comes.is_relay() && self.has_no_relay();
        if !leads || self.warm_relays() >= places {
            return None;
        }
        let others: Vec<NodeId> =
            self.warm.iter().copied().filter(|warm| !self.peers[warm].leads()).collect();
        self.best(now, &others, usize::MAX).last().map(|worst| worst.node)
    }

    fn warm_relays(&self) -> usize {
        self.warm.iter().filter(|node| self.peers[*node].leads()).count()
    }
}
