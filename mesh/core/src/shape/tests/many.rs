//! Thousands that wait: what one more costs, and that nothing is left of them.

use rap_proto::bandwidth::Each;

use super::*;

const MANY: u128 = 5_000;

fn steps(shaper: &Shaper) -> u64 {
    shaper.counts(Direction::Up).steps
}

/// As many sessions that wait as `MANY`.
fn crowd(policy: &Bandwidth) -> (Shaper, Vec<FlowId>) {
    let mut shaper = Shaper::default();
    shaper.apply(at(0), policy);
    let flows: Vec<FlowId> =
        (0..MANY).map(|number| shaper.open(at(0), flow(number, Lane::Bulk)).unwrap()).collect();
    for flow in &flows {
        // The first takes what there is.
        while let Answer::Now(_) = shaper.ask(at(0), *flow, Direction::Up, MAX_GRANT) {}
    }
    while shaper.poll_effect().is_some() {}
    (shaper, flows)
}

fn policies() -> [(&'static str, Bandwidth); 3] {
    let bulk = Traffic { lane: Some(Lane::Bulk), ..Traffic::default() };
    let each = Traffic { each: Some(Each::Session), ..Traffic::default() };
    let nested = [rule(bulk, cap("8mbit")), rule(each, cap("1mbit"))];
    [
        ("an organization's cap", acme(cap("8mbit"), &[])),
        ("a rule's cap", acme(Allowance::default(), &nested[..1])),
        ("a rule's cap and one for each", acme(cap("80mbit"), &nested)),
    ]
}

#[test]
fn one_more_costs_no_more_when_thousands_wait() {
    for (what, policy) in policies() {
        let (mut shaper, flows) = crowd(&policy);
        let one = shaper.open(at(0), flow(MANY, Lane::Interactive)).unwrap();
        let before = steps(&shaper);
        shaper.ask(at(0), one, Direction::Up, 100);
        assert!(steps(&shaper) - before <= 4, "{what}: {} steps", steps(&shaper) - before);
        let before = steps(&shaper);
        shaper.give_up(at(0), flows[7], Direction::Up);
        shaper.close(at(0), flows[8]);
        assert!(steps(&shaper) - before <= 8, "{what}: {} steps", steps(&shaper) - before);
    }
}

#[test]
fn a_grant_costs_no_more_when_thousands_wait() {
    for (what, policy) in policies() {
        let (mut shaper, _) = crowd(&policy);
        let (before, mut grants) = (steps(&shaper), 0);
        while let Some(wake) = shaper.poll_timeout().filter(|wake| *wake <= at(500_000)) {
            shaper.handle_timeout(wake);
            grants += std::iter::from_fn(|| shaper.poll_effect()).count() as u64;
        }
        assert!(grants >= 50, "{what}: {grants} grants");
        // Whoever was granted something asks no more here: those of others move once to their own
        // cap, and the rest stays where it is.
        let taken = steps(&shaper) - before;
        assert!(taken <= 8 * grants + MANY as u64, "{what}: {taken} steps for {grants} grants");
    }
}

#[test]
fn no_input_takes_more_than_so_many_steps_and_the_rest_follows() {
    let (mut shaper, flows) = crowd(&acme(cap("8kbit"), &[]));
    shaper.apply(at(1_000), &acme(cap("100gbit"), &[]));
    // Then there is a burst, which is enough for all.
    let mut now = 100_000;
    let (mut granted, mut before) = (0, steps(&shaper));
    shaper.handle_timeout(at(now));
    assert_eq!(steps(&shaper) - before, MAX_STEPS as u64, "as many as may be");
    assert_eq!(shaper.poll_timeout(), Some(at(now) + TICK));
    while granted < flows.len() {
        before = steps(&shaper);
        now += 1_000;
        shaper.handle_timeout(at(now));
        let effects = std::iter::from_fn(|| shaper.poll_effect());
        granted += effects.filter(|effect| matches!(effect, Effect::Grant { .. })).count();
        assert!(steps(&shaper) - before <= MAX_STEPS as u64);
        assert!(now < 1_000_000, "{granted} were granted");
    }
}

#[test]
fn a_policy_moves_so_many_queues_at_a_time_and_the_rest_follows() {
    let mut shaper = Shaper::default();
    for number in 0..MANY {
        shaper.open(at(0), flow(number, Lane::Bulk)).unwrap();
    }
    shaper.apply(at(0), &acme(cap("8mbit"), &[]));
    let shaped = |shaper: &mut Shaper| {
        let effects = std::iter::from_fn(|| shaper.poll_effect());
        effects.filter(|effect| matches!(effect, Effect::Shaped { shaped: true, .. })).count()
    };
    assert_eq!(shaped(&mut shaper), MAX_MOVES);
    let mut moved = MAX_MOVES;
    while let Some(wake) = shaper.poll_timeout() {
        shaper.handle_timeout(wake);
        let more = shaped(&mut shaper);
        assert!(more <= MAX_MOVES);
        moved += more;
    }
    assert_eq!(moved, MANY as usize);
    assert!(shaper.moving.is_empty());
}

#[test]
fn nothing_is_left_of_thousands_that_leave() {
    for (_, policy) in policies() {
        let (mut shaper, flows) = crowd(&policy);
        for flow in flows {
            shaper.close(at(0), flow);
        }
        is_as_new(&shaper, 0);
    }
}
