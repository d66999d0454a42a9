#![allow(clippy::unwrap_used)]

mod load;
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
    let said = OrganizationBandwidth { granted, rules: rules.to_vec() };
    Bandwidth { node: None, organizations: [(ACME, said)].into() }
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
    shaper.apply(at(0), acme(cap("8kbit"), &[]));
    assert_eq!(shaped(&mut shaper), [Effect::Shaped { flow: one, shaped: true }]);
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 10_000), Answer::Now(MIN_BURST));
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 7_000), Answer::Later);
    assert_eq!(shaper.ask(at(0), one, Direction::Down, 100), Answer::Now(100), "by itself");
    assert_eq!(shaper.poll_timeout(), Some(at(1_500_000)), "1,500 bytes at 1,000 per second");
    shaper.apply(at(1), Bandwidth::default());
    let granted = Effect::Grant { flow: one, direction: Direction::Up, bytes: 7_000 };
    assert_eq!(shaped(&mut shaper), [Effect::Shaped { flow: one, shaped: false }, granted]);
    assert!(shaper.classes.is_empty() && shaper.named.is_empty());
}

#[test]
fn a_changed_cap_counts_for_who_waits() {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), acme(cap("8kbit"), &[]));
    let one = shaper.open(at(0), flow(1, Lane::Bulk)).unwrap();
    shaper.ask(at(0), one, Direction::Up, MIN_BURST);
    assert_eq!(shaper.ask(at(0), one, Direction::Up, 1_000), Answer::Later);
    shaper.apply(at(0), acme(cap("8mbit"), &[]));
    assert_eq!(shaper.poll_timeout(), Some(at(1_000)));
    shaped(&mut shaper);
    shaper.handle_timeout(at(1_000));
    let granted = Effect::Grant { flow: one, direction: Direction::Up, bytes: 1_000 };
    assert_eq!(shaped(&mut shaper), [granted]);
}

#[test]
fn who_gives_up_or_leaves_is_not_waited_for() {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), acme(cap("8kbit"), &[]));
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
    assert!(shaper.classes.is_empty() && shaper.waiting.is_empty());
    assert_eq!(shaper.poll_timeout(), None);
}

#[test]
fn so_many_flows_are_shaped_and_no_more() {
    let mut shaper = Shaper::default();
    for number in 0..MAX_FLOWS as u128 {
        shaper.open(at(0), flow(number, Lane::Bulk)).unwrap();
    }
    assert_eq!(shaper.open(at(0), flow(0, Lane::Bulk)), Err(Full));
    shaper.close(at(0), FlowId(7));
    shaper.open(at(0), flow(0, Lane::Bulk)).unwrap();
}

#[test]
fn so_many_classes_are_told_apart_and_the_rest_share() {
    let each = Traffic { each: Some(rap_proto::bandwidth::Each::Session), ..Traffic::default() };
    let mut shaper = Shaper::default();
    shaper.apply(at(0), acme(Allowance::default(), &[rule(each, cap("8kbit"))]));
    let flows: Vec<FlowId> = (0..MAX_CLASSES as u128)
        .map(|number| shaper.open(at(0), flow(number, Lane::Bulk)).unwrap())
        .collect();
    let most = MAX_CLASSES + 2;
    assert!(shaper.classes.len() <= most, "{} classes", shaper.classes.len());
    let [.., before, last] = flows[..] else { unreachable!("there are many") };
    assert_eq!(shaper.ask(at(0), flows[0], Direction::Up, MIN_BURST), Answer::Now(MIN_BURST));
    assert_eq!(shaper.ask(at(0), flows[1], Direction::Up, MIN_BURST), Answer::Now(MIN_BURST));
    assert_eq!(shaper.ask(at(0), before, Direction::Up, MIN_BURST), Answer::Now(MIN_BURST));
    assert_eq!(shaper.ask(at(0), last, Direction::Up, MIN_BURST), Answer::Later, "it shares");
    assert_eq!(shaper.status(at(0)).len(), MAX_SHOWN);
}
