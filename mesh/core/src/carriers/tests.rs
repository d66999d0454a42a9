#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rap_proto::carriers::{CarrierRule, CarrierRuling::Auto};

use super::*;
use crate::shape::Direction;

const START: Moment = Moment::from_micros(1_000_000);
const SECOND: Duration = Duration::from_secs(1);
/// What one flow is measured to pass: more than [`MIN_SAMPLES`].
const WINDOWS: usize = 4;

/// A lane, and its flows one after the other.
struct World {
    choice: Choice,
    now: Moment,
    quic: u64,
    tcp: u64,
}

impl World {
    fn new(lane: Lane, quic: u64, tcp: u64) -> Self {
        Self { choice: Choice::new(lane), now: START, quic, tcp }
    }

    /// One flow that lasts for as many windows as are measured.
    fn flow(&mut self, chance: u64) -> Chosen {
        let chosen = self.choice.choose(self.now, Auto, chance).unwrap();
        let rate = if chosen.first == Carrier::Quic { self.quic } else { self.tcp };
        for _ in 0..WINDOWS {
            self.now = self.now + SECOND;
            self.choice.measured(self.now, chosen.first, down(rate));
        }
        chosen
    }
}

const fn down(bytes_per_second: u64) -> Measure {
    Measure::Rate { direction: Direction::Down, bytes_per_second }
}

const fn opened(ms: u64) -> Measure {
    Measure::Opened { took: Duration::from_millis(ms) }
}

fn measured(choice: &mut Choice, now: Moment, carrier: Carrier, measure: Measure) {
    (0..SAMPLES).for_each(|_| choice.measured(now, carrier, measure));
}

#[test]
fn the_third_flow_on_a_slow_lane_takes_the_carrier_that_is_faster() {
    let mut world = World::new(Lane::Bulk, 4_000_000, 300_000);
    let [first, second, third] = [0, 1, 2].map(|chance| world.flow(chance));
    assert_eq!((first.first, first.reason), (Carrier::Tcp, Reason::Prior));
    assert_eq!((second.first, second.reason), (Carrier::Quic, Reason::Trial));
    assert_eq!((third.first, third.reason), (Carrier::Quic, Reason::Measured));
    assert_eq!(third.other, Some(Carrier::Tcp), "it is still there");
}

#[test]
fn a_lane_that_loses_its_rate_looks_at_the_other_carrier_at_once() {
    let mut world = World::new(Lane::Bulk, 40_000_000, 100_000_000);
    for chance in 0..3 {
        assert_eq!(world.flow(chance).first, Carrier::Tcp);
    }
    world.tcp = 10_000_000;
    let flows: Vec<Chosen> = (0..5).map(|chance| world.flow(chance)).collect();
    assert!(flows.iter().any(|chosen| chosen.reason == Reason::Trial));
    let last = flows[flows.len() - 1];
    assert_eq!((last.first, last.reason), (Carrier::Quic, Reason::Measured));
    assert_eq!(world.choice.status(world.now).changes, 1);
}

#[test]
fn what_is_better_by_less_than_the_margin_changes_nothing() {
    let mut world = World::new(Lane::Bulk, 1_499_000, 1_000_000);
    for chance in 0..200 {
        world.flow(chance);
    }
    assert_eq!(world.choice.status(world.now).leading, Carrier::Tcp);
    assert_eq!(world.choice.status(world.now).changes, 0);
}

#[test]
fn a_carrier_that_never_gets_through_is_tried_ever_more_rarely() {
    let mut choice = Choice::new(Lane::Bulk);
    let mut tried = Vec::new();
    for second in 0..3600 {
        let now = START + second * SECOND;
        choice.measured(now, Carrier::Tcp, down(SLOW_RATE - 1));
        let chosen = choice.choose(now, Auto, 0).unwrap();
        if chosen.reason == Reason::Trial {
            tried.push(second);
        }
    }
    let pauses: Vec<u32> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..4], [30, 60, 120, 240]);
    assert!(pauses[4..].iter().all(|pause| *pause >= 300), "{pauses:?}");
    assert_eq!(choice.status(START).leading, Carrier::Tcp);
}

#[test]
fn a_fast_lane_is_tried_rarely_and_changes_when_the_other_is_better() {
    let mut world = World::new(Lane::Bulk, 90_000_000, 30_000_000);
    let mut chosen = world.flow(0);
    while chosen.reason != Reason::Trial {
        chosen = world.flow(0);
        assert!(world.now.since(START) <= TRIAL_PAUSE, "there is a trial by then");
    }
    assert!(world.now.since(START) >= TRIAL_PAUSE / 2);
    assert_eq!(world.flow(0).first, Carrier::Quic);
}

#[test]
fn a_lane_returns_to_what_suits_it_when_nothing_is_known_any_more() {
    let mut world = World::new(Lane::Bulk, 4_000_000, 300_000);
    for chance in 0..3 {
        world.flow(chance);
    }
    assert_eq!(world.choice.status(world.now).leading, Carrier::Quic);
    world.now = world.now + FRESH_FOR;
    let chosen = world.choice.choose(world.now, Auto, 0).unwrap();
    assert_eq!((chosen.first, chosen.reason), (Carrier::Tcp, Reason::Prior));
}

#[test]
fn both_directions_count_as_far_as_both_carriers_know_them() {
    let up = |bytes_per_second| Measure::Rate { direction: Direction::Up, bytes_per_second };
    let mut choice = Choice::new(Lane::Bulk);
    measured(&mut choice, START, Carrier::Tcp, up(900_000_000));
    measured(&mut choice, START, Carrier::Quic, up(400_000_000));
    measured(&mut choice, START, Carrier::Tcp, down(5_000_000));
    assert_eq!(
        choice.choose(START, Auto, 0).unwrap().first,
        Carrier::Tcp,
        "only upwards is known of both"
    );
    measured(&mut choice, START, Carrier::Quic, down(90_000_000));
    let chosen = choice.choose(START, Auto, 0).unwrap();
    assert_eq!((chosen.first, chosen.reason), (Carrier::Quic, Reason::Measured));
}

#[test]
fn keys_leave_quic_only_when_its_answers_come_much_later() {
    for lane in [Lane::Interactive, Lane::Media] {
        let mut choice = Choice::new(lane);
        measured(&mut choice, START, Carrier::Quic, opened(12));
        measured(&mut choice, START, Carrier::Tcp, opened(3));
        assert_eq!(
            choice.choose(START, Auto, 0).unwrap().first,
            Carrier::Quic,
            "nobody feels that"
        );
        measured(&mut choice, START, Carrier::Quic, opened(200));
        measured(&mut choice, START, Carrier::Tcp, opened(90));
        let chosen = choice.choose(START, Auto, 0).unwrap();
        assert_eq!((chosen.first, chosen.reason), (Carrier::Tcp, Reason::Measured));
    }
}

#[test]
fn too_few_samples_say_nothing_and_the_oldest_of_too_many_goes() {
    let mut choice = Choice::new(Lane::Bulk);
    for _ in 1..MIN_SAMPLES {
        choice.measured(START, Carrier::Tcp, down(100));
    }
    assert_eq!(choice.status(START).tcp.down, None);
    choice.measured(START, Carrier::Tcp, down(100));
    assert_eq!(choice.status(START).tcp.down, Some(100));
    measured(&mut choice, START, Carrier::Tcp, down(7));
    assert_eq!(choice.status(START).tcp.down, Some(7), "{SAMPLES} are kept");
    assert_eq!(choice.status(START + FRESH_FOR).tcp.down, None);
}

#[test]
fn a_few_slow_resources_and_one_burst_do_not_make_a_rate() {
    let mut choice = Choice::new(Lane::Bulk);
    for rate in [100, 1_000, 100, 1_000, 90_000, 100, 1_000, 100, 1_000] {
        choice.measured(START, Carrier::Tcp, down(rate));
    }
    assert_eq!(choice.status(START).tcp.down, Some(1_000));
}

/// A flow that passes so much each 50 ms, and waits for its lane for this part of it.
fn metered(direction: Direction, bytes: u64, waited: Duration) -> Vec<Option<(Carrier, u64)>> {
    let (mut meter, mut now, mut taken) = (Meter::new(direction), START, Vec::new());
    for _ in 0..70 {
        if meter.passed(now, bytes, waited) {
            taken.push(meter.take(now, Some(Carrier::Tcp)));
        }
        now = now + Duration::from_millis(50);
    }
    taken
}

#[test]
fn a_flow_is_measured_while_it_waits_for_its_lane_but_for_its_first_window() {
    for direction in Direction::ALL {
        let rates = metered(direction, 50_000, Duration::from_millis(30));
        assert_eq!(rates, [None, Some((Carrier::Tcp, 1_000_000)), Some((Carrier::Tcp, 1_000_000))]);
        let waits_elsewhere = metered(direction, 50_000, Duration::from_millis(20));
        assert_eq!(waits_elsewhere, [None; 3]);
    }
}

#[test]
fn a_source_that_has_nothing_is_no_rate_where_it_cannot_be_told_from_the_lane() {
    let little = MIN_BYTES / 20 - 1;
    let waited = Duration::from_millis(50);
    assert_eq!(metered(Direction::Down, little, waited), [None; 3]);
    assert!(metered(Direction::Up, little, waited)[1].is_some(), "who sends knows");
    for (direction, is_rate) in [(Direction::Up, true), (Direction::Down, false)] {
        let (mut meter, pause) = (Meter::new(direction), LONGEST_WAIT + SECOND);
        assert!(!meter.passed(START, MIN_BYTES, Duration::ZERO));
        let (first, second) = (START + pause, START + pause + pause);
        assert!(meter.passed(first, MIN_BYTES, pause));
        assert_eq!(meter.take(first, Some(Carrier::Quic)), None);
        assert!(meter.passed(second, MIN_BYTES, pause));
        assert_eq!(meter.take(second, Some(Carrier::Quic)).is_some(), is_rate);
    }
}

#[test]
fn a_window_on_two_carriers_is_none() {
    let mut meter = Meter::new(Direction::Up);
    let mut now = START;
    let mut next = |carrier| {
        meter.passed(now, 1_000_000, SECOND);
        now = now + SECOND;
        meter.take(now, carrier)
    };
    assert_eq!(next(Some(Carrier::Tcp)), None);
    assert!(next(Some(Carrier::Tcp)).is_some());
    assert_eq!(next(Some(Carrier::Quic)), None);
    assert_eq!(next(None), None);
    assert_eq!(next(Some(Carrier::Quic)), None);
    assert!(next(Some(Carrier::Quic)).is_some());
}

/// A lane on which QUIC took the lead, with flows that run on TCP since the start.
fn overtaken() -> World {
    let mut world = World::new(Lane::Bulk, 4_000_000, 300_000);
    for chance in 0..3 {
        world.flow(chance);
    }
    assert_eq!(world.choice.status(world.now).leading, Carrier::Quic);
    world
}

#[test]
fn flows_that_run_follow_a_lead_that_stays_two_at_a_time_and_never_those_that_just_began() {
    let World { mut choice, mut now, .. } = overtaken();
    let first = now;
    while !choice.leaves(now, Auto, Carrier::Tcp, START) {
        assert!(now.since(first) < FOLLOW_AFTER, "the lead stayed for so long");
        now = now + SECOND;
    }
    assert_eq!(now.since(first), FOLLOW_AFTER);
    let young = now;
    assert!(!choice.leaves(now, Auto, Carrier::Tcp, young), "it may be over soon");
    assert!(!choice.leaves(now, Auto, Carrier::Quic, START), "it is where it should be");
    for ruling in CarrierRuling::ALL.iter().filter(|ruling| **ruling != Auto) {
        assert!(!choice.leaves(now, *ruling, Carrier::Tcp, START), "people said it");
    }
    let went = (1..10).filter(|_| choice.leaves(now, Auto, Carrier::Tcp, START)).count();
    assert_eq!(1 + went, MAX_GOING);
    now = now + GOING_WITHIN;
    assert!(choice.leaves(now, Auto, Carrier::Tcp, young), "the next, when these are over");
    assert_eq!(choice.status(now).followed, 3);
}

#[test]
fn a_lead_that_is_no_margin_any_more_is_not_followed_and_counts_anew_when_it_is_one() {
    let World { mut choice, mut now, .. } = overtaken();
    assert!(!choice.leaves(now, Auto, Carrier::Tcp, START));
    now = now + FOLLOW_AFTER;
    measured(&mut choice, now, Carrier::Tcp, down(3_900_000));
    assert!(!choice.leaves(now, Auto, Carrier::Tcp, START), "they are equal now");
    measured(&mut choice, now, Carrier::Tcp, down(300_000));
    assert!(!choice.leaves(now, Auto, Carrier::Tcp, START));
    now = now + FOLLOW_AFTER;
    assert!(choice.leaves(now, Auto, Carrier::Tcp, START));
}

#[test]
fn the_flow_of_a_trial_comes_back_and_a_flow_for_keys_stays() {
    let mut world = World::new(Lane::Bulk, 300_000, 1_000_000);
    let [_, trial] = [0, 1].map(|chance| world.flow(chance));
    assert_eq!((trial.first, trial.reason), (Carrier::Quic, Reason::Trial));
    let (mut choice, now) = (world.choice, world.now);
    assert!(!choice.leaves(now, Auto, Carrier::Quic, now));
    assert!(choice.leaves(now + FOLLOW_AFTER, Auto, Carrier::Quic, now));

    let mut keys = Choice::new(Lane::Interactive);
    measured(&mut keys, START, Carrier::Quic, opened(200));
    measured(&mut keys, START, Carrier::Tcp, opened(90));
    for seconds in 0..30 {
        assert!(!keys.leaves(START + seconds * SECOND, Auto, Carrier::Quic, START));
    }
}

fn rules() -> impl Strategy<Value = Option<CarrierRule>> {
    prop::option::of(prop::sample::select(CarrierRule::ALL))
}

/// What the platform and an organization say.
type Said = (Option<CarrierRule>, Option<CarrierRule>);

fn said() -> impl Strategy<Value = Said> {
    (rules(), rules())
}

fn ruling((platform, organization): Said) -> CarrierRuling {
    CarrierRuling::of(platform, organization)
}

/// Whether both of them allow it.
fn both_allow((platform, organization): Said, carrier: Carrier) -> bool {
    let forbidden = match carrier {
        Carrier::Quic => CarrierRule::TcpOnly,
        Carrier::Tcp => CarrierRule::QuicOnly,
    };
    platform != Some(forbidden) && organization != Some(forbidden)
}

fn carriers() -> impl Strategy<Value = Carrier> {
    prop::sample::select(vec![Carrier::Quic, Carrier::Tcp])
}

fn measures() -> impl Strategy<Value = Measure> {
    let direction = prop::sample::select(Direction::ALL.to_vec());
    prop_oneof![
        (direction, 0_u64..1_000_000_000).prop_map(|(direction, bytes_per_second)| {
            Measure::Rate { direction, bytes_per_second }
        }),
        (0_u64..5_000).prop_map(opened),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Measured(Carrier, Measure),
    Chosen(Said, u64),
    Rest(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (carriers(), measures()).prop_map(|(carrier, measure)| Step::Measured(carrier, measure)),
        3 => (said(), any::<u64>()).prop_map(|(said, chance)| Step::Chosen(said, chance)),
        2 => (0_u64..100_000).prop_map(|ms| Step::Rest(Duration::from_millis(ms))),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn no_flow_is_tried_on_a_carrier_that_is_not_allowed_and_none_is_left_without(
        lane in prop::sample::select(Lane::ALL), steps in steps(),
    ) {
        let (mut choice, mut now) = (Choice::new(lane), START);
        for step in steps {
            match step {
                Step::Measured(carrier, measure) => choice.measured(now, carrier, measure),
                Step::Rest(rest) => now = now + rest,
                Step::Chosen(said, chance) => {
                    let chosen = choice.choose(now, ruling(said), chance);
                    let tried: Vec<_> = chosen.iter().flat_map(|chosen| chosen.carriers()).collect();
                    for carrier in [Carrier::Quic, Carrier::Tcp] {
                        prop_assert_eq!(tried.contains(&carrier), both_allow(said, carrier));
                        prop_assert_eq!(allows(ruling(said), carrier), both_allow(said, carrier));
                    }
                    if let Some(chosen) = chosen {
                        let is_ruled = said != (None, None);
                        prop_assert_eq!(chosen.reason == Reason::Policy, is_ruled);
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_is_measured_the_lead_changes_and_trials_are_made_at_a_bounded_rate(
        lane in prop::sample::select(Lane::ALL), steps in steps(),
    ) {
        let (mut choice, mut now) = (Choice::new(lane), START);
        for step in steps {
            match step {
                Step::Measured(carrier, measure) => choice.measured(now, carrier, measure),
                Step::Rest(rest) => now = now + rest,
                Step::Chosen(said, chance) => {
                    choice.choose(now, ruling(said), chance);
                }
            }
            let status = choice.status(now);
            let most = |pause: Duration| 1 + now.since(START).as_secs() / pause.as_secs();
            prop_assert!(status.changes <= most(DWELL));
            prop_assert!(status.trials <= most(SLOW_TRIAL_PAUSE));
            prop_assert!(lane == Lane::Bulk || status.trials == 0);
        }
    }

    #[test]
    fn whatever_is_measured_a_flow_goes_over_no_oftener_than_the_lead_changes_and_the_lane_lets_it(
        steps in steps(), on in carriers(),
    ) {
        let (mut choice, mut now) = (Choice::new(Lane::Bulk), START);
        let (mut on, mut since, mut went) = (on, START, 0);
        for step in steps {
            match step {
                Step::Measured(carrier, measure) => choice.measured(now, carrier, measure),
                Step::Rest(rest) => now = now + rest,
                Step::Chosen(said, _) => if choice.leaves(now, ruling(said), on, since) {
                    prop_assert!(said == (None, None) && now.since(since) >= FOLLOW_AFTER);
                    (on, since, went) = (on.other(), now, went + 1);
                    prop_assert_eq!(on, choice.status(now).leading);
                }
            }
            let status = choice.status(now);
            prop_assert!(went <= 1 + status.changes);
            prop_assert_eq!(status.followed, went);
        }
    }

    #[test]
    fn without_evidence_a_lane_keeps_what_suits_it(
        lane in prop::sample::select(Lane::ALL), chances in prop::collection::vec(any::<u64>(), 1..50),
        samples in prop::collection::vec(measures(), 0..MIN_SAMPLES),
    ) {
        let (mut choice, mut now) = (Choice::new(lane), START);
        for sample in samples {
            choice.measured(now, Carrier::order(lane)[1], sample);
        }
        for chance in chances {
            let chosen = choice.choose(now, Auto, chance).unwrap();
            prop_assert!(chosen.carriers().eq(Carrier::order(lane)));
            prop_assert_eq!(chosen.reason, Reason::Prior);
            now = now + Duration::from_secs(chance % 1_000);
        }
    }

    #[test]
    fn bulk_comes_to_the_better_carrier_and_stays(
        slow in 10_000_u64..200_000_000, times in 160_u64..3_000, quic_is_better: bool,
        chances in prop::collection::vec(any::<u64>(), 400),
    ) {
        let fast = slow * times / 100;
        let (quic, tcp) = if quic_is_better { (fast, slow) } else { (slow, fast) };
        let mut world = World::new(Lane::Bulk, quic, tcp);
        let better = if quic_is_better { Carrier::Quic } else { Carrier::Tcp };
        let mut later = Vec::new();
        for chance in chances {
            let chosen = world.flow(chance);
            if world.now.since(START) > TRIAL_PAUSE + 10 * SECOND {
                later.push(chosen);
            }
        }
        let off = later.iter().filter(|chosen| chosen.first != better);
        prop_assert!(off.clone().all(|chosen| chosen.reason == Reason::Trial));
        prop_assert!(off.count() <= 4, "in a quarter of an hour");
    }
}
