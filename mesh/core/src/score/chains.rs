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
/// they are worth, and of equal ones by their ids.
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
    let mut found = Vec::new();
    for (length, most) in MAX_CHAINS {
        let mut all = Vec::new();
        extend((&mut [0; MAX_HOPS], 0), length, members.len(), &mut |row| {
            let chosen = row.map(|place| &members[usize::from(place)]);
            all.push((Reverse(total(weights, chosen, length)), row));
        });
        // Members stand by their ids, so rows are in the order of the ids that they stand for.
        all.sort_unstable();
        found.extend(spread(&all, most).into_iter().filter_map(|(Reverse(total), row)| {
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

/// Calls `found` with every row of `length` different places below `count` that begins with the
/// `filled` places of `row`.
fn extend(
    (row, filled): (&mut Row, usize),
    length: usize,
    count: usize,
    found: &mut impl FnMut(Row),
) {
    if filled == length {
        return found(*row);
    }
    for place in (0..count).filter_map(|place| u8::try_from(place).ok()) {
        if !row[..filled].contains(&place) {
            row[filled] = place;
            extend((row, filled + 1), length, count, found);
        }
    }
    row[filled] = 0;
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

fn total(weights: &Weights, row: [&Member<'_>; MAX_HOPS], length: usize) -> u16 {
    let Some((first, others)) = row[..length].split_first() else { return 0 };
    let parts = others.iter().fold(first.parts, |parts, other| parts.worst(&other.parts));
    let measured = row.map(|member| &member.candidate.measured);
    let parts = parts.worst(&first.parts.measured(&together(&measured[..length])));
    let cost = others.iter().fold(0_u16, |cost, _| cost.saturating_add(HOP_PENALTY));
    weights.total(&parts).saturating_sub(cost)
}

/// What measurements make together; `None` where one of them is missing.
fn together(row: &[&Measured]) -> Measured {
    let each = || row.iter().copied();
    Measured {
        rtt_us: round_trip(each().map(|it| it.rtt_us)),
        loss_ppm: each().map(|it| it.loss_ppm).try_fold(0_u32, |so_far, ppm| {
            let passed = (MILLION - u64::from(so_far)) * MILLION.saturating_sub(u64::from(ppm?));
            u32::try_from(MILLION - passed / MILLION).ok()
        }),
        reliability: each().map(|it| it.reliability).try_fold(1_000_u16, |so_far, of_1000| {
            let together = u32::from(so_far) * u32::from(of_1000?).min(THOUSAND) / THOUSAND;
            u16::try_from(together).ok()
        }),
        load: each().map(|it| it.load).try_fold(0_u16, |so_far, load| Some(so_far.max(load?))),
        bandwidth_kbps: each()
            .map(|it| it.bandwidth_kbps)
            .try_fold(u32::MAX, |so_far, kbps| Some(so_far.min(kbps?))),
        failures: each().fold(0_u8, |so_far, it| so_far.saturating_add(it.failures)),
    }
}

/// To the first relay, and from each to the next as if through this node.
fn round_trip(mut each: impl Iterator<Item = Option<u32>>) -> Option<u32> {
    let mut last = each.next()??;
    let mut sum = last;
    for next in each {
        let next = next?;
        sum = sum.saturating_add(last).saturating_add(next);
        last = next;
    }
    Some(sum)
}

#[cfg(test)]
mod tests;
