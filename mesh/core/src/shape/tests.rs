#![allow(clippy::unwrap_used)]

mod anything;
mod lanes;
mod load;
mod many;
mod scenarios;

use rap_proto::{
    BitRate, Lane, OrganizationId, ResourceId, ResourceKind, SessionId, UserId,
    bandwidth::{Allowance, BandwidthRule, OrganizationBandwidth, Traffic},
};

use super::*;

pub(super) const ACME: OrganizationId = OrganizationId::from_u128(1);
pub(super) const ZULU: OrganizationId = OrganizationId::from_u128(2);

pub(super) fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

pub(super) fn rate(text: &str) -> BitRate {
    text.parse().unwrap()
}

pub(super) fn cap(text: &str) -> Allowance {
    Allowance { cap: Some(rate(text)), reserved: None }
}

pub(super) fn reserved(text: &str) -> Allowance {
    Allowance { cap: None, reserved: Some(rate(text)) }
}

pub(super) fn rule(traffic: Traffic, allowance: Allowance) -> BandwidthRule {
    BandwidthRule { traffic, allowance }
}

pub(super) fn acme(granted: Allowance, rules: &[BandwidthRule]) -> Bandwidth {
    let said = OrganizationBandwidth { granted, rules: rules.to_vec(), ..Default::default() };
    Bandwidth { organizations: [(ACME, said)].into(), ..Bandwidth::default() }
}

/// A flow of user, session and resource `number`.
pub(super) fn flow(number: u128, lane: Lane) -> FlowOf {
    FlowOf {
        organization: ACME,
        user: UserId::from_u128(number),
        session: SessionId::from_u128(number),
        resource: ResourceId::from_u128(number),
        kind: ResourceKind::Ssh,
        connection: None,
        lane,
    }
}

/// Nothing is left of what was, but so many queues.
pub(super) fn is_as_new(shaper: &Shaper, queues: usize) {
    assert!(shaper.classes.is_empty() && shaper.named.is_empty() && shaper.timers.is_empty());
    assert_eq!((shaper.queues.len(), shaper.alike.len()), (queues, queues));
    assert!(queues > 0 || shaper.counted.is_empty());
    assert_eq!(shaper.poll_timeout(), None);
}

fn shaped(effects: &mut Shaper) -> Vec<Effect> {
    std::iter::from_fn(|| effects.poll_effect()).collect()
}

#[test]
fn without_a_policy_everything_passes_and_nothing_is_counted() {
    let mut shaper = Shaper::default();
    let one = shaper.open(at(0), flow(1, Lane::Bulk)).unwrap();
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 1 << 20), Answer::Now(1 << 20));
    assert!(shaped(&mut shaper).is_empty() && shaper.status(at(0)).is_empty());
    assert_eq!(shaper.poll_timeout(), None);
}

#[test]
fn a_policy_reaches_flows_that_run_and_leaves_them_again() {
    let mut shaper = Shaper::default();
    let one = shaper.open(at(0), flow(1, Lane::Bulk)).unwrap();
    shaper.apply(at(0), &acme(cap("8kbit"), &[]));
    assert_eq!(shaped(&mut shaper), [Effect::Shaped { flow: one, shaped: true }]);
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 10_000), Answer::Now(MIN_BURST));
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 7_000), Answer::Later);
    assert_eq!(shaper.ask(at(0), one, Direction::Down, 100), Answer::Now(100), "by itself");
    assert_eq!(shaper.poll_timeout(), Some(at(1_500_000)), "1,500 bytes at 1,000 per second");
    shaper.apply(at(1), &Bandwidth::default());
    let granted = Effect::Grant { flow: one, direction: Direction::Up, bytes: 7_000 };
    assert_eq!(shaped(&mut shaper), [Effect::Shaped { flow: one, shaped: false }, granted]);
    is_as_new(&shaper, 1);
}

#[test]
fn a_changed_cap_counts_for_who_waits() {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), &acme(cap("8kbit"), &[]));
    let one = shaper.open(at(0), flow(1, Lane::Bulk)).unwrap();
    shaper.ask(at(0), one, Direction::Up, MIN_BURST);
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 1_000), Answer::Later);
    shaper.apply(at(0), &acme(cap("8mbit"), &[]));
    assert_eq!(shaper.poll_timeout(), Some(at(1_000)));
    shaped(&mut shaper);
    shaper.handle_timeout(at(1_000));
    let granted = Effect::Grant { flow: one, direction: Direction::Up, bytes: 1_000 };
    assert_eq!(shaped(&mut shaper), [granted]);
}

#[test]
fn what_does_not_pass_is_there_for_who_waits() {
    let (up, burst) = (Direction::Up, 50_000);
    for said in [acme(cap("8mbit"), &[]), acme(Allowance::default(), &[all_of_it()])] {
        let mut shaper = Shaper::default();
        shaper.apply(at(0), &said);
        let [one, two] = [1, 2].map(|n| shaper.open(at(0), flow(n, Lane::Bulk)).unwrap());
        assert_eq!(shaper.ask(at(0), one, up, burst), Answer::Now(burst));
        assert_eq!(shaper.ask(at(0), two, up, 4_000), Answer::Later);
        shaped(&mut shaper);
        shaper.give_back(at(0), one, up, 10_000);
        assert_eq!(shaped(&mut shaper), [Effect::Grant { flow: two, direction: up, bytes: 4_000 }]);
        assert_eq!(shaper.counts(up).bytes, burst as u64 - 6_000);
        assert_eq!(shaper.ask(at(0), one, up, burst), Answer::Now(6_000), "no more than was given");
        shaper.close(at(0), one);
        shaper.give_back(at(0), one, up, burst);
        assert_eq!(shaper.ask(at(0), two, up, 4_000), Answer::Later, "it is no flow any more");
    }
}

fn all_of_it() -> BandwidthRule {
    rule(Traffic::default(), cap("8mbit"))
}

#[test]
fn who_gives_up_or_leaves_is_not_waited_for() {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), &acme(cap("8kbit"), &[]));
    let [one, two] = [1, 2].map(|n| shaper.open(at(0), flow(n, Lane::Bulk)).unwrap());
    shaper.ask(at(0), one, Direction::Up, MIN_BURST);
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 1_000), Answer::Later);
    assert_eq!(shaper.ask(at(0), two, Direction::Up, 1_000), Answer::Later);
    shaper.give_up(at(0), one, Direction::Up);
    shaper.close(at(0), one);
    shaped(&mut shaper);
    shaper.handle_timeout(at(1_000_000));
    let granted = Effect::Grant { flow: two, direction: Direction::Up, bytes: 1_000 };
    assert_eq!(shaped(&mut shaper), [granted]);
    shaper.close(at(2_000_000), two);
    is_as_new(&shaper, 0);
}

#[test]
fn so_many_flows_are_shaped_and_no_more() {
    let mut shaper = Shaper::default();
    let of = |organization: u128, number: u128| FlowOf {
        organization: OrganizationId::from_u128(organization),
        ..flow(number, Lane::Bulk)
    };
    for number in 0..MAX_FLOWS_OF_ONE as u128 {
        shaper.open(at(0), of(1, number % 100)).unwrap();
    }
    assert_eq!(shaper.open(at(0), of(1, 0)), Err(Full), "one organization leaves places");
    for number in 0..(MAX_FLOWS - MAX_FLOWS_OF_ONE) as u128 {
        shaper.open(at(0), of(2, number % 100)).unwrap();
    }
    assert_eq!(shaper.open(at(0), of(3, 0)), Err(Full));
    shaper.close(at(0), FlowId(7));
    shaper.open(at(0), of(3, 0)).unwrap();
}

#[test]
fn so_many_classes_are_told_apart_and_the_rest_share() {
    let each = Traffic { each: Some(rap_proto::bandwidth::Each::Session), ..Traffic::default() };
    let said = OrganizationBandwidth {
        rules: vec![rule(each, cap("8kbit"))],
        ..OrganizationBandwidth::default()
    };
    let organization = OrganizationId::from_u128;
    let full = MAX_CLASSES.div_ceil(MAX_CLASSES_OF_ONE) as u128;
    let mut shaper = Shaper::default();
    let organizations = (0..=full).map(|number| (organization(number), said.clone())).collect();
    shaper.apply(at(0), &Bandwidth { organizations, ..Bandwidth::default() });
    let mut open = |of: u128, number: u128| {
        let of = FlowOf { organization: organization(of), ..flow(number, Lane::Bulk) };
        shaper.open(at(0), of).unwrap()
    };
    let [alone, other] = [0, 1].map(|number| open(full, number));
    let crowds: Vec<Vec<FlowId>> = (0..full)
        .map(|of| (0..=MAX_CLASSES_OF_ONE as u128 + 1).map(|number| open(of, number)).collect())
        .collect();
    // Of each organization its own class, and the one that the rest shares.
    let most = MAX_CLASSES + 2 * full as usize + 2;
    assert!(shaper.classes.len() <= most, "{} classes", shaper.classes.len());
    let mut takes_all =
        |flow| shaper.ask(at(0), flow, Direction::Up, MIN_BURST) == Answer::Now(MIN_BURST);
    for crowd in &crowds {
        let [first, second, .., before, last] = crowd[..] else { unreachable!("there are many") };
        assert!(takes_all(first) && takes_all(second) && takes_all(before));
        assert!(!takes_all(last), "it shares");
    }
    assert!(takes_all(alone) && takes_all(other), "others crowd nobody together");
    assert_eq!(shaper.status(at(0)).len(), MAX_SHOWN);
}

#[test]
fn what_waits_and_passes_is_counted_and_names_nobody() {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), &acme(cap("8mbit"), &[]));
    let one = shaper.open(at(0), flow(1, Lane::Bulk)).unwrap();
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 50_000), Answer::Now(50_000));
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 1_000), Answer::Later);
    shaper.handle_timeout(at(1_000));
    let Counts { bytes, waits, waited, .. } = shaper.counts(Direction::Up);
    assert_eq!((bytes, waits, waited), (51_000, 1, Duration::from_millis(1)));
    assert_eq!(shaper.counts(Direction::Down), Counts::default());
}
