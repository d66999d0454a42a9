//! Which paths to a node are tried, in which order and when: direct ones first, relays a little
//! later in the order that [`crate::score`] gives, and what failed recently not at all.
//!
//! Inputs: what the view knows of the target, outcomes of attempts, time. Output: a plan of
//! attempts, each with the delay after which it may start while earlier ones still run
//! (as RFC 8305 does for addresses).

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rap_proto::{Digest, Moment, NodeId};

/// A direct attempt that has not connected by then counts as failed.
pub const DIRECT_DIAL_TIMEOUT: Duration = Duration::from_millis(1000);
/// The same for a relay: hop connection, set-up and the connection through it.
pub const RELAY_DIAL_TIMEOUT: Duration = Duration::from_millis(3000);
/// How long direct attempts are alone before the first relay joins the race.
pub const RELAY_HEAD_START: Duration = Duration::from_millis(300);
/// The delay between two attempts of the same kind.
pub const ATTEMPT_STAGGER: Duration = Duration::from_millis(150);
/// How long a direct path that failed is left alone.
pub const DIRECT_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a relay that failed is left alone.
pub const RELAY_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The most attempts in one plan.
pub const MAX_ATTEMPTS: usize = 12;
/// The most failures that are remembered.
pub const MAX_REMEMBERED: usize = 4096;

/// One way to reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    Direct(SocketAddr),
    Relay(NodeId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub candidate: Candidate,
    /// Counted from the start of the plan; an attempt may start earlier when all before it failed.
    pub start_after: Duration,
}

impl Candidate {
    pub const fn timeout(self) -> Duration {
        match self {
            Self::Direct(_) => DIRECT_DIAL_TIMEOUT,
            Self::Relay(_) => RELAY_DIAL_TIMEOUT,
        }
    }

    const fn retry_after(self) -> Duration {
        match self {
            Self::Direct(_) => DIRECT_RETRY_AFTER,
            Self::Relay(_) => RELAY_RETRY_AFTER,
        }
    }
}

/// Remembers which paths failed, until they may be tried again.
#[derive(Debug, Clone, Default)]
pub struct PathBook {
    failed_until: BTreeMap<(NodeId, Candidate), Moment>,
}

impl PathBook {
    /// The attempts for reaching `target`, the relays in the order in which they are given. What
    /// failed recently is left out, unless nothing else is left: then everything is tried again.
    pub fn plan(
        &self,
        now: Moment,
        target: NodeId,
        addresses: &[SocketAddr],
        relays: impl IntoIterator<Item = NodeId>,
    ) -> Vec<Attempt> {
        let all = candidates(target, addresses, relays);
        let untried = self.without_failed(now, target, &all);
        staggered(if untried.is_empty() { all } else { untried })
    }

    /// The same without what failed recently, also when nothing is left: for a carrier that another
    /// can stand in for.
    pub fn untried(
        &self,
        now: Moment,
        target: NodeId,
        addresses: &[SocketAddr],
        relays: impl IntoIterator<Item = NodeId>,
    ) -> Vec<Attempt> {
        let all = candidates(target, addresses, relays);
        staggered(self.without_failed(now, target, &all))
    }

    /// Notes that a path did not work, or that its connection was lost.
    pub fn failed(&mut self, now: Moment, target: NodeId, candidate: Candidate) {
        if self.failed_until.len() >= MAX_REMEMBERED {
            self.failed_until.retain(|_, until| *until > now);
        }
        if self.failed_until.len() < MAX_REMEMBERED {
            self.failed_until.insert((target, candidate), now + candidate.retry_after());
        }
    }

    /// Notes who won the race of a plan. A direct path that a relay overtook, in spite of its head
    /// start, is as good as none.
    pub fn won(&mut self, now: Moment, target: NodeId, plan: &[Attempt], winner: Candidate) {
        if let Candidate::Direct(_) = winner {
            return;
        }
        for Attempt { candidate, .. } in plan {
            if let Candidate::Direct(_) = candidate {
                self.failed(now, target, *candidate);
            }
        }
    }

    pub fn succeeded(&mut self, target: NodeId, candidate: Candidate) {
        self.failed_until.remove(&(target, candidate));
    }

    /// Notes that a relay itself is gone: for every target that was reached through it.
    pub fn relay_lost(&mut self, now: Moment, relay: NodeId, targets: &[NodeId]) {
        for target in targets {
            self.failed(now, *target, Candidate::Relay(relay));
        }
    }

    /// Forgets everything, as when the peers' addresses changed.
    pub fn clear(&mut self) {
        self.failed_until.clear();
    }

    fn without_failed(&self, now: Moment, target: NodeId, all: &[Candidate]) -> Vec<Candidate> {
        let untried = |candidate: &&Candidate| !self.failed_recently(now, target, **candidate);
        all.iter().filter(untried).copied().collect()
    }

    fn failed_recently(&self, now: Moment, target: NodeId, candidate: Candidate) -> bool {
        self.failed_until.get(&(target, candidate)).is_some_and(|until| *until > now)
    }
}

/// The token's egresses in the order in which they are asked: the same for every channel of one
/// session, spread over the egresses for many sessions.
pub fn egress_order(
    session: rap_proto::SessionId,
    egresses: impl IntoIterator<Item = NodeId>,
) -> Vec<NodeId> {
    by_rank(session.uuid().as_bytes(), egresses)
}

fn candidates(
    target: NodeId,
    addresses: &[SocketAddr],
    relays: impl IntoIterator<Item = NodeId>,
) -> Vec<Candidate> {
    let relays = relays.into_iter().filter(|relay| *relay != target);
    let direct = addresses.iter().map(|address| Candidate::Direct(*address));
    direct.chain(relays.map(Candidate::Relay)).collect()
}

/// Relays of equal worth in an order that spreads the targets over them.
pub(crate) fn spread_over(
    own: NodeId,
    target: NodeId,
    relays: impl IntoIterator<Item = NodeId>,
) -> Vec<NodeId> {
    let key = [own.uuid().into_bytes(), target.uuid().into_bytes()].concat();
    by_rank(&key, relays)
}

/// Rendezvous order: deterministic, and one node's leaving moves nothing else.
fn by_rank(key: &[u8], nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
    nodes.sort_by_cached_key(|node| Digest::of_parts(&[key, node.uuid().as_bytes()]));
    nodes
}

fn staggered(candidates: Vec<Candidate>) -> Vec<Attempt> {
    let mut direct_at = Duration::ZERO;
    let has_direct = matches!(candidates.first(), Some(Candidate::Direct(_)));
    let mut relay_at = if has_direct { RELAY_HEAD_START } else { Duration::ZERO };
    let mut attempts: Vec<Attempt> = candidates
        .into_iter()
        .map(|candidate| {
            let at = match candidate {
                Candidate::Direct(_) => &mut direct_at,
                Candidate::Relay(_) => &mut relay_at,
            };
            let start_after = *at;
            *at += ATTEMPT_STAGGER;
            Attempt { candidate, start_after }
        })
        .collect();
    attempts.sort_by_key(|attempt| attempt.start_after);
    attempts.truncate(MAX_ATTEMPTS);
    attempts
}

#[cfg(test)]
mod tests;
