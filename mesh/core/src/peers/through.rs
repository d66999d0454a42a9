//! Whether a relay forwards. It can be there, answer every heartbeat, and pass nothing on: only a
//! flow that is really set up through it, and answered by whoever it leads to, shows the difference.
//!
//! One probe that fails may be its target's fault. It counts against the relay when the target is
//! known to be there, or when a second target cannot be reached either.

use std::{collections::BTreeSet, time::Duration};

use rap_proto::{Moment, NodeId, NodeRole};

use super::{Effect, PeerBook, spread::Spread};
use crate::admission::{scopes, share_an_organization};

/// How long a probe through a relay may take: set-up, and a handshake over it.
pub const THROUGH_LIMIT: Duration = Duration::from_secs(5);
/// How soon a relay that became active or warm is probed through.
pub const THROUGH_SOON: Duration = Duration::from_secs(3);
/// How soon a probe that failed is followed by the next one.
pub const THROUGH_RETRY: Duration = Duration::from_secs(5);
/// So many failures in a row, and the relay counts as one that swallows.
pub const FAILURES_TO_BREAK: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Unknown,
    Works,
    Broken,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Through {
    state: State,
    asked: Option<(NodeId, Moment)>,
    next: Option<Moment>,
    failures: u8,
    failed: BTreeSet<NodeId>,
    turn: usize,
}

impl Through {
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether it forwards; `None` before the first probe.
    pub(super) fn forwards(&self) -> Option<bool> {
        match self.state {
            State::Unknown => None,
            State::Works => Some(true),
            State::Broken => Some(false),
        }
    }

    pub(super) fn begin(&mut self, now: Moment, spread: &mut Spread) {
        if self.next.is_none() && self.asked.is_none() {
            self.next = Some(now + spread.around(THROUGH_SOON, 50));
        }
    }

    /// Nobody looks at it any more, so what it did before says little of what it does.
    pub(super) fn stop(&mut self) {
        self.asked = None;
        self.next = None;
        if self.state == State::Works {
            self.state = State::Unknown;
        }
    }

    pub(super) fn overdue(&self, now: Moment) -> Option<NodeId> {
        self.asked.filter(|(_, until)| *until <= now).map(|(target, _)| target)
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.asked.map(|(_, until)| until).or(self.next)
    }
}

impl PeerBook {
    /// Probes through a relay, when that is due.
    pub(super) fn probe_through(&mut self, now: Moment, relay: NodeId) {
        let Some(peer) = self.peers.get(&relay) else { return };
        if peer.through.asked.is_some() || peer.through.next.is_none_or(|at| now < at) {
            return;
        }
        let targets = self.targets(relay);
        let probe = self.spread.around(self.policy.probe, 20);
        let Some(peer) = self.peers.get_mut(&relay) else { return };
        let through = &mut peer.through;
        through.turn = through.turn.wrapping_add(1);
        // Whoever could not be reached is asked again when there is nobody else.
        let fresh: Vec<NodeId> =
            targets.iter().copied().filter(|node| !through.failed.contains(node)).collect();
        let pool = if fresh.is_empty() { &targets } else { &fresh };
        match pool.get(through.turn % pool.len().max(1)) {
            Some(target) => {
                through.next = None;
                through.asked = Some((*target, now + THROUGH_LIMIT));
                self.say(Effect::ProbeThrough { relay, target: *target });
            }
            None => through.next = Some(now + probe),
        }
    }

    pub(super) fn through(
        &mut self,
        now: Moment,
        relay: NodeId,
        target: NodeId,
        rtt_us: Option<u32>,
    ) {
        let lately = self.policy.probe.saturating_mul(2);
        let there = self.peers.get(&target).and_then(|peer| peer.reached_at);
        let there = there.is_some_and(|at| now.since(at) <= lately);
        let next = now + self.spread.around(self.policy.probe, 20);
        let Some(peer) = self.peers.get_mut(&relay) else { return };
        let through = &mut peer.through;
        if through.asked.take_if(|(asked, _)| *asked == target).is_none() {
            return;
        }
        if rtt_us.is_some() {
            let was_broken = std::mem::replace(&mut through.state, State::Works) == State::Broken;
            through.failures = 0;
            through.failed.clear();
            through.next = Some(next);
            if was_broken {
                peer.forwards_again();
            }
            if let Some(peer) = self.peers.get_mut(&target) {
                peer.reached_at = Some(now);
            }
            return;
        }
        through.failures = through.failures.saturating_add(1);
        if through.failed.len() < usize::from(FAILURES_TO_BREAK) {
            through.failed.insert(target);
        }
        let charged = there || through.failed.len() > 1;
        if through.failures >= FAILURES_TO_BREAK && charged {
            through.state = State::Broken;
            through.failures = 0;
            through.failed.clear();
            through.next = Some(next);
            peer.swallows(now);
            self.leave(now, relay);
        } else {
            through.next = Some(now + THROUGH_RETRY);
        }
    }

    /// A relay that swallows is nobody's peer, unless there is no other to hold on to.
    fn leave(&mut self, now: Moment, relay: NodeId) {
        let others = self.active.iter().any(|other| *other != relay && self.peers[other].up);
        if others {
            self.fail(now, relay);
        }
    }

    /// Whom this node could reach through a relay, by id: only an entry is led on.
    fn targets(&self, relay: NodeId) -> Vec<NodeId> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let own: Vec<_> = scopes(&directory.own_roles, NodeRole::EntryNode).collect();
        let Some(relay) = self.peers.get(&relay) else { return Vec::new() };
        let leads = |target: &super::peer::Peer| {
            scopes(&relay.candidate.roles, NodeRole::RelayNode).any(|over| {
                scopes(&target.candidate.roles, NodeRole::StreamWorker)
                    .any(|to| own.iter().any(|from| share_an_organization([over, from, to])))
            })
        };
        self.peers
            .iter()
            .filter(|(node, target)| **node != relay.candidate.node && leads(target))
            .map(|(node, _)| *node)
            .collect()
    }
}
