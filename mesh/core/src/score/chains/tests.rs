#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rap_proto::{
    Authority, ClusterId, Lane, LaneSet, NodeId, NodeRole, OrganizationId, Preference, Timestamp,
    snapshot::RoleScope,
};

use super::*;
use crate::score::{ChannelClass, GREATEST, Identity, Placement, Policy, rank};

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn measured(rtt_us: u32) -> Measured {
    Measured {
        rtt_us: Some(rtt_us),
        loss_ppm: Some(0),
        reliability: Some(1_000),
        load: Some(100),
        bandwidth_kbps: Some(1_000_000),
        failures: 0,
    }
}

fn relay(number: u128) -> Candidate<'static> {
    Candidate {
        node: node(number),
        cluster: ClusterId::from_u128(1),
        identity: Identity::Proven,
        certificate_until: None,
        roles: vec![RoleScope { role: NodeRole::RelayNode, organizations: None }].into(),
        authority_epoch: 4,
        region: None,
        preference: Preference::Neutral,
        relayed_lanes: LaneSet::ALL,
        measured: measured(10_000),
    }
}

fn question() -> Question<'static> {
    Question {
        now: Timestamp::from_unix_millis(1_000),
        cluster: ClusterId::from_u128(1),
        organization: Some(OrganizationId::from_u128(2)),
        role: Some(NodeRole::RelayNode),
        relayed: Some(Lane::Interactive),
        placement: Placement::Anywhere,
        authority_epoch: 4,
        authority: Authority::Healthy,
        class: ChannelClass::Interactive,
        region: None,
    }
}

fn searched(relays: &[Candidate<'_>]) -> Vec<RankedChain> {
    search(&question(), Policy::default().weights(ChannelClass::Interactive), relays)
}

fn ranked(relays: &[Candidate<'static>]) -> Vec<Ranked> {
    rank(&question(), Policy::default().weights(ChannelClass::Interactive), relays, 64)
}

fn all_together(row: &[&Measured]) -> Measured {
    let begin = (NOBODY, Some(0));
    let add = |(so_far, last), next: &&Measured| (together(&so_far, last, next), next.rtt_us);
    row.iter().fold(begin, add).0
}

#[test]
fn measurements_come_together_over_the_relays_of_a_chain() {
    let of = |change: fn(&mut Measured)| {
        let mut one = measured(10_000);
        change(&mut one);
        one
    };
    let first = of(|it| {
        (it.rtt_us, it.loss_ppm, it.reliability) = (Some(1_000), Some(100_000), Some(900));
        (it.load, it.bandwidth_kbps, it.failures) = (Some(300), Some(50), 1);
    });
    let second = of(|it| {
        (it.rtt_us, it.loss_ppm, it.reliability) = (Some(5_000), Some(500_000), Some(500));
        (it.load, it.bandwidth_kbps, it.failures) = (Some(200), Some(90), 2);
    });
    let expected = Measured {
        rtt_us: Some(1_000 + 1_000 + 5_000),
        loss_ppm: Some(550_000),
        reliability: Some(450),
        load: Some(300),
        bandwidth_kbps: Some(50),
        failures: 3,
    };
    assert_eq!(all_together(&[&first, &second]), expected);
    assert_eq!(all_together(&[&first]), first);
    let greatest = of(|it| {
        (it.rtt_us, it.loss_ppm, it.reliability) = (Some(u32::MAX), Some(u32::MAX), Some(u16::MAX));
        it.failures = u8::MAX;
    });
    let most = all_together(&[&greatest, &greatest, &greatest]);
    assert_eq!((most.rtt_us, most.loss_ppm), (Some(u32::MAX), Some(1_000_000)));
    assert_eq!((most.reliability, most.failures), (Some(1_000), u8::MAX));
    let unknown = of(|it| *it = Measured::default());
    let half = all_together(&[&first, &unknown]);
    assert_eq!(half, Measured { failures: 1, ..Measured::default() });
}

#[test]
fn shorter_chains_come_first_and_not_all_begin_with_one_relay() {
    let mut relays: Vec<_> = (1..=4).map(relay).collect();
    relays[0].measured = measured(1_000);
    let found = searched(&relays);
    let lengths: Vec<usize> = found.iter().map(|one| one.chain.relays().len()).collect();
    assert_eq!(lengths, [2, 2, 2, 2, 2, 3, 3, 3]);
    assert_eq!(found[0].chain.first(), node(1), "the nearest begins the best");
    for length in [2, MAX_HOPS] {
        let firsts = found.iter().filter(|one| one.chain.relays().len() == length);
        let firsts: Vec<NodeId> = firsts.map(|one| one.chain.first()).collect();
        for first in &firsts {
            let alike = firsts.iter().filter(|other| *other == first).count();
            assert!(alike <= MAX_WITH_ONE_FIRST);
        }
    }
    assert!(searched(&relays[..1]).is_empty(), "one relay makes no chain");
}

#[test]
fn of_equal_chains_those_come_first_that_begin_with_a_relay_that_is_reached() {
    let mut relays: Vec<_> = (1..=3).map(relay).collect();
    for unreached in &mut relays[..2] {
        unreached.measured = Measured { reliability: Some(0), failures: 5, ..Measured::default() };
    }
    relays[2].measured = measured(1_000);
    let found = searched(&relays);
    let longest: Vec<_> = found.iter().filter(|one| one.chain.relays().len() == 3).collect();
    assert_eq!(longest[0].total, longest[2].total);
    let firsts: Vec<NodeId> = longest.iter().map(|one| one.chain.first()).collect();
    assert_eq!(firsts, [node(3), node(3), node(1)]);
}

#[test]
fn the_search_is_bounded_whatever_it_is_given() {
    let relays: Vec<_> = (1..=60).map(relay).collect();
    let found = searched(&relays);
    assert_eq!(found.len(), MAX_CHAINS.iter().map(|(_, most)| most).sum::<usize>());
    let used: BTreeSet<NodeId> = found.iter().flat_map(|one| one.chain.relays().to_vec()).collect();
    assert!(used.len() <= MAX_RELAYS);
}

#[test]
fn a_chain_stands_before_a_relay_only_when_it_is_worth_more_by_the_margin() {
    let mut bad = relay(3);
    bad.measured = Measured {
        rtt_us: Some(3_000_000),
        loss_ppm: Some(400_000),
        reliability: Some(50),
        load: Some(1_000),
        bandwidth_kbps: Some(1),
        failures: 9,
    };
    let relays = [relay(1), relay(2), bad];
    let (order, chains) = (ranked(&relays), searched(&relays[..2]));
    assert!(chains[0].total > order[2].total + CHAIN_MARGIN, "{chains:?} {order:?}");
    let expected = [
        paths::Candidate::Relay(node(1)),
        paths::Candidate::Relay(node(2)),
        paths::Candidate::Chain(chains[0].chain),
        paths::Candidate::Chain(chains[1].chain),
        paths::Candidate::Relay(node(3)),
    ];
    assert_eq!(paths_of(&order, &chains), expected);
    let totals: Vec<u16> = ways(&order, &chains).iter().map(|way| way.total).collect();
    assert_eq!(totals[1..3], [order[1].total, chains[0].total]);
    // Just the margin is not enough.
    let close = Ranked { node: node(3), total: chains[0].total - CHAIN_MARGIN };
    let order = [order[0], order[1], close];
    assert_eq!(paths_of(&order, &chains)[2], paths::Candidate::Relay(node(3)));
    assert!(matches!(paths_of(&[], &chains)[..], [paths::Candidate::Chain(_), ..]));
}

fn paths_of(order: &[Ranked], chains: &[RankedChain]) -> Vec<paths::Candidate> {
    ways(order, chains).into_iter().map(|way| way.path).collect()
}

fn any_relay() -> impl Strategy<Value = Candidate<'static>> {
    let numbers = (any::<u32>(), any::<u32>(), 0..1_100_u16, any::<u16>(), any::<u32>());
    let known = any::<[bool; 5]>();
    (1..12_u128, numbers, known, any::<u8>(), any::<bool>(), 0..4_u8).prop_map(
        |(number, (rtt, loss, reliability, load, kbps), known, failures, proven, standing)| {
            let mut relay = relay(number);
            relay.measured = Measured {
                rtt_us: known[0].then_some(rtt),
                loss_ppm: known[1].then_some(loss),
                reliability: known[2].then_some(reliability),
                load: known[3].then_some(load),
                bandwidth_kbps: known[4].then_some(kbps),
                failures,
            };
            relay.identity = if proven { Identity::Proven } else { Identity::Listed };
            match standing {
                0 => relay.identity = Identity::Denied,
                1 => relay.roles.to_mut().clear(),
                _ => {}
            }
            relay
        },
    )
}

/// What a chain comes to when nothing of it is known from another one.
fn total_by_itself(chain: &[&Candidate<'_>], weights: &Weights) -> u16 {
    let parts = chain.iter().map(|relay| Parts::of(&question(), relay));
    let worst = parts.reduce(|worst, parts| worst.worst(&parts)).unwrap();
    let measured: Vec<_> = chain.iter().map(|relay| &relay.measured).collect();
    let parts = worst.worst(&worst.measured(&all_together(&measured)));
    let beyond = u16::try_from(chain.len() - 1).unwrap();
    weights.total(&parts).saturating_sub(beyond * HOP_PENALTY)
}

/// Of all chains of these relays with so many in each, those that are kept.
fn kept_of_all(relays: &[Candidate<'_>], length: usize, most: usize) -> Vec<RankedChain> {
    let policy = Policy::default();
    let weights = policy.weights(ChannelClass::Interactive);
    let admitted = relays.iter().filter(|relay| question().excludes(relay).is_none());
    let mut all = Vec::from([Vec::new()]);
    for _ in 0..length {
        let longer = |chain: &Vec<_>, relay| [&chain[..], &[relay]].concat();
        let ends = all.iter().flat_map(|chain| admitted.clone().map(move |it| longer(chain, it)));
        all = ends.collect();
    }
    all.retain(|chain| chain.iter().map(|it| it.node).collect::<BTreeSet<_>>().len() == length);
    let nodes = |chain: &[&Candidate<'_>]| chain.iter().map(|it| it.node).collect::<Vec<_>>();
    all.sort_by_key(|chain| {
        let each: Vec<_> = chain.iter().map(|it| (it.measured.rtt_us.is_none(), it.node)).collect();
        (Reverse(total_by_itself(chain, weights)), each)
    });
    let mut kept: Vec<RankedChain> = Vec::new();
    for chain in all {
        let alike = kept.iter().filter(|one| one.chain.first() == chain[0].node).count();
        if alike < MAX_WITH_ONE_FIRST && kept.len() < most {
            let total = total_by_itself(&chain, weights);
            kept.push(RankedChain { chain: Chain::new(&nodes(&chain)).unwrap(), total });
        }
    }
    kept
}

proptest! {
    #[test]
    fn no_chain_is_worth_something_else_than_by_itself_and_the_best_are_found(
        mut relays in prop::collection::vec(any_relay(), 0..MAX_RELAYS),
    ) {
        relays.sort_by_key(|relay| relay.node);
        relays.dedup_by_key(|relay| relay.node);
        let expected = MAX_CHAINS.map(|(length, most)| kept_of_all(&relays, length, most)).concat();
        prop_assert_eq!(searched(&relays), expected);
    }

    #[test]
    fn chains_hold_nobody_twice_nobody_unauthorised_and_are_worth_less_than_each_relay(
        mut relays in prop::collection::vec(any_relay(), 0..12),
    ) {
        relays.sort_by_key(|relay| relay.node);
        relays.dedup_by_key(|relay| relay.node);
        let order = ranked(&relays);
        let found = searched(&relays);
        prop_assert!(found.len() <= MAX_CHAINS.iter().map(|(_, most)| most).sum::<usize>());
        for RankedChain { chain, total } in &found {
            let members: BTreeSet<NodeId> = chain.relays().iter().copied().collect();
            prop_assert_eq!(members.len(), chain.relays().len());
            prop_assert!((2..=MAX_HOPS).contains(&members.len()));
            for member in members {
                let single = order.iter().find(|one| one.node == member);
                let most = single.map(|one| one.total.saturating_sub(HOP_PENALTY));
                prop_assert!(most.is_some_and(|most| *total <= most));
                prop_assert!(*total <= GREATEST);
            }
        }
    }

    #[test]
    fn chains_do_not_depend_on_how_relays_are_given(
        relays in prop::collection::vec(any_relay(), 0..=MAX_RELAYS),
    ) {
        let mut relays = relays;
        relays.sort_by_key(|relay| relay.node);
        relays.dedup_by_key(|relay| relay.node);
        let found = searched(&relays);
        relays.reverse();
        prop_assert_eq!(searched(&relays), found);
    }

    #[test]
    fn every_relay_of_a_chain_is_tried_before_it(
        relays in prop::collection::vec(any_relay(), 0..8),
    ) {
        let mut relays = relays;
        relays.sort_by_key(|relay| relay.node);
        relays.dedup_by_key(|relay| relay.node);
        let (order, chains) = (ranked(&relays), searched(&relays));
        let ways = paths_of(&order, &chains);
        prop_assert_eq!(ways.len(), order.len() + chains.len());
        for (place, way) in ways.iter().enumerate() {
            let paths::Candidate::Chain(chain) = way else { continue };
            for relay in chain.relays() {
                prop_assert!(ways[..place].contains(&paths::Candidate::Relay(*relay)));
            }
        }
    }
}
