#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use proptest::prelude::*;
use rap_proto::{Moment, Timestamp};

use super::*;
use crate::{
    View,
    lane_path::MAX_CANDIDATES,
    paths::PathBook,
    score::{
        self, Decisions,
        decisions::Asked,
        relays::{
            Use,
            tests::{ACME, known, relay, view_of},
        },
    },
};

const NOW: Timestamp = Timestamp::from_unix_millis(2_000);
const QUESTION: Question = (ACME, ChannelClass::Interactive);

/// How many lanes the property is about.
const LANES: u64 = 12;

/// Their questions: other lanes are of another class, or of another organization.
fn mixed(lane: u64) -> Question {
    match lane % 3 {
        0 => QUESTION,
        1 => (ACME, ChannelClass::Bulk),
        _ => (OrganizationId::from_u128(2), ChannelClass::Interactive),
    }
}

type Known = BTreeMap<NodeId, score::Candidate<'static>>;

/// An entry with some lanes, as the shell has them.
struct Entry {
    view: Arc<View>,
    decisions: Decisions,
    interests: Interests,
    known: Known,
    /// What the lane of a number asks.
    question: fn(u64) -> Question,
}

impl Entry {
    fn new(relays: u128, all_take_us: u32) -> Self {
        let view = Arc::new(view_of(relays, &[]));
        let known: Known =
            (0..relays).map(|number| known(&view, number, all_take_us, 1_000)).collect();
        let mut decisions = Decisions::default();
        decisions.know(known.clone());
        let (interests, question) = (Interests::default(), |_| QUESTION);
        Self { view, decisions, interests, known, question }
    }

    /// The lane of this number, each to another egress, looks. Returns what it lists.
    fn look(&mut self, lane: u64) -> Vec<Candidate> {
        let ways = self.ways(lane);
        let listed = listed(lane, &ways);
        self.interests.heed(lane, Interest::of((self.question)(lane), &ways, &listed, &[]));
        listed
    }

    fn ways(&mut self, lane: u64) -> Vec<Way> {
        let (organization, class) = (self.question)(lane);
        let asked = Asked { target: egress(lane), organization, class, purpose: Use::Running };
        self.decisions.ways(&self.view, asked, NOW).to_vec()
    }

    /// Another measurement of one relay.
    fn measure(&mut self, number: u128, rtt_us: u32) -> BTreeSet<u64> {
        let (node, candidate) = known(&self.view, number, rtt_us, 1_000);
        self.known.insert(node, candidate);
        self.decisions.know(self.known.clone());
        let changes = self.decisions.follow(NOW);
        self.interests.concerned(&changes)
    }
}

fn egress(lane: u64) -> NodeId {
    NodeId::from_u128(10_000 + u128::from(lane))
}

fn listed(lane: u64, ways: &[Way]) -> Vec<Candidate> {
    let plan = PathBook::default().plan(Moment::default(), egress(lane), &[], ways.iter().copied());
    plan.into_iter().map(|attempt| attempt.candidate).collect()
}

fn leads_over(listed: &[Candidate], node: NodeId) -> bool {
    listed.iter().any(|one| one.relays().contains(&node))
}

#[test]
fn a_measurement_of_a_relay_concerns_the_lanes_that_list_it_and_no_other() {
    let mut entry = Entry::new(100, 20_000);
    let lists: Vec<_> = (0..200).map(|lane| entry.look(lane)).collect();
    let concerned = entry.measure(7, 24_000);
    let theirs = |lane: &u64| leads_over(&lists[usize::try_from(*lane).unwrap()], relay(7));
    let expected: BTreeSet<u64> = (0..200).filter(theirs).collect();
    assert!((1..50).contains(&expected.len()), "{} lanes list it", expected.len());
    assert_eq!(concerned, expected);
}

#[test]
fn a_measurement_that_makes_no_difference_concerns_nobody() {
    let mut entry = Entry::new(8, 20_000);
    (0..20).for_each(|lane| drop(entry.look(lane)));
    assert_eq!(entry.measure(3, 20_001), BTreeSet::new(), "it is worth as much as before");
    assert_eq!(entry.measure(3, 20_001), BTreeSet::new(), "the same again");
    assert_eq!(entry.measure(3, 90_000).len(), 20, "all lanes list all relays");
}

#[test]
fn a_relay_that_comes_to_be_worth_as_much_as_those_that_are_listed_concerns_all_who_may_list_it() {
    let mut entry = Entry::new(100, 20_000);
    entry.measure(50, 900_000);
    let lists: Vec<_> = (0..50).map(|lane| entry.look(lane)).collect();
    assert!(!lists.iter().any(|listed| leads_over(listed, relay(50))));
    assert_eq!(
        entry.measure(50, 800_000),
        BTreeSet::new(),
        "worth more, and still by far too little"
    );
    assert_eq!(entry.measure(50, 20_000).len(), 50);
    let now_listed = (0..50).filter(|lane| leads_over(&entry.look(*lane), relay(50))).count();
    assert!(now_listed > 0, "some of them list it");
}

#[test]
fn where_all_are_listed_one_more_concerns_everybody() {
    let mut entry = Entry::new(4, 20_000);
    let (node, _) = known(&entry.view, 2, 0, 0);
    entry.known.remove(&node);
    entry.decisions.know(entry.known.clone());
    (0..5).for_each(|lane| drop(entry.look(lane)));
    assert_eq!(entry.measure(2, 900_000).len(), 5);
}

#[test]
fn what_is_not_kept_may_be_anything_and_concerns_everybody_who_asks_for_it() {
    let mut entry = Entry::new(100, 20_000);
    (0..9).for_each(|lane| drop(entry.look(lane)));
    entry.decisions = Decisions::default();
    entry.decisions.know(entry.known.clone());
    // Another organization's lane.
    let (organization, class) = (OrganizationId::from_u128(2), ChannelClass::Interactive);
    let asked = Asked { target: egress(9), organization, class, purpose: Use::Running };
    let ways = entry.decisions.ways(&entry.view, asked, NOW).to_vec();
    let listed = listed(9, &ways);
    entry.interests.heed(9, Interest::of((organization, class), &ways, &listed, &[]));
    let concerned = entry.measure(7, 24_000);
    assert!((0..9).all(|lane| concerned.contains(&lane)));
    assert_eq!(concerned.contains(&9), leads_over(&listed, relay(7)));
}

#[test]
fn what_is_open_concerns_a_lane_too_and_one_that_is_gone_is_concerned_by_nothing() {
    let mut entry = Entry::new(100, 20_000);
    let ways = entry.ways(1);
    let listed = listed(1, &ways);
    let unlisted = (0..100).find(|number| !leads_over(&listed, relay(*number))).unwrap();
    let open = [Candidate::Relay(relay(unlisted))];
    entry.interests.heed(1, Interest::of(QUESTION, &ways, &listed, &open));
    assert_eq!(entry.measure(unlisted, 24_000), BTreeSet::from([1]));
    entry.interests.heed(1, Interest::of(QUESTION, &ways, &listed, &[]));
    assert_eq!(entry.measure(unlisted, 28_000), BTreeSet::new());
    entry.interests.forget(1);
    assert_eq!(entry.measure(unlisted, 10), BTreeSet::new());
    let Interests { lanes, by_relay, by_least } = &entry.interests;
    assert_eq!((lanes.len(), by_relay.len(), by_least.len()), (0, 0, 0));
}

#[test]
fn one_lane_takes_no_more_room_than_its_lists() {
    let mut entry = Entry::new(100, 20_000);
    for round in 0..50 {
        entry.look(1);
        entry.measure(round, 10_000);
    }
    let most = MAX_CANDIDATES * rap_proto::wire::hop::MAX_HOPS + MAX_RELAYS;
    assert!(entry.interests.by_relay.len() <= most, "{}", entry.interests.by_relay.len());
    assert_eq!((entry.interests.lanes.len(), entry.interests.by_least.len()), (1, 1));
}

#[test]
fn lanes_look_at_moments_of_their_own_and_none_too_often() {
    let at = |millis: u64| Moment::from_micros(millis * 1_000);
    let mut paces: Vec<Pace> = (0..100).map(Pace::new).collect();
    assert!(paces.iter().all(|pace| pace.due(false).is_none() && pace.due(true).is_none()));
    paces.iter_mut().for_each(|pace| pace.concerned(at(5_000)));
    let due = |pace: &Pace| pace.due(false).unwrap();
    let are_spread = |paces: &[Pace], from: Moment| {
        let in_part = |part: u32| {
            let (first, end) = (LOOK_WITHIN / 10 * part, LOOK_WITHIN / 10 * (part + 1));
            paces.iter().filter(|pace| (first..end).contains(&due(pace).since(from))).count()
        };
        let parts: Vec<usize> = (0..10).map(in_part).collect();
        assert!(parts.iter().all(|lanes| *lanes < 25), "{parts:?} of 100 lanes");
        assert!(paces.iter().all(|pace| (from..=from + LOOK_WITHIN).contains(&due(pace))));
    };
    are_spread(&paces, at(5_000));
    assert!(paces.iter().all(|pace| pace.due(true).unwrap() < at(5_000)), "who hurries looks now");
    let before = due(&paces[0]);
    paces[0].concerned(at(5_001));
    assert_eq!(due(&paces[0]), before, "no later because there is more to look at");
    paces.iter_mut().for_each(|pace| pace.looked(at(6_000)));
    assert!(paces.iter().all(|pace| pace.due(true).is_none()));
    paces.iter_mut().for_each(|pace| pace.concerned(at(6_000)));
    are_spread(&paces, at(6_000) + LOOK_EVERY);
    assert!(paces.iter().all(|pace| pace.due(true) == Some(at(6_000) + LOOK_EVERY)));
}

/// What happens to an entry.
#[derive(Debug, Clone, Copy)]
enum Event {
    Measured(u128, u32),
    /// Another snapshot, in which this relay is denied.
    Snapshot(Option<u128>),
}

fn any_event() -> impl Strategy<Value = Event> {
    let measured = (0..30_u128, 0..400_000_u32);
    prop_oneof![
        12 => measured.prop_map(|(number, rtt_us)| Event::Measured(number, rtt_us)),
        1 => prop::option::of(0..30_u128).prop_map(Event::Snapshot),
    ]
}

/// Not the chains: their worth can change by a little while their relays' does not.
fn relays_of(listed: &[Candidate]) -> Vec<Candidate> {
    listed.iter().filter(|one| matches!(one, Candidate::Relay(_))).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Who looks only when it is concerned, or the snapshot is another, lists what it would list anyway.
    #[test]
    fn no_lane_misses_anything(events in prop::collection::vec(any_event(), 1..60)) {
        let mut entry = Entry { question: mixed, ..Entry::new(30, 20_000) };
        let mut lists: Vec<_> = (0..LANES).map(|lane| entry.look(lane)).collect();
        for event in events {
            let looking = match event {
                Event::Measured(number, rtt_us) => entry.measure(number, rtt_us),
                Event::Snapshot(without) => {
                    let without: Vec<NodeId> = without.map(relay).into_iter().collect();
                    entry.view = Arc::new(view_of(30, &without));
                    (0..LANES).collect()
                }
            };
            for lane in looking {
                lists[usize::try_from(lane).unwrap()] = entry.look(lane);
            }
            for (lane, held) in (0..).zip(&lists) {
                let anew = listed(lane, &entry.ways(lane));
                prop_assert_eq!(relays_of(held), relays_of(&anew), "lane {}", lane);
            }
        }
    }
}
