//! Promotions and demotions: who becomes active, who has to make room, and who is looked at next.

use std::{cmp::Reverse, time::Duration};

use rap_proto::{Moment, NodeId};

use super::{Class, Effect, Hysteresis, MAX_PARALLEL, PeerBook, PeerPolicy, peer::Peer};
use crate::score::{Identity, Ranked, rank};

/// How many cold peers are asked in one review, while there is room among the warm; and how many beside
/// them of the relays that some organization is without.
pub const COLD_PER_REVIEW: usize = 2;
/// How soon a lack is looked at; spread by half, so that a fleet does not move as one.
const SOON: Duration = Duration::from_millis(500);

impl PeerBook {
    pub(super) fn review(&mut self, now: Moment) {
        if self.recovery.is_some() {
            return;
        }
        self.forget(now);
        self.trim(now);
        self.fill(now);
        self.swap(now);
        self.look_further(now);
    }

    /// Takes another policy; whoever is too many under it goes at once, the worst first. Whoever is
    /// missing under it is found in a review soon.
    pub(super) fn obey(&mut self, now: Moment, policy: PeerPolicy) {
        let is_other = self.policy != policy;
        self.policy = policy;
        if self.directory.is_none() {
            return;
        }
        if is_other {
            self.look_again(now);
        }
        for (class, most) in
            [(Class::Active, policy.counts.most_active), (Class::Warm, policy.counts.most_warm)]
        {
            let of_class = if class == Class::Active { &self.active } else { &self.warm };
            let nodes: Vec<NodeId> = of_class.iter().copied().collect();
            let stay = self.best_with_relays(now, &nodes, most);
            for node in nodes.iter().filter(|node| stay.iter().all(|one| one.node != **node)) {
                self.set_class(now, *node, Class::Cold);
            }
        }
    }

    /// The best of them, with the relays that places are kept for.
    fn best_with_relays(&self, now: Moment, nodes: &[NodeId], most: usize) -> Vec<Ranked> {
        let (relays, others): (Vec<_>, Vec<_>) =
            nodes.iter().copied().partition(|node| self.peers[node].leads());
        let mut stay = self.best(now, &relays, most.min(self.policy.counts.relays));
        let further = relays.into_iter().filter(|node| stay.iter().all(|one| one.node != *node));
        let rest: Vec<NodeId> = further.chain(others).collect();
        stay.extend(self.best(now, &rest, most - stay.len()));
        stay
    }

    /// The next review comes soon: something changed.
    pub(super) fn look_again(&mut self, now: Moment) {
        self.review_at = self.review_at.min(now + self.spread.around(SOON, 50));
    }

    /// Failures fade; and a certificate that is over says nothing of the one that a peer has now.
    pub(super) fn forget(&mut self, now: Moment) {
        let calendar = self.calendar_at(now);
        for peer in self.peers.values_mut() {
            peer.forget_failures(now);
            let ended = peer.candidate.certificate_until.is_some_and(|until| until < calendar);
            if ended && !peer.up {
                peer.candidate.certificate_until = None;
                peer.candidate.identity = Identity::Listed;
            }
        }
    }

    /// Makes a peer active, unless there are as many as there may be.
    pub(super) fn promote(&mut self, now: Moment, node: NodeId) {
        if self.active.len() >= self.policy.counts.most_active {
            return;
        }
        self.set_class(now, node, Class::Active);
        self.ask(now, node);
    }

    pub(super) fn set_class(&mut self, now: Moment, node: NodeId, class: Class) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.class == class {
            return;
        }
        let was = std::mem::replace(&mut peer.class, class);
        peer.since = now;
        peer.up = false;
        peer.better = 0;
        peer.misses = 0;
        peer.asked_until = None;
        peer.ask_at = None;
        self.active.remove(&node);
        self.warm.remove(&node);
        self.asked.remove(&node);
        match class {
            Class::Active => {
                self.active.insert(node);
            }
            Class::Warm => {
                self.warm.insert(node);
                peer.ask_at = Some(now + self.spread.around(self.policy.probe, 20));
            }
            Class::Cold => peer.through.stop(),
        }
        if class != Class::Cold && peer.is_relay() {
            peer.through.begin(now, &mut self.spread);
        }
        if was == Class::Active {
            self.say(Effect::Release { node });
        }
    }

    /// The best of these, best first.
    pub(super) fn best(&self, now: Moment, nodes: &[NodeId], most: usize) -> Vec<Ranked> {
        let candidates = nodes.iter().map(|node| &self.peers[node].candidate);
        rank(&self.company(now), self.company_weights(), candidates, most)
    }

    /// Once a newcomer proved itself, the worst of those who had their time goes.
    fn trim(&mut self, now: Moment) {
        let up: Vec<NodeId> =
            self.active.iter().copied().filter(|node| self.peers[node].up).collect();
        if up.len() <= self.policy.counts.aim() {
            return;
        }
        let hysteresis = self.policy.hysteresis;
        // Whoever sits in a relay's place has no time of his own.
        let tenure = if self.lacks_relays() { Duration::ZERO } else { hysteresis.tenure };
        if let Some(worst) = self.worst(now, tenure, self.spare_relay()) {
            if let Some(peer) = self.peers.get_mut(&worst.node) {
                peer.rest(now, &hysteresis);
            }
            if !self.warm_up(now, worst.node) {
                self.set_class(now, worst.node, Class::Cold);
            }
        }
    }

    /// The relays' places first, then the others.
    fn fill(&mut self, now: Moment) {
        let (relays, _) = self.eligible_by_use(now);
        for ranked in self.best(now, &relays, self.lacking_relays().min(self.unasked())) {
            self.promote(now, ranked.node);
        }
        let want = self.policy.counts.aim().saturating_sub(self.active.len());
        for ranked in self.best(now, &self.eligible(now), want.min(self.unasked())) {
            self.promote(now, ranked.node);
        }
    }

    /// How many more may be asked at once.
    fn unasked(&self) -> usize {
        let waiting = self.active.iter().filter(|node| !self.peers[*node].up).count();
        MAX_PARALLEL.saturating_sub(waiting)
    }

    /// A warm peer that stays better than the worst active one gets the chance to replace it.
    fn swap(&mut self, now: Moment) {
        let hysteresis = self.policy.hysteresis;
        let challenger = self.challenger(now);
        for node in self.warm.clone() {
            if let Some(peer) = self.peers.get_mut(&node) {
                let counted = peer.better.saturating_add(1);
                peer.better = if challenger == Some(node) { counted } else { 0 };
            }
        }
        if let Some(node) = challenger
            && self.peers[&node].better >= hysteresis.confirmations
            && self.swap_after <= now
        {
            self.swap_after = now + self.spread.around(hysteresis.pause, 20);
            self.promote(now, node);
        }
    }

    /// Who is better by the margin than somebody whose place he could take, the one who gains most.
    fn challenger(&self, now: Moment) -> Option<NodeId> {
        let Hysteresis { margin, tenure, .. } = self.policy.hysteresis;
        let counts = self.policy.counts;
        if self.active.len() < counts.aim() || self.active.len() >= counts.most_active {
            return None;
        }
        let (relays, others) = self.eligible_by_use(now);
        // A relay more makes another one's place free.
        let of_relays = (relays, self.active_relays() >= counts.relays);
        let of_others = (others, self.spare_relay());
        let gains = [of_relays, of_others].into_iter().filter_map(|(nodes, relays_too)| {
            let best = self.best(now, &nodes, 1).first().copied()?;
            let worst = self.worst(now, tenure, relays_too)?;
            let gain = best.total.checked_sub(worst.total)?;
            (gain >= margin).then_some((gain, Reverse(best.node)))
        });
        gains.max().map(|(_, Reverse(node))| node)
    }

    /// Asks some cold peers, so that there are warm ones when they are needed.
    fn look_further(&mut self, now: Moment) {
        let lacking = self.is_lacking();
        // Whoever has too few takes anybody.
        let seeks_relays = !lacking && self.seeks_relays();
        let room = self.warm.len() < self.policy.counts.most_warm;
        let most = if lacking { MAX_PARALLEL } else { COLD_PER_REVIEW };
        let most = most.saturating_sub(self.asked.len());
        // Whoever has too few does not wait for long rests to end.
        let rested = |peer: &Peer| !peer.is_resting(now) || lacking && self.rested_once(now, peer);
        let sought = |peer: &Peer| seeks_relays && peer.leads();
        let mut next = Vec::new();
        if seeks_relays {
            next = self.coldest_last(most, |peer| sought(peer) && rested(peer));
        }
        if room {
            let left = most - next.len();
            next.extend(self.coldest_last(left, |peer| !sought(peer) && rested(peer)));
        }
        next.extend(self.missed_relays(now, &next));
        for node in next {
            self.ask(now, node);
        }
    }

    /// Cold relays of scopes for which none near leads, beside those that are asked as it is. They do
    /// not wait for long rests to end either: what made them fail may have been on the way to all of
    /// them.
    fn missed_relays(&self, now: Moment, asked: &[NodeId]) -> Vec<NodeId> {
        let missed = self.missed_scopes(None);
        if missed.is_empty() {
            return Vec::new();
        }
        let left = MAX_PARALLEL.saturating_sub(self.asked.len() + asked.len());
        self.coldest_last(left.min(COLD_PER_REVIEW), |peer| {
            missed.iter().any(|scope| peer.is_relay_for(*scope))
                && (!peer.is_resting(now) || self.rested_once(now, peer))
                && !asked.contains(&peer.candidate.node)
        })
    }

    /// Whether the first rest would be over.
    fn rested_once(&self, now: Moment, peer: &Peer) -> bool {
        now.since(peer.rests_since) >= self.policy.hysteresis.first_rest
    }

    fn is_lacking(&self) -> bool {
        self.active.len() < self.policy.counts.least_active
    }

    /// Cold peers that nobody waits for: those that failed least first, so that in the end all have
    /// their turn, and of these the ones that answered most lately.
    pub(super) fn coldest_last(&self, most: usize, wanted: impl Fn(&Peer) -> bool) -> Vec<NodeId> {
        let mut cold: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| {
                peer.class == Class::Cold && peer.asked_until.is_none() && wanted(peer)
            })
            .map(|(node, peer)| {
                let lately = Reverse(peer.last_success_at);
                (peer.through.is_broken(), peer.rests, lately, peer.place, *node)
            })
            .collect();
        if most < cold.len() {
            cold.select_nth_unstable(most);
            cold.truncate(most);
        }
        cold.sort_unstable();
        cold.into_iter().map(|(.., node)| node).collect()
    }

    /// The warm peers that may be promoted: rested, and not known to swallow what they forward.
    fn eligible(&self, now: Moment) -> Vec<NodeId> {
        let lacking = self.is_lacking();
        let may = |node: &NodeId| {
            let peer = &self.peers[node];
            !peer.through.is_broken() && (lacking || !peer.is_resting(now))
        };
        self.warm.iter().copied().filter(may).collect()
    }

    /// The same, relays and others apart.
    fn eligible_by_use(&self, now: Moment) -> (Vec<NodeId>, Vec<NodeId>) {
        self.eligible(now).into_iter().partition(|node| self.peers[node].leads())
    }

    /// The worst active peer that had its time; a relay only if it may be one.
    fn worst(&self, now: Moment, tenure: Duration, relays_too: bool) -> Option<Ranked> {
        let may_go = |node: &NodeId| {
            let peer = &self.peers[node];
            peer.up && now.since(peer.since) >= tenure && (relays_too || !peer.leads())
        };
        let nodes: Vec<NodeId> = self.active.iter().copied().filter(may_go).collect();
        self.best(now, &nodes, usize::MAX).last().copied()
    }
}
