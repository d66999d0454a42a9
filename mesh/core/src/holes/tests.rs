#![allow(clippy::unwrap_used)]

use rap_proto::NodeId;

use super::*;
use crate::lane_path::SLOW_REST;

const RELAY: Candidate = Candidate::Relay(NodeId::from_u128(1));

fn at(ms: u64) -> Moment {
    Moment::from_micros(1_000_000 + ms * 1_000)
}

fn address(port: u16) -> SocketAddr {
    ([203, 0, 113, 9], port).into()
}

fn own(mapping: Mapping) -> Seen {
    Seen { addresses: vec![([198, 51, 100, 1], 5000).into()], mapping }
}

fn far(mapping: Mapping) -> Seen {
    Seen { addresses: vec![address(4433)], mapping }
}

/// A machine with the time of its own.
struct World {
    holes: Holes,
    now: Moment,
}

impl World {
    /// Of a lane that has just become a relayed one.
    fn relayed() -> Self {
        let mut world = Self { holes: Holes::default(), now: at(0) };
        world.path(RELAY, false);
        world
    }

    fn tell(&mut self, input: Input) {
        self.holes.handle_input(self.now, input);
    }

    fn path(&mut self, in_use: Candidate, hole_is_open: bool) {
        self.tell(Input::Path { in_use, hole_is_open, slow_until: None, not_better: false });
    }

    /// What was found is open beside a relay, or not any more, and the lane does not take it for so long.
    fn slow_path(&mut self, hole_is_open: bool, rests: Duration) {
        let slow_until = Some(self.now + rests);
        self.tell(Input::Path { in_use: RELAY, hole_is_open, slow_until, not_better: false });
    }

    fn round(&self) -> u32 {
        self.holes.standing().rounds
    }

    fn step(&self) -> Step {
        self.holes.standing().step
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.holes.poll_effect()).collect()
    }

    /// Waits for the next timeout, and says how long it took.
    fn wait(&mut self) -> Duration {
        let until = self.holes.poll_timeout().unwrap();
        let waited = until.since(self.now);
        self.now = self.now.max(until);
        self.holes.handle_timeout(self.now);
        waited
    }

    fn look(&mut self) {
        while self.step() == Step::Resting {
            self.wait();
        }
        let round = self.round();
        assert_eq!(self.effects(), [Effect::Look { round }]);
    }

    /// A round until both sides knock.
    fn meet(&mut self, own: Seen, far: Seen) {
        self.look();
        let round = self.round();
        self.tell(Input::Seen { round, own: own.clone() });
        assert_eq!(self.effects(), [Effect::Meet { round, own }]);
        self.tell(Input::Met { round, far });
    }

    /// The same until the lane uses what was found.
    fn open(&mut self) {
        self.meet(own(Mapping::Steady), far(Mapping::Steady));
        self.tell(Input::Heard { round: self.round(), from: address(4433) });
        self.path(RELAY, true);
        self.path(Candidate::Direct(address(4433)), true);
        assert_eq!(self.step(), Step::Open);
        self.effects();
    }
}

#[test]
fn a_relayed_lane_looks_meets_knocks_and_tries_what_came_through() {
    let mut world = World::relayed();
    assert_eq!(world.wait(), START_AFTER);
    world.meet(own(Mapping::Steady), far(Mapping::Unknown));
    assert_eq!(world.effects(), [Effect::Knock { round: 1, to: address(4433) }]);
    world.wait();
    assert_eq!(world.effects().len(), 1);
    world.tell(Input::Heard { round: 1, from: address(4433) });
    assert_eq!(world.effects(), [Effect::Try { address: address(4433) }]);
    assert_eq!(world.holes.address(), Some(address(4433)));
    world.path(RELAY, true);
    assert_eq!(world.holes.poll_timeout(), None, "the lane's path judges it");
    world.path(Candidate::Direct(address(4433)), true);
    let standing = world.holes.standing();
    assert_eq!((standing.step, standing.failure), (Step::Open, None));
    assert_eq!((standing.own, standing.far), (Mapping::Steady, Mapping::Unknown));
}

#[test]
fn a_hole_that_was_left_as_slow_rests_for_as_long_as_the_lane_does_not_take_it() {
    let mut world = World::relayed();
    for _ in 0..2 * MAX_ROUNDS {
        world.open();
        world.slow_path(true, SLOW_REST);
        assert_eq!(world.step(), Step::Open, "the lane may come back to it");
        world.slow_path(false, SLOW_REST);
        assert_eq!(world.effects(), [Effect::Forget { address: address(4433) }]);
        let standing = world.holes.standing();
        assert_eq!((standing.step, standing.failure), (Step::Resting, None));
        assert_eq!(world.holes.take_outcomes().failed, [].into());
        assert_eq!(world.wait(), SLOW_REST);
    }
}

#[test]
fn what_is_found_while_the_lane_does_not_take_it_rests_without_a_failure() {
    let mut world = World::relayed();
    for _ in 0..2 * MAX_ROUNDS {
        world.tell(Input::Renewed);
        world.meet(own(Mapping::Steady), far(Mapping::Steady));
        world.tell(Input::Heard { round: world.round(), from: address(4433) });
        world.slow_path(false, SLOW_REST);
        assert_eq!((world.step(), world.holes.standing().failure), (Step::Resting, None));
        world.effects();
        assert_eq!(world.wait(), SLOW_REST);
    }
    world.slow_path(false, Duration::ZERO);
    assert_eq!(world.step(), Step::Looking, "its time is over");
}

#[test]
fn a_direct_lane_wants_no_hole_and_one_that_became_direct_ends_its_round() {
    let direct = Candidate::Direct(address(1));
    let mut world = World { holes: Holes::default(), now: at(0) };
    world.path(direct, false);
    assert_eq!((world.step(), world.holes.poll_timeout()), (Step::Idle, None));
    world.path(RELAY, false);
    world.look();
    world.path(direct, false);
    world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
    assert_eq!((world.step(), world.effects()), (Step::Idle, vec![]));
}

#[test]
fn where_direct_paths_are_forbidden_no_hole_is_looked_for_and_none_is_kept() {
    let forbid = |world: &mut World, allowed: bool| world.tell(Input::Direct { allowed: !allowed });
    let mut world = World::relayed();
    world.open();
    forbid(&mut world, true);
    assert_eq!(world.effects(), [Effect::Forget { address: address(4433) }]);
    assert_eq!((world.holes.address(), world.step()), (None, Step::Forbidden));
    for input in [Input::Renewed, Input::Withdrawn, Input::Heard { round: 1, from: address(4433) }]
    {
        world.tell(input);
        world.path(RELAY, false);
        assert_eq!((world.effects(), world.holes.poll_timeout()), (vec![], None));
    }
    forbid(&mut world, false);
    world.path(RELAY, false);
    assert_eq!(world.wait(), START_AFTER);
    let mut world = World::relayed();
    world.look();
    forbid(&mut world, true);
    world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
    assert_eq!((world.effects(), world.step()), (vec![], Step::Forbidden), "amid a round");
}

#[test]
fn so_many_knocks_are_sent_at_their_times_and_then_the_round_is_over() {
    let mut world = World::relayed();
    world.meet(own(Mapping::Steady), far(Mapping::Steady));
    let (begun, mut knocks) = (world.now, vec![]);
    while world.step() == Step::Knocking {
        let sent = world.effects().len();
        knocks.extend(vec![world.now.since(begun); sent]);
        world.wait();
    }
    assert_eq!(knocks, KNOCK_AT);
    assert_eq!(world.now.since(begun), KNOCK_AT[KNOCK_AT.len() - 1] + LISTEN_AFTER);
    assert_eq!(world.holes.standing().failure, Some(Failure::Silent));
}

#[test]
fn knocks_that_were_slept_through_are_not_made_up_for() {
    let mut world = World::relayed();
    world.meet(own(Mapping::Steady), far(Mapping::Steady));
    world.effects();
    world.now = world.now + KNOCK_AT[3];
    world.holes.handle_timeout(world.now);
    assert_eq!(world.effects().len(), 1);
}

#[test]
fn rounds_that_come_to_nothing_are_few_and_ever_further_apart() {
    let mut world = World::relayed();
    let mut pauses = vec![world.wait()];
    loop {
        let round = world.round();
        world.tell(Input::Seen { round, own: own(Mapping::Steady) });
        world.tell(Input::NotMet { round });
        if world.step() == Step::GivenUp {
            break;
        }
        pauses.push(world.wait());
    }
    let grown = [1, PAUSE_GROWTH, PAUSE_GROWTH * PAUSE_GROWTH].map(|times| FIRST_PAUSE * times);
    assert_eq!(pauses, [&[START_AFTER][..], &grown].concat());
    assert_eq!(world.round(), MAX_ROUNDS);
    assert_eq!(world.holes.poll_timeout(), None, "not for ever");
    assert_eq!(world.holes.standing().failure, Some(Failure::Unanswered));
    world.tell(Input::Renewed);
    assert_eq!(world.wait(), START_AFTER, "elsewhere it may work");
    assert_eq!(world.step(), Step::Looking);
}

#[test]
fn two_symmetric_nats_are_told_at_once_and_one_is_tried() {
    let mut world = World::relayed();
    world.meet(own(Mapping::Symmetric), far(Mapping::Symmetric));
    let standing = world.holes.standing();
    assert_eq!((standing.step, standing.failure), (Step::GivenUp, Some(Failure::BothSymmetric)));
    assert_eq!((world.effects(), world.holes.poll_timeout()), (vec![], None));
    for (own_is, far_is) in
        [(Mapping::Steady, Mapping::Symmetric), (Mapping::Symmetric, Mapping::Steady)]
    {
        let mut world = World::relayed();
        world.meet(own(own_is), far(far_is));
        assert_eq!(world.step(), Step::Knocking);
    }
}

#[test]
fn each_step_has_its_end() {
    for (failure, until) in [
        (Failure::Unseen, Step::Looking),
        (Failure::Unanswered, Step::Meeting),
        (Failure::Silent, Step::Knocking),
        (Failure::Unproven, Step::Trying),
    ] {
        let mut world = World::relayed();
        world.look();
        if until >= Step::Meeting {
            world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
        }
        if until >= Step::Knocking {
            world.tell(Input::Met { round: 1, far: far(Mapping::Steady) });
        }
        if until >= Step::Trying {
            world.tell(Input::Heard { round: 1, from: address(4433) });
        }
        assert_eq!(world.step(), until);
        while world.step() == until {
            world.wait();
        }
        let standing = world.holes.standing();
        assert_eq!((standing.step, standing.failure), (Step::Resting, Some(failure)));
        assert_eq!(world.holes.address(), None);
    }
}

#[test]
fn what_nobody_sees_or_knows_is_told() {
    let mut world = World::relayed();
    world.look();
    world.tell(Input::Seen { round: 1, own: Seen::default() });
    assert_eq!(world.holes.standing().failure, Some(Failure::Unseen));
    world.meet(own(Mapping::Steady), Seen::default());
    assert_eq!(world.holes.standing().failure, Some(Failure::FarUnseen));
    let failed = [(Failure::Unseen, 1), (Failure::FarUnseen, 1)].into();
    assert_eq!(world.holes.take_outcomes(), Outcomes { found: 0, failed });
    assert_eq!(world.holes.take_outcomes(), Outcomes::default(), "they were taken");
    let mut world = World::relayed();
    world.look();
    world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
    world.tell(Input::Unsupported { round: 1 });
    let standing = world.holes.standing();
    assert_eq!((standing.step, standing.failure), (Step::GivenUp, Some(Failure::Unsupported)));
}

#[test]
fn a_lying_egress_has_no_third_party_knocked_at_but_its_named_hosts_few_times() {
    let mut world = World::relayed();
    let named = ["127.0.0.1:53", "10.0.0.1:4433", "203.0.113.9:4433"];
    let addresses = named.map(|text| text.parse().unwrap()).to_vec();
    world.meet(own(Mapping::Steady), Seen { addresses, mapping: Mapping::Steady });
    assert_eq!(world.effects(), [Effect::Knock { round: 1, to: address(4433) }]);
    // And nothing is tried at a host that it did not name, whoever knocks.
    world.tell(Input::Heard { round: 1, from: ([203, 0, 113, 10], 4433).into() });
    assert_eq!((world.step(), world.holes.address()), (Step::Knocking, None));
    world.tell(Input::Heard { round: 1, from: address(9) });
    assert_eq!(world.holes.address(), Some(address(9)), "a NAT may give it another port");
}

#[test]
fn a_knock_that_is_faster_than_the_answer_counts_and_a_late_one_of_another_round_does_not() {
    let mut world = World::relayed();
    world.look();
    world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
    world.tell(Input::Heard { round: 1, from: address(4433) });
    assert_eq!(world.step(), Step::Meeting, "nobody knows yet which hosts count");
    world.tell(Input::Met { round: 1, far: far(Mapping::Steady) });
    assert_eq!(world.step(), Step::Trying);
    let mut world = World::relayed();
    world.look();
    world.tell(Input::Seen { round: 1, own: Seen::default() });
    world.meet(own(Mapping::Steady), far(Mapping::Steady));
    for late in [
        Input::Heard { round: 1, from: address(4433) },
        Input::Met { round: 1, far: Seen::default() },
        Input::NotMet { round: 1 },
        Input::Unsupported { round: 1 },
        Input::Seen { round: 1, own: Seen::default() },
    ] {
        world.tell(late);
        assert_eq!(world.step(), Step::Knocking);
    }
}

#[test]
fn what_was_tried_and_left_is_forgotten_and_so_is_what_was_lost() {
    let mut world = World::relayed();
    world.meet(own(Mapping::Steady), far(Mapping::Steady));
    world.tell(Input::Heard { round: 1, from: address(4433) });
    world.effects();
    world.path(RELAY, true);
    world.path(RELAY, false);
    assert_eq!(world.effects(), [Effect::Forget { address: address(4433) }]);
    assert_eq!(world.holes.standing().failure, Some(Failure::Unproven));
    let mut world = World::relayed();
    world.open();
    world.path(RELAY, true);
    assert_eq!(world.step(), Step::Open, "the lane may go back to it");
    world.path(RELAY, false);
    assert_eq!(world.effects(), [Effect::Forget { address: address(4433) }]);
    assert_eq!(world.holes.standing().failure, Some(Failure::Lost));
    let failed = [(Failure::Lost, 1)].into();
    assert_eq!(world.holes.take_outcomes(), Outcomes { found: 1, failed });
    assert_eq!(world.wait(), FIRST_PAUSE);
}

#[test]
fn of_a_hole_that_is_not_better_it_is_said_and_of_other_direct_paths_too() {
    let mut world = World::relayed();
    world.meet(own(Mapping::Steady), far(Mapping::Steady));
    world.tell(Input::Heard { round: 1, from: address(4433) });
    world.path(RELAY, true);
    let seen = |not_better| {
        let slow_until = None;
        Input::Path { in_use: RELAY, hole_is_open: false, slow_until, not_better }
    };
    world.tell(seen(true));
    let failed = [(Failure::NotBetter, 1)].into();
    assert_eq!(world.holes.take_outcomes(), Outcomes { found: 0, failed });
    world.tell(seen(false));
    world.tell(Input::Renewed);
    assert_eq!(world.holes.standing().failure, None);
    world.tell(seen(true));
    assert_eq!(world.holes.standing().failure, Some(Failure::NotBetter));
}

#[test]
fn only_a_hole_that_was_held_well_makes_good_for_the_rounds_before() {
    for (held, pause) in [(HELD_WELL, FIRST_PAUSE), (Duration::ZERO, FIRST_PAUSE * PAUSE_GROWTH)] {
        let mut world = World::relayed();
        world.look();
        world.tell(Input::Seen { round: 1, own: Seen::default() });
        world.open();
        world.now = world.now + held;
        world.path(RELAY, false);
        assert_eq!(world.wait(), pause);
    }
}

#[test]
fn an_egress_that_names_many_addresses_has_few_of_them_knocked_at() {
    let mut world = World::relayed();
    let many: Vec<SocketAddr> = (1..=4000).map(address).collect();
    world.meet(own(Mapping::Steady), Seen { addresses: many, mapping: Mapping::Steady });
    assert_eq!(world.effects().len(), MAX_ADDRESSES);
}

#[test]
fn what_was_found_while_a_relay_was_one_is_found_anew_when_it_is_none() {
    let mut world = World::relayed();
    world.open();
    let round = world.round();
    world.tell(Input::Withdrawn);
    assert_eq!(world.effects(), [Effect::Forget { address: address(4433) }]);
    assert_eq!(world.holes.address(), None);
    // The lane is told of it, and goes back to a relay.
    world.path(Candidate::Direct(address(4433)), false);
    assert_eq!(world.step(), Step::Idle);
    world.path(RELAY, false);
    world.open();
    assert_eq!(world.round(), round + 1);
}

#[test]
fn a_round_of_a_relay_that_is_none_any_more_is_over_and_another_begins() {
    for until in [Step::Looking, Step::Meeting, Step::Knocking, Step::GivenUp] {
        let mut world = World::relayed();
        world.look();
        if until >= Step::Meeting {
            world.tell(Input::Seen { round: 1, own: own(Mapping::Steady) });
        }
        if until == Step::Knocking {
            world.tell(Input::Met { round: 1, far: far(Mapping::Steady) });
        }
        if until == Step::GivenUp {
            world.tell(Input::Unsupported { round: 1 });
        }
        assert_eq!(world.step(), until);
        world.effects();
        world.tell(Input::Withdrawn);
        assert_eq!((world.step(), world.wait()), (Step::Resting, START_AFTER));
        world.tell(Input::Met { round: 1, far: far(Mapping::Steady) });
        assert_eq!((world.step(), world.round()), (Step::Looking, 2));
    }
    let mut world = World { holes: Holes::default(), now: at(0) };
    world.tell(Input::Withdrawn);
    assert_eq!((world.step(), world.effects()), (Step::Idle, vec![]));
}
