//! Which paths to a node are tried, in which order and when: direct ones first, relays a little
//! later in the order that [`crate::score`] gives, and what failed recently not at all.
//!
//! Inputs: what the view knows of the target, outcomes of attempts, time. Output: a plan of
//! attempts, each with the delay after which it may start while earlier ones still run
//! (as RFC 8305 does for addresses). Chains that come after all relays wait until those had time to
//! fail.

mod chain;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rap_proto::{Digest, Moment, NodeId, paths::DirectPaths};

pub use chain::Chain;

/// A direct attempt that has not connected by then counts as failed.
pub const DIRECT_DIAL_TIMEOUT: Duration = Duration::from_millis(1000);
/// The same for a relay: hop connection, set-up and the connection through it.
pub const RELAY_DIAL_TIMEOUT: Duration = Duration::from_millis(3000);
/// What each relay of a chain beyond the first may take in addition.
pub const CHAIN_DIAL_TIME: Duration = Duration::from_millis(1500);
/// How long direct attempts are alone before the first relay joins the race.
pub const RELAY_HEAD_START: Duration = Duration::from_millis(300);
/// How long the last relay is alone before the first chain behind it joins.
pub const CHAIN_HEAD_START: Duration = RELAY_DIAL_TIMEOUT;
/// The delay between two attempts of the same kind.
pub const ATTEMPT_STAGGER: Duration = Duration::from_millis(150);
/// How long a direct path that failed is left alone.
pub const DIRECT_RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a relay that failed is left alone.
pub const RELAY_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The most attempts in one plan.
pub const MAX_ATTEMPTS: usize = 12;
/// As many of them are kept for chains, if there are any, however many relays there are.
pub const CHAIN_PLACES: usize = 4;
/// The most failures that are remembered.
pub const MAX_REMEMBERED: usize = 4096;
/// A path is slower than another when its round trip is longer than that one's by half of it and this,
/// as where it leads around the world.
pub const SLOWER_BY: Duration = Duration::from_millis(5);

/// Whether a path of this round trip is slower than the other one.
pub fn is_slower(round_trip: Duration, other: Duration) -> bool {
    round_trip > other + other / 2 + SLOWER_BY
}

/// Where direct paths are taken only when they are better, one in use is kept for as long as its round trip is
/// longer than that of a way over relays by no more than a tenth of that one's and this: two measurements
/// of one path differ by as much.
pub const KEPT_WITHIN: Duration = Duration::from_millis(2);

/// Whether a path is too slow to take the place of one in use, by this rule for direct paths.
pub fn is_too_slow_to_take(
    rule: DirectPaths,
    (candidate, round_trip): (Candidate, Duration),
    in_use: Duration,
) -> bool {
    match (rule, candidate) {
        (DirectPaths::WhenBetter, Candidate::Direct(_)) => round_trip > in_use,
        _ => is_slower(round_trip, in_use),
    }
}

/// Whether a direct path in use is too slow to be kept beside a way over relays, by this rule.
pub fn is_too_slow_to_keep(rule: DirectPaths, direct: Duration, relayed: Duration) -> bool {
    match rule {
        DirectPaths::WhenBetter => direct > relayed + relayed / 10 + KEPT_WITHIN,
        DirectPaths::Allowed | DirectPaths::Forbidden => is_slower(direct, relayed),
    }
}

/// One way to reach a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    Direct(SocketAddr),
    Relay(NodeId),
    Chain(Chain),
}

impl From<NodeId> for Candidate {
    fn from(relay: NodeId) -> Self {
        Self::Relay(relay)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub candidate: Candidate,
    /// Counted from the start of the plan; an attempt may start earlier when all before it failed.
    pub start_after: Duration,
}

impl Candidate {
    /// How long it may take to set the path up and to connect over it.
    pub fn timeout(self) -> Duration {
        match self {
            Self::Direct(_) => DIRECT_DIAL_TIMEOUT,
            Self::Relay(_) => RELAY_DIAL_TIMEOUT,
            Self::Chain(chain) => {
                chain.onward().iter().fold(RELAY_DIAL_TIMEOUT, |so_far, _| so_far + CHAIN_DIAL_TIME)
            }
        }
    }

    /// Whether it leads over other nodes.
    pub const fn is_relayed(&self) -> bool {
        matches!(self, Self::Relay(_) | Self::Chain(_))
    }

    /// How many relays it leads over.
    pub fn hops(&self) -> usize {
        match self {
            Self::Direct(_) => 0,
            Self::Relay(_) => 1,
            Self::Chain(chain) => chain.relays().len(),
        }
    }

    const fn retry_after(self) -> Duration {
        match self {
            Self::Direct(_) => DIRECT_RETRY_AFTER,
            Self::Relay(_) | Self::Chain(_) => RELAY_RETRY_AFTER,
        }
    }

    fn leads_over(&self, node: NodeId) -> bool {
        self.relays().contains(&node)
    }

    /// The relays that it leads over, in their order.
    pub fn relays(&self) -> &[NodeId] {
        match self {
            Self::Direct(_) => &[],
            Self::Relay(relay) => std::slice::from_ref(relay),
            Self::Chain(chain) => chain.relays(),
        }
    }
}

/// Remembers which paths failed, until they may be tried again.
#[derive(Debug, Clone, Default)]
pub struct PathBook {
    failed_until: BTreeMap<(NodeId, Candidate), Moment>,
}

impl PathBook {
    /// The attempts for reaching `target`, the relays and chains in the order in which they are
    /// given. What failed recently is left out, unless nothing else is left: then everything is
    /// tried again.
    pub fn plan(
        &self,
        now: Moment,
        target: NodeId,
        addresses: &[SocketAddr],
        relays: impl IntoIterator<Item = impl Into<Candidate>>,
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
        relays: impl IntoIterator<Item = impl Into<Candidate>>,
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
    relays: impl IntoIterator<Item = impl Into<Candidate>>,
) -> Vec<Candidate> {
    let relays = relays.into_iter().map(|relay| -> Candidate { relay.into() });
    let relays = relays.filter(|relay| !relay.leads_over(target));
    let direct = addresses.iter().map(|address| Candidate::Direct(*address));
    direct.chain(relays).collect()
}

/// Relays of equal worth in an order that spreads the targets over them: by rendezvous, with
/// numbers that need to be even and not to be unguessable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread(u64);

impl Spread {
    pub(crate) fn new(own: NodeId, target: NodeId) -> Self {
        Self(mixed(folded(own) ^ mixed(folded(target))))
    }

    /// The smallest comes first.
    pub(crate) fn rank(self, relay: NodeId) -> u64 {
        mixed(self.0 ^ folded(relay))
    }
}

fn folded(node: NodeId) -> u64 {
    let (high, low) = node.uuid().as_u64_pair();
    high.rotate_left(32) ^ low
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
const fn mixed(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Rendezvous order: deterministic, and one node's leaving moves nothing else.
fn by_rank(key: &[u8], nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
    nodes.sort_by_cached_key(|node| Digest::of_parts(&[key, node.uuid().as_bytes()]));
    nodes
}

fn staggered(candidates: Vec<Candidate>) -> Vec<Attempt> {
    let is_chain = |candidate: &&Candidate| matches!(candidate, Candidate::Chain(_));
    let last = candidates.iter().rev().take_while(is_chain).count();
    let (sooner, last) = candidates.split_at(candidates.len() - last);
    let mut direct_at = Duration::ZERO;
    let has_direct = matches!(candidates.first(), Some(Candidate::Direct(_)));
    let mut relay_at = if has_direct { RELAY_HEAD_START } else { Duration::ZERO };
    let mut attempts = Vec::with_capacity(candidates.len());
    for candidate in sooner {
        let at = if candidate.is_relayed() { &mut relay_at } else { &mut direct_at };
        attempts.push(Attempt { candidate: *candidate, start_after: *at });
        *at += ATTEMPT_STAGGER;
    }
    attempts.sort_by_key(|attempt| attempt.start_after);
    attempts.truncate(MAX_ATTEMPTS - last.len().min(CHAIN_PLACES));
    let mut chain_at =
        attempts.last().map_or(Duration::ZERO, |before| before.start_after + CHAIN_HEAD_START);
    for candidate in last.iter().take(MAX_ATTEMPTS - attempts.len()) {
        attempts.push(Attempt { candidate: *candidate, start_after: chain_at });
        chain_at += ATTEMPT_STAGGER;
    }
    attempts
}

#[cfg(test)]
mod tests;
