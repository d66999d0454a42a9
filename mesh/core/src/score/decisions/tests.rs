#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use rap_proto::mesh::{Mesh, MeshRule};

use super::*;
use crate::{
    paths,
    score::{
        Part, Policy, Ranked,
        relays::tests::{ACME, known, relay, view, view_of},
    },
};

const NOW: Timestamp = Timestamp::from_unix_millis(2_000);
/// When the certificates of [`known`] end.
const CERTIFICATES_END: Timestamp = Timestamp::from_unix_millis(5_000);

fn asked(target: u128) -> Asked {
    Asked {
        target: NodeId::from_u128(target),
        organization: ACME,
        class: ChannelClass::Interactive,
        purpose: Use::New,
    }
}

fn of_organization(number: u128) -> Asked {
    Asked { organization: OrganizationId::from_u128(number), ..asked(900) }
}

fn first(decisions: &mut Decisions, view: &Arc<View>, target: u128) -> paths::Candidate {
    decisions.ways(view, asked(target), NOW)[0].path
}

#[test]
fn what_is_kept_is_what_would_be_decided_anew() {
    let view = Arc::new(view_of(100, &[relay(2)]));
    let measured: BTreeMap<_, _> =
        (0..60).map(|number| known(&view, number, 3_000 * number as u32, 1_000)).collect();
    let mut decisions = Decisions::default();
    decisions.know(measured.clone());
    let measured = Known::from(measured);
    for target in (900..920).chain(900..920) {
        let known = &measured;
        let Asked { organization, class, purpose, .. } = asked(target);
        let view = &view;
        let question = RelayQuestion { view, known, organization, class, purpose, now: NOW };
        let order: Vec<Ranked> = question.scores().order(NodeId::from_u128(target));
        let expected = ways(&order, &question.chains(&order));
        assert_eq!(decisions.ways(view, asked(target), NOW), expected);
    }
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (20, 1), "scored for all targets");
}

#[test]
fn other_measurements_and_another_view_leave_no_way_of_those_that_were_kept() {
    let with_all = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.know(BTreeMap::from([known(&with_all, 1, 10, 1_000)]));
    assert_eq!(first(&mut decisions, &with_all, 900), relay(1).into());
    let measured = BTreeMap::from([known(&with_all, 3, 10, 1_000)]);
    assert!(decisions.know(measured.clone()));
    assert_eq!(first(&mut decisions, &with_all, 900), relay(3).into());
    assert_eq!(first(&mut decisions, &with_all, 901), relay(3).into());
    assert!(!decisions.know(measured));
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (2, 1), "nothing changed");
    let without_it = Arc::new(view(&[relay(3)]));
    assert_ne!(first(&mut decisions, &without_it, 900), relay(3).into());
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (1, 1));
    // Whoever still has the view before is answered by that one.
    assert_eq!(first(&mut decisions, &with_all, 900), relay(3).into());
}

#[test]
fn the_weights_of_a_newer_view_turn_the_order_of_two_relays() {
    let only = |part| {
        let weights = [(ChannelClass::Interactive, [(part, 1)].into())].into();
        let rule = MeshRule { weights, ..MeshRule::default() };
        let mut view = view(&[]);
        view.weights = Policy::of(&Mesh::from(&rule));
        Arc::new(view)
    };
    let (by_latency, by_load) = (only(Part::Latency), only(Part::NodeLoad));
    let mut known = BTreeMap::from([
        known(&by_latency, 1, 1_000, 1_000),
        known(&by_latency, 3, 100_000, 1_000),
    ]);
    for (relay, load) in known.values_mut().zip([900, 0]) {
        relay.measured.load = Some(load);
    }
    let mut decisions = Decisions::default();
    decisions.know(known);
    for (view, better) in [(&by_latency, 1), (&by_load, 3), (&by_latency, 1)] {
        let ways = decisions.ways(view, asked(900), NOW).iter().map(|way| way.path);
        let of_both = ways.filter(|path| [relay(1).into(), relay(3).into()].contains(path));
        assert_eq!(of_both.collect::<Vec<_>>()[0], relay(better).into());
    }
}

#[test]
fn a_certificate_that_ends_takes_what_rested_on_it() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.know(BTreeMap::from([known(&view, 1, 10, 1_000)]));
    assert_eq!(decisions.ways(&view, asked(900), NOW)[0].path, relay(1).into());
    assert_eq!(decisions.ways(&view, asked(900), CERTIFICATES_END)[0].path, relay(1).into());
    let later = Timestamp::from_unix_millis(CERTIFICATES_END.unix_millis() + 1);
    let ways = decisions.ways(&view, asked(900), later);
    let leads_there = |way: &Way| way.path.relays().contains(&relay(1));
    assert!(!ways.is_empty() && !ways.iter().any(leads_there), "{ways:?}");
    assert_eq!(decisions.scores.until(), None, "nobody else has shown a certificate");
}

#[test]
fn a_certificate_that_ends_takes_nothing_of_what_runs() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.know(BTreeMap::from([known(&view, 1, 10, 1_000)]));
    let running = Asked { purpose: Use::Running, ..asked(900) };
    let before = decisions.ways(&view, running, NOW).to_vec();
    decisions.ways(&view, asked(900), NOW);
    decisions.ways(&view, asked(901), NOW);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (3, 2));
    let later = Timestamp::from_unix_millis(CERTIFICATES_END.unix_millis() + 1);
    decisions.ways(&view, asked(902), later);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (2, 2), "and what begins anew");
    assert_eq!(decisions.ways.get(&running), Some(&before));
    // So what is measured next is compared with what it was, and wakes only whom it concerns.
    decisions.know(BTreeMap::from([known(&view, 1, 90_000, 1_000)]));
    let changes = decisions.follow(later);
    assert_eq!(changes.of(running.scored()).map(<[Change]>::len), Some(1));
}

#[test]
fn as_many_ways_are_kept_as_the_limit_says_and_their_scores_stay() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    for target in 0..MAX_DECISIONS as u128 {
        decisions.ways(&view, asked(10_000 + target), NOW);
    }
    decisions.ways(&view, asked(10_000), NOW);
    assert_eq!(decisions.ways.len(), MAX_DECISIONS, "the same question takes no more room");
    decisions.ways(&view, asked(9_000), NOW);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (1, 1));
}

#[test]
fn as_many_scores_are_kept_as_the_limit_says_and_the_least_lately_asked_go() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    let last = MAX_SCORES as u128;
    for number in 0..last {
        decisions.ways(&view, of_organization(number), NOW);
    }
    decisions.ways(&view, Asked { target: NodeId::from_u128(901), ..of_organization(0) }, NOW);
    decisions.ways(&view, of_organization(1), NOW);
    assert_eq!(decisions.scores.len(), MAX_SCORES, "another target takes no more room");
    decisions.ways(&view, of_organization(last), NOW);
    assert_eq!(decisions.scores.len(), MAX_SCORES);
    assert_eq!(decisions.ways.len(), MAX_SCORES + 1, "none without its scores");
    decisions.know(BTreeMap::from([known(&view, 2, 10, 1_000)]));
    let changes = decisions.follow(NOW);
    let kept = |number| changes.of(of_organization(number).scored()).is_some();
    let gone: Vec<u128> = (0..=last).filter(|number| !kept(*number)).collect();
    assert_eq!(gone, [2], "two others were asked again, one of them for ways that were kept");
}

#[test]
fn each_organization_class_and_purpose_is_another_question() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    let running = Asked { purpose: Use::Running, ..asked(900) };
    let bulk = Asked { class: ChannelClass::Bulk, ..running };
    for asked in [asked(900), running, bulk, of_organization(7)] {
        decisions.ways(&view, asked, NOW);
    }
    assert_eq!(decisions.scores.len(), 4);
}

#[test]
fn what_is_measured_of_others_than_relays_takes_nothing() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.ways(&view, asked(900), NOW);
    decisions.know(BTreeMap::from([known(&view, 50, 10, 1_000)]));
    decisions.follow(NOW);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (1, 1));
    decisions.know(BTreeMap::from([known(&view, 2, 10, 1_000)]));
    decisions.follow(NOW);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (0, 1), "scores follow");
}

/// Of one relay at a time: nothing, or a round trip, a reliability, and the end of a certificate.
type Told = Option<(u32, u16, i64)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_follows_measurements_is_what_would_be_decided_anew(
        changes in prop::collection::vec(
            (0..10_u128, prop::option::of((0..400_000_u32, 0..=1_000_u16, 1_000..6_000_i64))),
            1..40,
        ),
    ) {
        let view = Arc::new(view(&[relay(2)]));
        let (mut decisions, mut measured) = (Decisions::default(), BTreeMap::new());
        for (number, change) in changes {
            know(&view, &mut measured, number, change);
            decisions.know(measured.clone());
            let mut anew = Decisions::default();
            anew.know(measured.clone());
            for target in [900, 901] {
                let expected = anew.ways(&view, asked(target), NOW).to_vec();
                prop_assert_eq!(decisions.ways(&view, asked(target), NOW), expected);
            }
            prop_assert!(decisions.scores.until() <= anew.scores.until() || anew.scores.until().is_none());
        }
    }
}

fn know(
    view: &View,
    measured: &mut BTreeMap<NodeId, Candidate<'static>>,
    number: u128,
    change: Told,
) {
    let Some((rtt_us, reliability, until)) = change else {
        measured.remove(&relay(number));
        return;
    };
    let (node, mut candidate) = known(view, number, rtt_us, reliability);
    candidate.certificate_until = Some(Timestamp::from_unix_millis(until));
    measured.insert(node, candidate);
}
