//! What a peer book says of itself: to the operator everything, to an organization one word.

use rap_proto::{Moment, NodeId, snapshot::StalePolicy};

use super::{Class, PeerBook, PeerPolicy, Step};
use crate::score::{Candidate, Explained, Finding, Measured, explain};

/// One peer, as its operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    pub node: NodeId,
    pub class: Class,
    pub is_relay: bool,
    /// Active, and it answers.
    pub up: bool,
    /// Left alone for a while after a failure.
    pub resting: bool,
    /// Whether a probe through it arrived; `None` for whoever was not probed through.
    pub forwards: Option<bool>,
    pub finding: Finding,
    pub measured: Measured,
}

/// How the node as a whole stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub availability: Availability,
    pub recovery: Option<Step>,
    pub active: usize,
    pub warm: usize,
    pub cold: usize,
}

/// All that an organization may learn of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Available,
    Degraded,
    Unavailable,
}

impl PeerBook {
    /// What it keeps to.
    pub const fn policy(&self) -> &PeerPolicy {
        &self.policy
    }

    pub fn standing(&self) -> Standing {
        let (active, warm) = (self.active.len(), self.warm.len());
        let recovery = self.recovery.as_ref().map(|recovery| recovery.step);
        let may_go_on = self
            .directory
            .as_ref()
            .is_some_and(|directory| directory.stale_policy == StalePolicy::KeepSessions);
        let availability = match recovery {
            None => Availability::Available,
            Some(Step::Snapshot) if !may_go_on => Availability::Unavailable,
            Some(_) => Availability::Degraded,
        };
        let cold = self.peers.len() - active - warm;
        Standing { availability, recovery, active, warm, cold }
    }

    /// Every peer, the best first.
    pub fn status(&self, now: Moment) -> Vec<PeerStatus> {
        if self.directory.is_none() {
            return Vec::new();
        }
        let explained = explain(&self.company(now), self.company_weights(), self.candidates());
        explained.into_iter().map(|one| self.status_of(now, one)).collect()
    }

    /// What is known of every peer, by id, for whoever asks what a path through it is worth. How fast
    /// and how surely a relay answers is left out until a probe through it arrived: it may swallow.
    pub fn path_candidates(&self) -> impl Iterator<Item = Candidate<'static>> + '_ {
        self.peers.values().map(|peer| {
            let mut candidate = peer.candidate.clone();
            if peer.is_relay() && peer.through.forwards().is_none() {
                let Measured { load, failures, .. } = candidate.measured;
                candidate.measured = Measured { load, failures, ..Measured::default() };
            }
            candidate
        })
    }

    /// What is known of every peer, by id.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate<'static>> {
        self.peers.values().map(|peer| &peer.candidate)
    }

    /// The active peers that answer, by id.
    pub fn reached(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.active.iter().copied().filter(|node| self.peers[node].up)
    }

    /// All active peers by id, those included that have not answered yet.
    pub fn active(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.active.iter().copied()
    }

    fn status_of(&self, now: Moment, one: Explained) -> PeerStatus {
        let peer = &self.peers[&one.node];
        PeerStatus {
            node: one.node,
            class: peer.class,
            is_relay: peer.is_relay(),
            up: peer.up,
            resting: peer.is_resting(now),
            forwards: peer.through.forwards(),
            finding: one.finding,
            measured: peer.candidate.measured,
        }
    }
}
