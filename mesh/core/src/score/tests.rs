#![allow(clippy::unwrap_used)]
use std::{borrow::Cow, collections::BTreeSet};

use proptest::prelude::*;
use rap_proto::{
    Authority, ClusterId, Lane, LaneSet, Name, NodeId, NodeRole, OrganizationId, Preference,
    Timestamp,
    mesh::{Mesh, MeshRule},
    snapshot::RoleScope,
};

use super::{
    parts::{HALF_RTT_US, MOST_FAILURES, UNKNOWN, WORST_LOSS_PPM},
    *,
};
use crate::busy::most_for_one;

const CLUSTER: ClusterId = ClusterId::from_u128(1);
const ACME: OrganizationId = OrganizationId::from_u128(2);
const GLOBEX: OrganizationId = OrganizationId::from_u128(3);
const NOW: Timestamp = Timestamp::from_unix_millis(1_000_000);

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn scope(role: NodeRole, organizations: Option<&[OrganizationId]>) -> RoleScope {
    RoleScope { role, organizations: organizations.map(|list| list.iter().copied().collect()) }
}

fn relay(number: u128) -> Candidate<'static> {
    Candidate {
        node: node(number),
        cluster: CLUSTER,
        identity: Identity::Proven,
        certificate_until: Some(Timestamp::from_unix_millis(2_000_000)),
        roles: vec![scope(NodeRole::RelayNode, None)].into(),
        authority_epoch: 4,
        region: None,
        preference: Preference::Neutral,
        relayed_lanes: LaneSet::ALL,
        measured: Measured {
            rtt_us: Some(10_000),
            loss_ppm: Some(0),
            reliability: Some(1_000),
            load: Some(100),
            bandwidth_kbps: Some(1_000_000),
            failures: 0,
        },
    }
}

fn question<'a>(class: ChannelClass) -> Question<'a> {
    Question {
        now: NOW,
        cluster: CLUSTER,
        organization: Some(ACME),
        role: Some(NodeRole::RelayNode),
        relayed: class.lane(),
        placement: Placement::Anywhere,
        authority_epoch: 4,
        authority: Authority::Healthy,
        class,
        region: None,
    }
}

fn keys_and_pictures() -> LaneSet {
    BTreeSet::from([Lane::Interactive, Lane::Media]).try_into().unwrap()
}

fn ranking(class: ChannelClass, candidates: &[Candidate<'static>]) -> Vec<NodeId> {
    let weights = *Policy::default().weights(class);
    let ranked = rank(&question(class), &weights, candidates, 12);
    ranked.into_iter().map(|one| one.node).collect()
}

#[test]
fn each_of_the_eight_constraints_excludes_by_its_own_name() {
    let nowhere = BTreeSet::new();
    let plain = question(ChannelClass::Interactive);
    let of = |change: &dyn Fn(&mut Candidate<'static>)| {
        let mut candidate = relay(1);
        change(&mut candidate);
        candidate
    };
    let cases: [(Constraint, Question<'_>, Candidate<'static>); 12] = [
        (Constraint::ClusterMembership, plain, of(&|it| it.cluster = ClusterId::from_u128(9))),
        (Constraint::IdentityTrust, plain, of(&|it| it.identity = Identity::Denied)),
        (Constraint::IdentityTrust, plain, of(&|it| it.identity = Identity::Unknown)),
        (
            Constraint::CertificateValidity,
            plain,
            of(&|it| it.certificate_until = Some(Timestamp::from_unix_millis(999_999))),
        ),
        (
            Constraint::OrganizationScope,
            plain,
            of(&|it| it.roles = vec![scope(NodeRole::RelayNode, Some(&[GLOBEX]))].into()),
        ),
        (
            Constraint::RoleAssignment,
            plain,
            of(&|it| it.roles = vec![scope(NodeRole::EntryNode, None)].into()),
        ),
        (Constraint::RoleAssignment, plain, of(&|it| it.roles.to_mut().clear())),
        (
            Constraint::Lane,
            question(ChannelClass::Bulk),
            of(&|it| it.relayed_lanes = keys_and_pictures()),
        ),
        (
            Constraint::Placement,
            Question { placement: Placement::Only(&nowhere), ..plain },
            relay(1),
        ),
        (Constraint::AuthorityState, plain, of(&|it| it.authority_epoch = 3)),
        (
            Constraint::AuthorityState,
            Question { authority: Authority::Isolated { since: NOW }, ..plain },
            relay(1),
        ),
        (
            Constraint::ClusterMembership,
            plain,
            of(&|it| {
                it.cluster = ClusterId::from_u128(9);
                it.identity = Identity::Denied;
                it.roles.to_mut().clear();
            }),
        ),
    ];
    for (expected, question, candidate) in &cases {
        assert_eq!(question.excludes(candidate), Some(*expected), "{candidate:?}");
        let weights = *Policy::default().weights(question.class);
        assert!(rank(question, &weights, [candidate], 12).is_empty());
    }
    let reached: BTreeSet<_> = cases.iter().map(|(constraint, ..)| *constraint).collect();
    assert_eq!(reached.len(), Constraint::ALL.len(), "a constraint without a case");
    let here = BTreeSet::from([node(1)]);
    let fine = Question { placement: Placement::Only(&here), ..plain };
    assert_eq!(fine.excludes(&relay(1)), None);
    assert_eq!(plain.excludes(&of(&|it| it.certificate_until = None)), None, "not shown yet");
    let narrow = of(&|it| it.relayed_lanes = keys_and_pictures());
    assert_eq!(plain.excludes(&narrow), None, "of another lane");
    let company = Question { relayed: None, ..question(ChannelClass::Bulk) };
    assert_eq!(company.excludes(&narrow), None, "nothing is relayed");
}

#[test]
fn a_node_without_roles_may_be_spoken_to_and_nothing_more() {
    let mut bare = relay(1);
    bare.roles.to_mut().clear();
    let company = Question { role: None, organization: None, ..question(ChannelClass::Bulk) };
    assert_eq!(company.excludes(&bare), None);
    let acme = Question { role: None, ..question(ChannelClass::Bulk) };
    assert_eq!(acme.excludes(&bare), Some(Constraint::RoleAssignment));
}

/// What is changed of a relay, the one part that moves by it, and where to.
type Step = (Part, fn(&mut Candidate<'static>), u16);

fn steps_of_measurements() -> Vec<Step> {
    vec![
        (Part::Latency, |it| it.measured.rtt_us = Some(0), 1_000),
        (Part::Latency, |it| it.measured.rtt_us = Some(HALF_RTT_US), 500),
        (Part::Latency, |it| it.measured.rtt_us = Some(u32::MAX), 0),
        (Part::Latency, |it| it.measured.rtt_us = None, UNKNOWN),
        (Part::PacketLoss, |it| it.measured.loss_ppm = Some(0), 1_000),
        (Part::PacketLoss, |it| it.measured.loss_ppm = Some(WORST_LOSS_PPM / 2), 500),
        (Part::PacketLoss, |it| it.measured.loss_ppm = Some(1_000_000), 0),
        (Part::Reliability, |it| it.measured.reliability = Some(0), 0),
        (Part::Reliability, |it| it.measured.reliability = Some(2_000), 1_000),
        (Part::Reliability, |it| it.measured.reliability = None, UNKNOWN),
        (Part::NodeLoad, |it| it.measured.load = Some(0), 1_000),
        (Part::NodeLoad, |it| it.measured.load = Some(250), 750),
        (Part::NodeLoad, |it| it.measured.load = Some(60_000), 0),
        (Part::Bandwidth, |it| it.measured.bandwidth_kbps = Some(0), 0),
        (Part::Bandwidth, |it| it.measured.bandwidth_kbps = Some(1 << 23), 1_000),
        (Part::Bandwidth, |it| it.measured.bandwidth_kbps = Some(u32::MAX), 1_000),
        (Part::RecentFailures, |it| it.measured.failures = 0, 1_000),
        (Part::RecentFailures, |it| it.measured.failures = 1, 600),
        (Part::RecentFailures, |it| it.measured.failures = MOST_FAILURES + 9, 0),
    ]
}

fn named(region: &str) -> Option<Cow<'static, Name>> {
    region.parse().ok().map(Cow::Owned)
}

fn steps_of_what_it_is() -> Vec<Step> {
    vec![
        (Part::RegionDistance, |it| it.region = named("eu-west"), 1_000),
        (Part::RegionDistance, |it| it.region = named("eu-north"), 600),
        (Part::RegionDistance, |it| it.region = named("us-east"), 200),
        (Part::RoleSuitability, |_| {}, 1_000),
        (Part::RoleSuitability, |it| it.roles.to_mut().push(scope(NodeRole::EntryNode, None)), 700),
        (Part::RoleSuitability, |it| it.roles = vec![scope(NodeRole::EntryNode, None)].into(), 300),
        (Part::RoleSuitability, |it| it.roles.to_mut().clear(), 0),
        (Part::Policy, |it| it.preference = Preference::Avoided, 0),
        (Part::Policy, |it| it.preference = Preference::Neutral, UNKNOWN),
        (Part::Policy, |it| it.preference = Preference::Preferred, 1_000),
        (Part::Trust, |it| it.identity = Identity::Proven, 1_000),
        (Part::Trust, |it| it.identity = Identity::Listed, 600),
    ]
}

#[test]
fn each_part_moves_within_its_range_and_alone() {
    let home = "eu-west".parse::<Name>().ok();
    let asked = Question { region: home.as_ref(), ..question(ChannelClass::Bulk) };
    let before = Parts::of(&asked, &relay(1));
    let steps = [steps_of_measurements(), steps_of_what_it_is()].concat();
    for (part, change, expected) in &steps {
        let mut candidate = relay(1);
        change(&mut candidate);
        let parts = Parts::of(&asked, &candidate);
        assert_eq!(parts.get(*part), *expected, "{}", part.as_str());
        let mut others = parts.iter().zip(before.iter()).filter(|(one, _)| one.0 != *part);
        assert!(others.all(|(one, other)| one == other), "{}", part.as_str());
    }
    let moved: BTreeSet<Part> = steps.iter().map(|(part, ..)| *part).collect();
    assert_eq!(moved.len(), Part::ALL.len(), "a part that nothing moves");
}

#[test]
fn what_a_path_is_for_decides_who_is_best() {
    let mut near = relay(1);
    near.measured.rtt_us = Some(2_000);
    near.measured.bandwidth_kbps = Some(20_000);
    near.measured.load = Some(800);
    let mut wide = relay(2);
    wide.measured.rtt_us = Some(60_000);
    wide.measured.bandwidth_kbps = Some(10_000_000);
    wide.measured.load = Some(50);
    let both = [near, wide];
    assert_eq!(ranking(ChannelClass::Interactive, &both)[0], node(1));
    for class in [ChannelClass::Bulk, ChannelClass::Telemetry] {
        assert_eq!(ranking(class, &both)[0], node(2), "{}", class.as_str());
    }
}

#[test]
fn nobody_is_worth_more_for_what_it_says_of_itself_than_one_that_says_nothing() {
    let said = |load, bandwidth_kbps| {
        let mut relay = relay(1);
        (relay.measured.load, relay.measured.bandwidth_kbps) = (load, bandwidth_kbps);
        Parts::of(&question(ChannelClass::Bulk), &relay)
    };
    assert_eq!(said(Some(0), Some(u32::MAX)), said(None, None));
    let most = most_for_one(None).bits_per_second() / 1_000;
    assert_eq!(said(None, u32::try_from(most).ok()), said(None, None), "idle, without a cap");
}

#[test]
fn the_fastest_is_not_the_best_when_it_fails() {
    let mut fast = relay(1);
    fast.measured =
        Measured { rtt_us: Some(1_000), reliability: Some(500), failures: 4, ..fast.measured };
    let steady = relay(2);
    for class in ChannelClass::ALL {
        assert_eq!(ranking(*class, &[fast.clone(), steady.clone()])[0], node(2));
    }
}

#[test]
fn the_platforms_weights_stand_for_the_classes_that_they_are_of() {
    let latency_alone = [(Part::Latency, 1)].into();
    let rule =
        MeshRule { weights: [(ChannelClass::Bulk, latency_alone)].into(), ..MeshRule::default() };
    let (ruled, released) = (Policy::of(&Mesh::from(&rule)), Policy::default());
    for class in ChannelClass::ALL {
        let same = ruled.weights(*class) == released.weights(*class);
        assert_eq!(same, *class != ChannelClass::Bulk, "{class}");
    }
    let counting = ruled.weights(ChannelClass::Bulk).iter().filter(|(_, weight)| *weight > 0);
    assert_eq!(counting.collect::<Vec<_>>(), [(Part::Latency, 1)]);
}

#[test]
fn equal_candidates_come_by_their_ids() {
    let candidates: Vec<_> = [7, 3, 5].into_iter().map(relay).collect();
    assert_eq!(ranking(ChannelClass::Bulk, &candidates), [3, 5, 7].map(node));
}

#[test]
fn an_explanation_names_every_candidate_once() {
    let mut denied = relay(1);
    denied.identity = Identity::Denied;
    let question = question(ChannelClass::Interactive);
    let weights = *Policy::default().weights(question.class);
    let all = explain(&question, &weights, &[denied, relay(2)]);
    assert_eq!(all.len(), 2);
    assert!(matches!(all[0].finding, Finding::Scored { .. }));
    assert_eq!(all[1].finding, Finding::Excluded(Constraint::IdentityTrust));
}

#[test]
fn questions_are_bounded() {
    let many: Vec<_> = (0..MAX_CANDIDATES as u128 + 5).map(relay).collect();
    let question = question(ChannelClass::Bulk);
    let weights = *Policy::default().weights(question.class);
    assert_eq!(rank(&question, &weights, &many, usize::MAX).len(), MAX_CANDIDATES);
    assert_eq!(explain(&question, &weights, &many).len(), MAX_CANDIDATES);
}

fn any_candidate() -> impl Strategy<Value = Candidate<'static>> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<u32>());
    (1..40_u128, numbers, any::<u8>(), 0..4_usize, 0..3_usize, any::<bool>()).prop_map(
        |(number, (rtt, loss, reliability, load, kbps), failures, identity, roles, same)| {
            let mut candidate = relay(number);
            candidate.measured = Measured {
                rtt_us: Some(rtt),
                loss_ppm: Some(loss),
                reliability: Some(reliability),
                load: Some(load),
                bandwidth_kbps: Some(kbps),
                failures,
            };
            let identities =
                [Identity::Denied, Identity::Unknown, Identity::Listed, Identity::Proven];
            candidate.identity = identities[identity];
            candidate.roles = match roles {
                0 => Vec::new().into(),
                1 => vec![scope(NodeRole::RelayNode, Some(&[GLOBEX]))].into(),
                _ => vec![scope(NodeRole::RelayNode, None)].into(),
            };
            candidate.authority_epoch = if same { 4 } else { 5 };
            candidate
        },
    )
}

proptest! {
    #[test]
    fn no_score_leads_past_a_constraint(candidates in prop::collection::vec(any_candidate(), 0..60)) {
        for class in ChannelClass::ALL.iter().copied() {
            let question = question(class);
            let weights = *Policy::default().weights(class);
            let ranked = rank(&question, &weights, &candidates, usize::MAX);
            let allowed =
                candidates.iter().filter(|candidate| question.excludes(candidate).is_none());
            prop_assert_eq!(ranked.len(), allowed.count());
            prop_assert!(ranked.iter().all(|one| one.total <= GREATEST));
            prop_assert!(ranked.is_sorted_by_key(|one| (std::cmp::Reverse(one.total), one.node)));
        }
    }

    #[test]
    fn the_order_does_not_depend_on_how_candidates_are_given(
        candidates in prop::collection::vec(any_candidate(), 0..60),
        most in 0..20_usize,
    ) {
        let question = question(ChannelClass::Interactive);
        let weights = *Policy::default().weights(question.class);
        let all = rank(&question, &weights, &candidates, usize::MAX);
        let turned = rank(&question, &weights, candidates.iter().rev(), usize::MAX);
        prop_assert_eq!(&all, &turned);
        let few = rank(&question, &weights, &candidates, most);
        prop_assert_eq!(&few[..], &all[..most.min(all.len())]);
        let explained = explain(&question, &weights, &candidates);
        let scored = explained.iter().filter_map(|one| match one.finding {
            Finding::Scored { total, .. } => Some(Ranked { node: one.node, total }),
            Finding::Excluded(_) => None,
        });
        prop_assert_eq!(scored.collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_better_measurement_never_lowers_a_score(candidate in any_candidate()) {
        for class in ChannelClass::ALL.iter().copied() {
            let question = question(class);
            let weights = *Policy::default().weights(class);
            let total = |candidate: &Candidate<'_>| weights.total(&Parts::of(&question, candidate));
            let before = total(&candidate);
            let mut better = candidate.clone();
            better.measured.rtt_us = better.measured.rtt_us.map(|rtt| rtt / 2);
            better.measured.loss_ppm = better.measured.loss_ppm.map(|loss| loss / 2);
            better.measured.load = better.measured.load.map(|load| load / 2);
            better.measured.failures = better.measured.failures.saturating_sub(1);
            prop_assert!(total(&better) >= before);
        }
    }
}
