//! Questions to peers, their answers, and what a missing answer means.

use std::time::Duration;

use rap_proto::{Moment, NodeId, Timestamp};

use super::{
    Class, Effect, Packets, PeerBook, Said,
    peer::{ANSWER_LIMIT, Peer},
};
use crate::score::Identity;

/// So many heartbeats in a row without an answer end an active peer's place.
pub const MISSES_TO_DEMOTE: u32 = 3;
/// So many probes in a row without an answer end a warm peer's.
pub const WARM_MISSES_TO_DEMOTE: u32 = 2;
/// How soon a heartbeat that was not answered is repeated.
pub const HEARTBEAT_RETRY: Duration = Duration::from_secs(1);
/// The same for a warm peer's probe.
pub const PROBE_RETRY: Duration = Duration::from_secs(5);

impl PeerBook {
    pub(super) fn ask(&mut self, now: Moment, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.asked_until = Some(now + ANSWER_LIMIT);
        let effect = match peer.class {
            Class::Active => Effect::Heartbeat { node },
            Class::Warm => Effect::Probe { node },
            Class::Cold => {
                self.asked.insert(node);
                Effect::Probe { node }
            }
        };
        self.say(effect);
    }

    pub(super) fn answered(
        &mut self,
        now: Moment,
        node: NodeId,
        answer: (u32, Option<Said>, Option<Packets>),
        certificate_until: Timestamp,
        at: Timestamp,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.candidate.identity = Identity::Proven;
        peer.candidate.certificate_until = Some(certificate_until);
        peer.answered(now, answer, at);
        self.asked.remove(&node);
        match peer.class {
            Class::Active => {
                peer.up = true;
                peer.ask_at = Some(now + self.spread.around(self.policy.heartbeat, 20));
                if now.since(peer.since) >= self.policy.hysteresis.tenure {
                    peer.forgive();
                }
            }
            Class::Warm => peer.ask_at = Some(now + self.spread.around(self.policy.probe, 20)),
            Class::Cold => {
                self.warm_up(now, node);
            }
        }
        // Whoever answers a node that has nobody is not made to wait.
        let class = self.peers[&node].class;
        if self.recovery.is_some() && class != Class::Active {
            self.promote(now, node);
        }
        self.changed(now);
    }

    pub(super) fn missed(&mut self, now: Moment, node: NodeId) {
        let others = self.active.iter().any(|other| *other != node && self.peers[other].up);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.asked_until.is_none() {
            return;
        }
        peer.missed();
        self.asked.remove(&node);
        let (misses, up) = (peer.misses, peer.up);
        match peer.class {
            Class::Active if up && misses < MISSES_TO_DEMOTE => {
                peer.ask_at = Some(now + HEARTBEAT_RETRY);
            }
            // The last one is tried once more, as the first step of recovery.
            Class::Active if up && !others => peer.up = false,
            Class::Warm if misses < WARM_MISSES_TO_DEMOTE => {
                peer.ask_at = Some(now + PROBE_RETRY);
            }
            Class::Active | Class::Warm | Class::Cold => self.fail(now, node),
        }
    }

    pub(super) fn full(&mut self, now: Moment, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.full(now);
        peer.rest(now, &self.policy.hysteresis);
        self.asked.remove(&node);
        self.set_class(now, node, Class::Cold);
        self.look_again(now);
    }

    /// The connection broke: asked at once, and without an answer demoted.
    pub(super) fn lost(&mut self, now: Moment, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.up {
            return;
        }
        peer.up = false;
        peer.failed(now);
        if peer.asked_until.is_none() {
            self.ask(now, node);
        }
    }

    /// Everybody who waits for something that is due.
    pub(super) fn due(&self, now: Moment) -> Vec<NodeId> {
        let is_due = |peer: &Peer| peer.poll_timeout().is_some_and(|at| at <= now);
        self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(node, _)| *node).collect()
    }

    /// What was asked and not answered in time was not answered.
    pub(super) fn count_overdue(&mut self, now: Moment, due: &[NodeId]) {
        for node in due.iter().copied() {
            let peer = &self.peers[&node];
            if peer.asked_until.is_some_and(|until| until <= now) {
                self.missed(now, node);
            }
            let through = self.peers[&node].through.overdue(now);
            if let Some(target) = through {
                self.through(now, node, target, None);
            }
        }
    }

    pub(super) fn ask_what_is_due(&mut self, now: Moment, due: &[NodeId]) {
        for node in due.iter().copied() {
            let peer = &self.peers[&node];
            let due = peer.asked_until.is_none() && peer.ask_at.is_some_and(|at| at <= now);
            if due {
                self.ask(now, node);
            }
            self.probe_through(now, node);
        }
    }

    /// A failure that counts: the peer is cold, and left alone for a while.
    pub(super) fn fail(&mut self, now: Moment, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.failed(now);
        peer.rest(now, &self.policy.hysteresis);
        self.set_class(now, node, Class::Cold);
        self.look_again(now);
    }
}
