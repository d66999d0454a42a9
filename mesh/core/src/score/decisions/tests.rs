#![allow(clippy::unwrap_used)]
use super::*;
use crate::score::{
    Ranked,
    relays::tests::{ACME, known, relay, view, view_of},
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
    decisions.ways(view, asked(target), NOW)[0]
}

#[test]
fn what_is_kept_is_what_would_be_decided_anew() {
    let view = Arc::new(view_of(100, &[relay(2)]));
    let measured: BTreeMap<_, _> =
        (0..60).map(|number| known(&view, number, 3_000 * number as u32, 1_000)).collect();
    let mut decisions = Decisions::default();
    decisions.know(measured.clone());
    for target in (900..920).chain(900..920) {
        let (known, policy) = (&measured, &Policy::default());
        let Asked { organization, class, purpose, .. } = asked(target);
        let view = &view;
        let question =
            RelayQuestion { view, known, policy, organization, class, purpose, now: NOW };
        let order: Vec<Ranked> = question.scores().order(NodeId::from_u128(target));
        let expected = ways(&order, &question.chains(&order));
        assert_eq!(decisions.ways(view, asked(target), NOW), expected);
    }
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (20, 1), "scored for all targets");
}

#[test]
fn other_measurements_and_another_view_leave_nothing_of_what_was_kept() {
    let with_all = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.know(BTreeMap::from([known(&with_all, 1, 10, 1_000)]));
    assert_eq!(first(&mut decisions, &with_all, 900), relay(1).into());
    let measured = BTreeMap::from([known(&with_all, 3, 10, 1_000)]);
    decisions.know(measured.clone());
    assert!(decisions.ways.is_empty() && decisions.scores.is_empty());
    assert_eq!(first(&mut decisions, &with_all, 900), relay(3).into());
    assert_eq!(first(&mut decisions, &with_all, 901), relay(3).into());
    decisions.know(measured);
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (2, 1), "nothing changed");
    let without_it = Arc::new(view(&[relay(3)]));
    assert_ne!(first(&mut decisions, &without_it, 900), relay(3).into());
    assert_eq!((decisions.ways.len(), decisions.scores.len()), (1, 1));
    // Whoever still has the view before is answered by that one.
    assert_eq!(first(&mut decisions, &with_all, 900), relay(3).into());
}

#[test]
fn a_certificate_that_ends_takes_what_rested_on_it() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    decisions.know(BTreeMap::from([known(&view, 1, 10, 1_000)]));
    assert_eq!(decisions.ways(&view, asked(900), NOW)[0], relay(1).into());
    assert_eq!(decisions.ways(&view, asked(900), CERTIFICATES_END)[0], relay(1).into());
    let later = Timestamp::from_unix_millis(CERTIFICATES_END.unix_millis() + 1);
    let ways = decisions.ways(&view, asked(900), later);
    assert!(!ways.is_empty() && !ways.contains(&relay(1).into()), "{ways:?}");
    assert_eq!(decisions.until, None, "nobody else has shown a certificate");
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
fn as_many_scores_are_kept_as_the_limit_says() {
    let view = Arc::new(view(&[]));
    let mut decisions = Decisions::default();
    for number in 0..MAX_SCORES as u128 {
        decisions.ways(&view, of_organization(number), NOW);
    }
    decisions.ways(&view, Asked { target: NodeId::from_u128(901), ..of_organization(0) }, NOW);
    assert_eq!(decisions.scores.len(), MAX_SCORES, "another target takes no more room");
    decisions.ways(&view, of_organization(MAX_SCORES as u128), NOW);
    assert_eq!(decisions.scores.len(), 1);
    let running = Asked { purpose: Use::Running, ..of_organization(MAX_SCORES as u128) };
    decisions.ways(&view, running, NOW);
    let bulk = Asked { class: ChannelClass::Bulk, ..running };
    decisions.ways(&view, bulk, NOW);
    assert_eq!(decisions.scores.len(), 3, "each is another question");
}
