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
        extend(&mut Vec::with_capacity(length), length, members.len(), &mut |row: &[usize]| {
            let row = each_of(row, |place| &members[*place]);
            let nodes = each_of(&row[..length], |member| member.candidate.node);
            if let Some(chain) = Chain::new(&nodes[..length]) {
                all.push(RankedChain { chain, total: total(question, weights, &row[..length]) });
            }
        });
        all.sort_unstable_by_key(|one| (Reverse(one.total), one.chain));
        found.extend(spread(&all, most));
    }
    found
}

/// Relays and chains in the order in which a path tries them: each chain before the first relay
/// that is worth less by [`CHAIN_MARGIN`], and the others behind all relays.
pub fn ways(order: &[Ranked], chains: &[RankedChain]) -> Vec<paths::Candidate> {
    let mut ways = Vec::with_capacity(order.len() + chains.len());
    let mut waiting = chains.to_vec();
    for relay in order {
        let is_better =
            |chain: &mut RankedChain| chain.total > relay.total.saturating_add(CHAIN_MARGIN);
        let better = waiting.extract_if(.., is_better);
        ways.extend(better.map(|ranked| paths::Candidate::Chain(ranked.chain)));
        ways.push(paths::Candidate::Relay(relay.node));
    }
    ways.extend(waiting.into_iter().map(|ranked| paths::Candidate::Chain(ranked.chain)));
    ways
}

/// A relay that nothing rules out.
struct Member<'c> {
    candidate: &'c Candidate<'c>,
    parts: Parts,
}

/// Something of each in a row, without a heap: a search looks at many rows. Beyond the row's length
/// stands the last of it again.
fn each_of<T, U: Copy>(row: &[T], of: impl Fn(&T) -> U) -> [U; MAX_HOPS] {
    std::array::from_fn(|place| of(&row[place.min(row.len() - 1)]))
}

/// Calls `found` with every row of `length` different places below `count` that begins with `row`.
fn extend(row: &mut Vec<usize>, length: usize, count: usize, found: &mut impl FnMut(&[usize])) {
    if row.len() == length {
        return found(row);
    }
    for place in 0..count {
        if !row.contains(&place) {
            row.push(place);
            extend(row, length, count, found);
            row.pop();
        }
    }
}

fn spread(all: &[RankedChain], most: usize) -> Vec<RankedChain> {
    let mut kept: Vec<RankedChain> = Vec::with_capacity(most);
    for ranked in all {
        let first = ranked.chain.first();
        let alike = kept.iter().filter(|one| one.chain.first() == first).count();
        if alike < MAX_WITH_ONE_FIRST && kept.len() < most {
            kept.push(*ranked);
        }
    }
    kept
}

fn total(question: &Question<'_>, weights: &Weights, row: &[&Member<'_>]) -> u16 {
    let Some((first, others)) = row.split_first() else { return 0 };
    let parts = others.iter().fold(first.parts, |parts, other| parts.worst(&other.parts));
    let measured = each_of(row, |member| &member.candidate.measured);
    let whole = Candidate { measured: together(&measured[..row.len()]), ..first.candidate.clone() };
    let parts = parts.worst(&Parts::of(question, &whole));
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
