//! What several relays in a row are worth, and which of them are tried.
//!
//! A node measures its own peers, and not what lies between two others. So the leg from one relay to
//! the next counts as if it led back through this node: the longest that it can be when the
//! measurements hold. What is known of the relays comes together like this:
//!
//! | of a chain | is |
//! |---|---|
//! | the round trip | the sum of its legs |
//! | loss, reliability | what is left after all relays |
//! | failures | the sum |
//! | every other part, and these where something was not measured | the worst of its relays |
//!
//! No part is better than that of the worst relay, and each relay beyond the first costs
//! [`HOP_PENALTY`]: a chain is worth less than every one of its relays.

use std::cmp::Reverse;

use rap_proto::wire::hop::MAX_HOPS;

use super::{Candidate, Measured, Parts, Question, Ranked, Weights};
use crate::paths::{self, Chain};

/// What each relay beyond the first takes from a chain's total.
pub const HOP_PENALTY: u16 = 120;
/// A chain stands before a relay only when it is worth so much more.
pub const CHAIN_MARGIN: u16 = 100;
/// The most relays that chains are made of.
pub const MAX_RELAYS: usize = 6;
/// By their length, the most chains that one search gives.
pub const MAX_CHAINS: [(usize, usize); 2] = [(2, 5), (MAX_HOPS, 3)];
/// The most of them of one length that begin with the same relay: it can be what fails.
pub const MAX_WITH_ONE_FIRST: usize = 2;

/// The fewest relays of a chain.
const LEAST: usize = MAX_CHAINS[0].0;
/// Loss and reliability in their units.
const MILLION: u64 = 1_000_000;
const THOUSAND: u32 = 1_000;

/// A chain that nothing rules out, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankedChain {
    pub chain: Chain,
    pub total: u16,
}

/// The chains of these relays that are tried: the shorter ones first, those of one length by what
/// they are worth. Of equal ones those come first that begin with a relay that was
/// reached, then those with the smaller ids: in whatever order they are worth the same when one of
/// them never was, and who asks can begin with the others only.
pub(super) fn search(
    question: &Question<'_>,
    weights: &Weights,
    relays: &[Candidate<'_>],
) -> Vec<RankedChain> {
    let admitted = relays.iter().filter(|relay| question.excludes(relay).is_none());
    let mut members: Vec<Member<'_>> = admitted
        .take(MAX_RELAYS)
        .map(|candidate| Member { candidate, parts: Parts::of(question, candidate) })
        .collect();
    members.sort_unstable_by_key(|member| member.candidate.node);
    members.dedup_by_key(|member| member.candidate.node);
    members.sort_by_key(|member| member.candidate.measured.rtt_us.is_none());
    let mut rows = MAX_CHAINS.map(|_| Vec::new());
    extend(&members, &Begun::default(), &mut |begun| {
        rows[begun.length - LEAST].push((Reverse(begun.total(weights)), begun.row));
    });
    let mut found = Vec::new();
    for ((length, most), mut rows) in MAX_CHAINS.into_iter().zip(rows) {
        // Of equal rows the first is the one that begins with the first member.
        rows.sort_unstable();
        found.extend(spread(&rows, most).into_iter().filter_map(|(Reverse(total), row)| {
            let nodes = row.map(|place| members[usize::from(place)].candidate.node);
            Some(RankedChain { chain: Chain::new(&nodes[..length])?, total })
        }));
    }
    found
}

/// A way over relays, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub path: paths::Candidate,
    pub total: u16,
}

impl From<Way> for paths::Candidate {
    fn from(way: Way) -> Self {
        way.path
    }
}

impl From<RankedChain> for Way {
    fn from(ranked: RankedChain) -> Self {
        Self { path: paths::Candidate::Chain(ranked.chain), total: ranked.total }
    }
}

/// Relays and chains in the order in which a path tries them: each chain before the first relay
/// that is worth less by [`CHAIN_MARGIN`], and the others behind all relays.
pub fn ways(order: &[Ranked], chains: &[RankedChain]) -> Vec<Way> {
    let mut ways = Vec::with_capacity(order.len() + chains.len());
    let mut waiting = chains.to_vec();
    for relay in order {
        let is_better =
            |chain: &mut RankedChain| chain.total > relay.total.saturating_add(CHAIN_MARGIN);
        let better = waiting.extract_if(.., is_better);
        ways.extend(better.map(Way::from));
        ways.push(Way { path: paths::Candidate::Relay(relay.node), total: relay.total });
    }
    ways.extend(waiting.into_iter().map(Way::from));
    ways
}

/// A relay that nothing rules out.
struct Member<'c> {
    candidate: &'c Candidate<'c>,
    parts: Parts,
}

/// The places of a chain's relays among the members, and no chain yet: of the many that a search
/// looks at it keeps a few. Beyond the row's length stands nothing of use.
type Row = [u8; MAX_HOPS];

/// Calls `found` with every chain that begins as `begun` and goes on, none of whose relays is in it twice.
fn extend(members: &[Member<'_>], begun: &Begun, found: &mut impl FnMut(&Begun)) {
    for (place, member) in (0_u8..).zip(members) {
        if begun.row[..begun.length].contains(&place) {
            continue;
        }
        let longer = begun.and(place, member);
        if longer.length >= LEAST {
            found(&longer);
        }
        if longer.length < MAX_HOPS {
            extend(members, &longer, found);
        }
    }
}

fn spread(all: &[(Reverse<u16>, Row)], most: usize) -> Vec<(Reverse<u16>, Row)> {
    let mut kept: Vec<(Reverse<u16>, Row)> = Vec::with_capacity(most);
    for one in all {
        let alike = kept.iter().filter(|(_, row)| row[0] == one.1[0]).count();
        if alike < MAX_WITH_ONE_FIRST && kept.len() < most {
            kept.push(*one);
        }
    }
    kept
}

/// The first relays of many chains, and what they come to: worked out once for all of these.
struct Begun {
    row: Row,
    length: usize,
    /// Of each part the worst.
    worst: Parts,
    measured: Measured,
    /// To the last of them, from here.
    last_rtt_us: Option<u32>,
}

impl Default for Begun {
    fn default() -> Self {
        let (row, worst) = ([0; MAX_HOPS], Parts::BEST);
        Self { row, length: 0, worst, measured: NOBODY, last_rtt_us: Some(0) }
    }
}

impl Begun {
    fn and(&self, place: u8, member: &Member<'_>) -> Self {
        let mut row = self.row;
        row[self.length] = place;
        let next = &member.candidate.measured;
        Self {
            row,
            length: self.length + 1,
            worst: self.worst.worst(&member.parts),
            measured: together(&self.measured, self.last_rtt_us, next),
            last_rtt_us: next.rtt_us,
        }
    }

    fn total(&self, weights: &Weights) -> u16 {
        let parts = self.worst.worst(&self.worst.measured(&self.measured));
        let cost = (1..self.length).fold(0_u16, |cost, _| cost.saturating_add(HOP_PENALTY));
        weights.total(&parts).saturating_sub(cost)
    }
}

/// The measurements of no relay at all: with them come those of the first.
const NOBODY: Measured = Measured {
    rtt_us: Some(0),
    loss_ppm: Some(0),
    reliability: Some(1_000),
    load: Some(0),
    bandwidth_kbps: Some(u32::MAX),
    failures: 0,
};

/// What measurements of some relays and of the next make together; `None` where one of them is
/// missing. From the last to the next it leads as if through this node.
fn together(so_far: &Measured, last_rtt_us: Option<u32>, next: &Measured) -> Measured {
    let (loss, reliability) = (so_far.loss_ppm, so_far.reliability);
    let leg = both(last_rtt_us, next.rtt_us, u32::saturating_add);
    Measured {
        rtt_us: both(so_far.rtt_us, leg, u32::saturating_add),
        loss_ppm: both(loss, next.loss_ppm, |so_far, ppm| {
            let passed = (MILLION - u64::from(so_far)) * MILLION.saturating_sub(u64::from(ppm));
            u32::try_from(MILLION - passed / MILLION).unwrap_or(u32::MAX)
        }),
        reliability: both(reliability, next.reliability, |so_far, of_1000| {
            let together = u32::from(so_far) * u32::from(of_1000).min(THOUSAND) / THOUSAND;
            u16::try_from(together).unwrap_or(u16::MAX)
        }),
        load: both(so_far.load, next.load, u16::max),
        bandwidth_kbps: both(so_far.bandwidth_kbps, next.bandwidth_kbps, u32::min),
        failures: so_far.failures.saturating_add(next.failures),
    }
}

fn both<N>(one: Option<N>, other: Option<N>, together: impl FnOnce(N, N) -> N) -> Option<N> {
    Some(together(one?, other?))
}

#[cfg(test)]
mod tests;
