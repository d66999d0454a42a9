#![allow(clippy::unwrap_used)]

mod cache_file;
mod exchange;
mod histories;
mod lost;
mod places;
mod recovery;
mod scopes;
mod through;
mod told;

use std::{collections::BTreeSet, time::Duration};

use rap_proto::{
    ClusterId, Digest, LaneSet, Moment, NodeId, NodeRole, Preference, Timestamp,
    snapshot::{RoleScope, StalePolicy},
};

use super::*;

const CLUSTER: ClusterId = ClusterId::from_u128(1);
const LATER: Timestamp = Timestamp::from_unix_millis(10_000_000_000_000);

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn everybody(role: NodeRole) -> Vec<RoleScope> {
    vec![RoleScope { role, organizations: None }]
}

/// Relays are 100 and on, egresses 200 and on.
fn listed(number: u128) -> Listed {
    let role = if number < 200 { NodeRole::RelayNode } else { NodeRole::StreamWorker };
    Listed {
        node: node(number),
        key: Digest::of(&number.to_be_bytes()),
        roles: everybody(role),
        addresses: vec![([192, 0, 2, 1], 4433).into()],
        region: None,
        preference: Preference::Neutral,
        relayed_lanes: LaneSet::ALL,
    }
}

fn directory(version: u64, numbers: impl IntoIterator<Item = u128>) -> Directory {
    Directory {
        cluster: CLUSTER,
        own: node(1),
        own_roles: everybody(NodeRole::EntryNode),
        region: None,
        authority_epoch: 1,
        version,
        stale_policy: StalePolicy::KeepSessions,
        listed: numbers.into_iter().map(listed).collect(),
    }
}

/// A book in a world where some nodes answer and some do not.
struct Bench {
    book: PeerBook,
    now: Moment,
    /// Who answers, and how fast.
    answers: BTreeMap<NodeId, u32>,
    full: BTreeSet<NodeId>,
    /// Answers, and forwards nothing.
    swallows: BTreeSet<NodeId>,
    effects: Vec<(Moment, Effect)>,
    most_active: usize,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        Self {
            book: PeerBook::new(PeerPolicy::of(kind), 7),
            now: Moment::from_micros(1_000_000),
            answers: BTreeMap::new(),
            full: BTreeSet::new(),
            swallows: BTreeSet::new(),
            effects: Vec::new(),
            most_active: 0,
        }
    }

    fn knows(kind: Kind, numbers: std::ops::Range<u128>) -> Self {
        let mut bench = Self::new(kind);
        bench.answers = numbers.clone().map(|number| (node(number), 10_000)).collect();
        bench.feed(Input::Directory { directory: directory(1, numbers), at: bench.calendar() });
        bench
    }

    fn calendar(&self) -> Timestamp {
        Timestamp::from_unix_millis(1_000 + i64::try_from(self.now.micros() / 1_000).unwrap())
    }

    fn feed(&mut self, input: Input) {
        self.book.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.book.poll_effect() {
            self.effects.push((self.now, effect.clone()));
            let input = match effect {
                Effect::Heartbeat { node } | Effect::Probe { node } => self.reply(node),
                Effect::ProbeThrough { relay, target } => {
                    let passes = !self.swallows.contains(&relay)
                        && self.answers.contains_key(&relay)
                        && self.answers.contains_key(&target);
                    Some(Input::Through { relay, target, rtt_us: passes.then_some(20_000) })
                }
                _ => None,
            };
            if let Some(input) = input {
                self.book.handle_input(self.now, input);
            }
        }
        self.most_active = self.most_active.max(self.book.standing().active);
    }

    fn reply(&self, node: NodeId) -> Option<Input> {
        if self.full.contains(&node) {
            return Some(Input::Full { node });
        }
        let rtt_us = *self.answers.get(&node)?;
        let at = self.calendar();
        Some(Input::Answered {
            node,
            rtt_us,
            said: None,
            packets: Some(Packets::default()),
            certificate_until: LATER,
            at,
        })
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.book.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now || self.book.poll_timeout().is_some());
            self.now = self.now.max(at);
            self.book.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    fn count(&self, wanted: impl Fn(&Effect) -> bool) -> usize {
        self.effects.iter().filter(|(_, effect)| wanted(effect)).count()
    }

    fn steps(&self) -> Vec<Option<Step>> {
        let step = |(_, effect): &(Moment, Effect)| match effect {
            Effect::Recovering(step) => Some(*step),
            _ => None,
        };
        self.effects.iter().filter_map(step).collect()
    }

    fn status(&self, number: u128) -> PeerStatus {
        let all = self.book.status(self.now);
        *all.iter().find(|status| status.node == node(number)).unwrap()
    }
}

#[test]
fn each_kind_settles_at_its_number_and_keeps_some_warm() {
    for kind in Kind::ALL.iter().copied() {
        let counts = PeerPolicy::of(kind).counts;
        let mut bench = Bench::knows(kind, 100..180);
        bench.seconds(600);
        let standing = bench.book.standing();
        assert_eq!(standing.active, counts.aim(), "{kind:?}");
        assert_eq!(standing.warm, counts.most_warm, "{kind:?}");
        assert!((counts.least_active..=counts.most_active).contains(&standing.active));
        assert!(bench.most_active <= counts.most_active, "{kind:?}: {}", bench.most_active);
        assert_eq!(standing.availability, Availability::Available);
    }
}

#[test]
fn a_thin_node_settles_in_its_first_reviews_and_asks_nobody_to_be_let_go_again() {
    let counts = PeerPolicy::of(Kind::Thin).counts;
    let mut bench = Bench::knows(Kind::Thin, 100..120);
    bench.run(REVIEW * 2);
    let standing = bench.book.standing();
    assert_eq!((standing.active, standing.warm), (counts.aim(), counts.most_warm));
    assert_eq!(
        bench.most_active,
        counts.aim(),
        "the way to the first peers takes no more than stay"
    );
    let released = |effect: &Effect| matches!(effect, Effect::Release { .. });
    assert_eq!(bench.count(released), 0);
}

#[test]
fn a_node_that_keeps_one_peer_finds_it() {
    let mut policy = PeerPolicy::of(Kind::Thin);
    (policy.counts.least_active, policy.counts.most_active) = (0, 1);
    let mut bench = Bench::new(Kind::Thin);
    bench.answers = [(node(103), 5_000)].into();
    bench.feed(Input::Policy(policy));
    bench.feed(Input::Directory { directory: directory(1, 100..104), at: bench.calendar() });
    bench.seconds(60);
    assert_eq!(bench.book.reached().collect::<Vec<_>>(), [node(103)]);
}

#[test]
fn heartbeats_probes_and_refreshes_come_in_their_cycles() {
    for (kind, heartbeat, refresh) in
        [(Kind::Thin, 15, 900), (Kind::Normal, 10, 600), (Kind::Relay, 5, 300)]
    {
        let mut bench = Bench::knows(kind, 100..140);
        bench.seconds(1_200);
        bench.effects.clear();
        let active = bench.book.standing().active;
        bench.seconds(3_600);
        let beats = bench.count(|effect| matches!(effect, Effect::Heartbeat { .. }));
        let expected = active * 3_600 / heartbeat;
        assert!((expected * 9 / 10..=expected * 11 / 10).contains(&beats), "{kind:?}: {beats}");
        let refreshes = bench.count(|effect| *effect == Effect::Refresh);
        assert!((3_600 / refresh - 1..=3_600 / refresh + 1).contains(&refreshes), "{kind:?}");
        let probes = bench.count(|effect| matches!(effect, Effect::Probe { .. }));
        assert!(probes > 0, "{kind:?}");
    }
}

#[test]
fn no_two_nodes_beat_in_step() {
    let first_beats = |seed| {
        let mut book = PeerBook::new(PeerPolicy::of(Kind::Normal), seed);
        let now = Moment::from_micros(1);
        let at = Timestamp::default();
        book.handle_input(now, Input::Directory { directory: directory(1, 100..103), at });
        let input = Input::Answered {
            node: node(100),
            rtt_us: 1,
            said: None,
            packets: None,
            certificate_until: LATER,
            at,
        };
        book.handle_input(now, input);
        book.poll_timeout()
    };
    assert_ne!(first_beats(1), first_beats(2));
    assert_eq!(first_beats(1), first_beats(1));
}

#[test]
fn whom_the_directory_no_longer_names_is_let_go_at_once() {
    let mut bench = Bench::knows(Kind::Normal, 100..104);
    bench.seconds(60);
    bench.effects.clear();
    let mut rekeyed = directory(2, [101, 102, 103]);
    rekeyed.listed[0].key = Digest::of(b"another");
    bench.answers.remove(&node(101));
    bench.feed(Input::Directory { directory: rekeyed, at: bench.calendar() });
    for gone in [100, 101] {
        assert_eq!(bench.count(|effect| *effect == Effect::Release { node: node(gone) }), 1);
        assert!(bench.book.reached().all(|peer| peer != node(gone)));
    }
    assert_eq!(bench.status(101).measured.rtt_us, None, "another key is another node");
    assert_eq!(bench.book.status(bench.now).len(), 3);
    bench.feed(Input::Directory { directory: directory(3, []), at: bench.calendar() });
    assert_eq!(bench.book.status(bench.now), []);
    assert_eq!(bench.book.standing().availability, Availability::Available, "it needs nobody");
}

#[test]
fn a_smaller_policy_lets_the_worst_go_at_once() {
    let mut bench = Bench::knows(Kind::Relay, 100..160);
    bench.seconds(600);
    bench.effects.clear();
    let active = bench.book.standing().active;
    bench.feed(Input::Policy(PeerPolicy::of(Kind::Thin)));
    let (standing, counts) = (bench.book.standing(), PeerPolicy::of(Kind::Thin).counts);
    assert_eq!((standing.active, standing.warm), (counts.most_active, counts.most_warm));
    let released = bench.count(|effect| matches!(effect, Effect::Release { .. }));
    assert_eq!(released, active - counts.most_active);
}

#[test]
fn a_directory_is_bounded_and_relays_come_first() {
    let mut large = directory(1, 200..200 + MAX_PEERS as u128 + 10);
    large.listed.extend((100..110).map(listed));
    let mut bench = Bench::new(Kind::Relay);
    bench.feed(Input::Directory { directory: large, at: bench.calendar() });
    let all = bench.book.status(bench.now);
    assert_eq!(all.len(), MAX_PEERS);
    assert!((100..110).all(|number| all.iter().any(|status| status.node == node(number))));
}

#[test]
fn effects_that_nobody_drains_are_bounded() {
    let mut book = PeerBook::new(PeerPolicy::of(Kind::Relay), 1);
    let at = Timestamp::default();
    let mut now = Moment::from_micros(1);
    book.handle_input(now, Input::Directory { directory: directory(1, 100..150), at });
    for _ in 0..20_000 {
        now = book.poll_timeout().unwrap().max(now);
        book.handle_timeout(now);
    }
    let mut waiting = 0;
    while book.poll_effect().is_some() {
        waiting += 1;
    }
    assert_eq!(waiting, MAX_EFFECTS);
}

#[test]
fn what_a_peer_says_of_itself_counts_beside_what_was_measured_and_an_older_one_says_nothing() {
    let mut bench = Bench::knows(Kind::Normal, 100..101);
    bench.seconds(30);
    let asks = |bench: &mut Bench, said| {
        let (node, at) = (node(100), bench.calendar());
        bench.feed(Input::Answered {
            node,
            rtt_us: 1,
            said,
            packets: None,
            certificate_until: LATER,
            at,
        });
        let measured = bench.status(100).measured;
        (measured.load, measured.bandwidth_kbps)
    };
    assert_eq!(asks(&mut bench, None), (None, None));
    let busy = Some(Said { load: 600, bandwidth_kbps: 8_000 });
    assert_eq!(asks(&mut bench, busy), (Some(600), Some(8_000)));
    let idle = Some(Said { load: 0, bandwidth_kbps: 9_000 });
    assert_eq!(asks(&mut bench, idle), (Some(300), Some(9_000)), "it was busy a moment ago");
    assert_eq!(asks(&mut bench, None), (Some(150), Some(9_000)));
    let lies = Some(Said { load: u16::MAX, bandwidth_kbps: u32::MAX });
    assert_eq!(asks(&mut bench, lies), (Some(575), Some(u32::MAX)), "no more than everything");
}
