//! Flows in a small world: paths that work or do not, a shell that does what it is told, and a
//! book of what happened that is checked at every step.

use super::*;
use crate::{
    lane_path::SLOW_REST,
    paths::{KEPT_WITHIN, is_slower},
};

/// What a trial or a move takes.
const TAKES: Duration = Duration::from_millis(120);
/// Of paths of which nothing else is said.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Nobody's token expires before.
pub(super) const FOR_EVER: Moment = Moment::from_micros(u64::MAX);
/// What was so for this long was so in each trial that counts.
const STEADY: Duration = PROVEN_FOR.saturating_mul(TRIALS + 1);
/// More happenings than this at one moment mean that the machine keeps itself busy.
const MOST_AT_ONCE: u32 = 400;

/// A mistake that the book has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// Flows that moved count as new ones.
    ForgetsMoves,
    /// What does not answer is said to have answered.
    BelievesTrials,
    /// Whatever changes ends every rest.
    NeverRests,
    /// A move that is under way is forgotten.
    LosesCount,
    /// Every path is said to take the same.
    MeasuresAlike,
    /// What a path took in its first trial is said of each.
    MeasuresOnce,
}

impl Bug {
    pub(super) const ALL: [Self; 6] = [
        Self::ForgetsMoves,
        Self::BelievesTrials,
        Self::NeverRests,
        Self::LosesCount,
        Self::MeasuresAlike,
        Self::MeasuresOnce,
    ];
}

#[derive(Debug, Clone, Copy)]
enum Coming {
    Tried(Candidate),
    Moved(u64, Candidate),
}

#[derive(Debug, Default)]
struct Book {
    /// Of each flow, where it is and when it moved.
    flows: BTreeMap<u64, (Candidate, Vec<Moment>)>,
    /// Trials in a row that really worked, and when the last one did.
    passed: BTreeMap<Candidate, (u32, Moment)>,
    failed: BTreeMap<Candidate, Moment>,
    /// Since when flows leave a path as slow.
    slow: BTreeMap<Candidate, Moment>,
    /// The shortest that each took since flows left it as slow.
    shortest: BTreeMap<Candidate, Duration>,
    /// What each path took in its first trial.
    took: BTreeMap<Candidate, Duration>,
}

pub(super) struct World {
    pub(super) lane: LaneMoves,
    pub(super) now: Moment,
    pub(super) works: BTreeSet<Candidate>,
    pub(super) moves: u32,
    pub(super) trials: u32,
    pub(super) tried: BTreeMap<Candidate, u32>,
    pub(super) leaves: u32,
    pub(super) most_moving: usize,
    pub(super) bug: Bug,
    pub(super) round_trips: BTreeMap<Candidate, Duration>,
    /// When paths last came to be otherwise.
    changed: BTreeMap<Candidate, Moment>,
    book: Book,
    coming: BTreeMap<(Moment, u64), Coming>,
    pub(super) ways: Vec<Candidate>,
    relays: BTreeSet<NodeId>,
    draining: BTreeSet<NodeId>,
    pub(super) direct: DirectPaths,
    number: u64,
    pub(super) wrong: Option<String>,
}

pub(super) const fn relay(number: u128) -> Candidate {
    Candidate::Relay(node(number))
}

pub(super) const fn node(number: u128) -> NodeId {
    NodeId::from_u128(100 + number)
}

pub(super) fn direct() -> Candidate {
    Candidate::Direct(std::net::SocketAddr::from(([192, 0, 2, 1], 4433)))
}

pub(super) fn chain() -> Candidate {
    Candidate::Chain(crate::paths::Chain::new(&[node(1), node(2)]).unwrap())
}

/// Everything that may be used, in the order in which it would be dialled.
pub(super) fn all_ways() -> Vec<Candidate> {
    vec![direct(), relay(1), relay(2), chain()]
}

/// These ways, over the two relays.
pub(super) fn allowed(ways: Vec<Candidate>) -> Allowed {
    Allowed { ways, relays: [node(1), node(2)].into(), ..Allowed::default() }
}

impl World {
    pub(super) fn new(bug: Bug) -> Self {
        Self {
            lane: LaneMoves::new(7, allowed(all_ways())),
            now: Moment::from_micros(1),
            works: all_ways().into_iter().skip(1).collect(),
            moves: 0,
            trials: 0,
            tried: BTreeMap::new(),
            leaves: 0,
            most_moving: 0,
            bug,
            round_trips: BTreeMap::new(),
            changed: BTreeMap::new(),
            book: Book::default(),
            coming: BTreeMap::new(),
            ways: all_ways(),
            relays: [node(1), node(2)].into(),
            draining: BTreeSet::new(),
            direct: DirectPaths::Allowed,
            number: 0,
            wrong: None,
        }
    }

    pub(super) fn begin(&mut self, flow: u64, over: Candidate) {
        self.begin_until(flow, over, FOR_EVER);
    }

    /// A flow whose token expires then.
    pub(super) fn begin_until(&mut self, flow: u64, over: Candidate, asks_until: Moment) {
        self.book.flows.insert(flow, (over, Vec::new()));
        self.tell(Input::Began { flow, over, asks_until });
    }

    pub(super) fn shows_token(&mut self, flow: u64, until: Moment) {
        self.tell(Input::MayAsk { flow, until });
    }

    pub(super) fn end(&mut self, flow: u64) {
        self.book.flows.remove(&flow);
        self.tell(Input::Ended { flow });
    }

    /// A path does what it did not, for everybody: what runs over it is lost and goes on elsewhere.
    pub(super) fn breaks(&mut self, path: Candidate) {
        self.works.remove(&path);
        self.changed.insert(path, self.now);
        let on_it = self.book.flows.iter().filter(|(_, (over, _))| *over == path);
        let lost: Vec<u64> = on_it.map(|(flow, _)| *flow).collect();
        let refuge = all_ways().into_iter().find(|way| self.carries(*way));
        if !lost.is_empty() {
            self.note(path, false);
        }
        for flow in lost {
            self.tell(Input::Lost { flow });
            self.find(flow, refuge);
        }
    }

    /// A flow without a connection goes on over this.
    fn find(&mut self, flow: u64, refuge: Option<Candidate>) {
        let Some(over) = refuge else {
            // Nobody waits for it for ever.
            return self.end(flow);
        };
        self.book.flows.get_mut(&flow).unwrap().0 = over;
        self.tell(Input::WentOn { flow, over: refuge });
    }

    fn leave(&mut self, flow: u64) {
        self.leaves += 1;
        if !self.is_left(self.over(flow)) {
            self.wrong.get_or_insert(format!("{flow} leaves what it may use"));
        }
        self.find(flow, all_ways().into_iter().find(|way| self.carries(*way)));
    }

    pub(super) fn repairs(&mut self, path: Candidate) {
        if self.works.insert(path) {
            self.changed.insert(path, self.now);
        }
    }

    pub(super) fn takes_from_now(&mut self, path: Candidate, round_trip: Duration) {
        self.round_trips.insert(path, round_trip);
        self.changed.insert(path, self.now);
    }

    /// Whether a flow can begin over it, or go on.
    pub(super) fn carries(&self, path: Candidate) -> bool {
        self.works.contains(&path) && !self.is_left(path)
    }

    pub(super) fn renews(&mut self) {
        (self.book.failed, self.book.slow) = Default::default();
        self.tell(Input::Renewed);
    }

    /// The results of a trial and of a move that are not under way: they change nothing.
    pub(super) fn hears_what_it_did_not_ask(&mut self, path: Candidate, flow: u64) {
        self.lane.handle_timeout(self.now);
        self.perform();
        let known =
            |lane: &LaneMoves| format!("{:?}", (&lane.flows, &lane.prospects, &lane.effects));
        let before = known(&self.lane);
        if !self.coming.values().any(|it| matches!(it, Coming::Tried(one) if *one == path)) {
            for round_trip in [Some(Duration::from_millis(1)), None] {
                self.lane.handle_input(self.now, Input::Tried { candidate: path, round_trip });
            }
        }
        if !self.coming.values().any(|it| matches!(it, Coming::Moved(one, _) if *one == flow)) {
            self.lane.handle_input(self.now, Input::Moved { flow });
            self.lane.handle_input(self.now, Input::Stayed { flow, why: Stayed::Path });
        }
        if known(&self.lane) != before {
            self.wrong.get_or_insert(format!("what came late of {path:?} and {flow} counts"));
        }
    }

    pub(super) fn drops_relay(&mut self, relay: NodeId) {
        let left = self.relays.iter().copied().filter(|it| *it != relay);
        self.relays_are(left.collect::<Vec<_>>());
    }

    pub(super) fn relays_are(&mut self, relays: impl IntoIterator<Item = NodeId>) {
        self.relays = relays.into_iter().collect();
        self.tell_ways();
    }

    pub(super) fn drains_are(&mut self, draining: impl IntoIterator<Item = NodeId>) {
        self.draining = draining.into_iter().collect();
        self.tell_ways();
    }

    pub(super) fn rules_direct(&mut self, rule: DirectPaths) {
        self.direct = rule;
        self.tell_ways();
    }

    fn tell_ways(&mut self) {
        let ways = self.ways.iter().filter(|way| !self.is_left(**way)).copied().collect();
        let (relays, draining) = (self.relays.clone(), self.draining.clone());
        let direct = self.direct;
        self.tell(Input::Ways(Allowed { ways, relays, draining, direct }));
    }

    fn takes(&self, path: Candidate) -> Duration {
        self.round_trips.get(&path).copied().unwrap_or(ROUND_TRIP)
    }

    fn measured(&mut self, path: Candidate) -> Duration {
        let takes = self.takes(path);
        let first = *self.book.took.entry(path).or_insert(takes);
        match self.bug {
            Bug::MeasuresAlike => ROUND_TRIP,
            Bug::MeasuresOnce => first,
            _ => takes,
        }
    }

    /// Whether a path works and takes what it did in each trial that counts, and may be tried.
    fn is_known(&self, path: Candidate) -> bool {
        let changed = self.changed.get(&path).copied().unwrap_or_default();
        self.works.contains(&path)
            && self.now.since(changed) > STEADY
            && self.lane.prospects.rests_until(path) <= self.now
    }

    /// What two paths take, as far as it can be told.
    fn surely_take(&self, path: Candidate, other: Candidate) -> Option<(Duration, Duration)> {
        let are_known = self.is_known(path) && self.is_known(other);
        are_known.then(|| (self.takes(path), self.takes(other)))
    }

    fn is_left(&self, over: Candidate) -> bool {
        let is_forbidden = !self.direct.are_allowed() && over == direct();
        is_forbidden || over.relays().iter().any(|relay| !self.relays.contains(relay))
    }

    fn drains(&self, over: Candidate) -> bool {
        over.relays().iter().any(|relay| self.draining.contains(relay))
    }

    pub(super) fn over(&self, flow: u64) -> Candidate {
        self.book.flows[&flow].0
    }

    pub(super) fn everything_is_over(&self, way: Candidate) -> bool {
        self.book.flows.values().all(|(over, _)| *over == way)
    }

    pub(super) fn runs(&self, flow: u64) -> bool {
        self.book.flows.contains_key(&flow)
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, length: Duration) {
        let until = self.now + length;
        let mut at_once = 0;
        while self.wrong.is_none() {
            let coming = self.coming.first_key_value().map(|((at, _), _)| *at);
            let next = coming.into_iter().chain(self.lane.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            at_once = if at > self.now { 0 } else { at_once + 1 };
            assert!(at_once < MOST_AT_ONCE, "it keeps itself busy");
            self.now = self.now.max(at);
            match self.coming.first_entry().filter(|it| it.key().0 <= self.now) {
                Some(first) => {
                    let happened = first.remove();
                    self.happen(happened);
                }
                None => {
                    self.lane.handle_timeout(self.now);
                    self.perform();
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn tell(&mut self, input: Input) {
        if self.bug == Bug::NeverRests {
            self.lane.handle_input(self.now, Input::Renewed);
        }
        self.lane.handle_input(self.now, input);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(effect) = self.lane.poll_effect() {
            self.number += 1;
            let coming = match effect {
                Effect::Try(candidate) => {
                    self.trials += 1;
                    *self.tried.entry(candidate).or_default() += 1;
                    self.check_rest(candidate);
                    Coming::Tried(candidate)
                }
                Effect::Move { flow, over } => {
                    self.check_move(flow, over);
                    Coming::Moved(flow, over)
                }
                Effect::Leave { flow } => {
                    self.leave(flow);
                    continue;
                }
            };
            self.coming.insert((self.now + TAKES, self.number), coming);
            self.most_moving = self.most_moving.max(self.moving());
            if let (Bug::LosesCount, Effect::Move { flow, .. }) = (self.bug, effect) {
                let over = self.over(flow);
                let began = Input::Began { flow, over, asks_until: FOR_EVER };
                self.lane.handle_input(self.now, began);
            }
        }
    }

    /// Of the flows that are there.
    fn moving(&self) -> usize {
        let runs = |flow: &u64| self.book.flows.contains_key(flow);
        let moves = |it: &&Coming| matches!(it, Coming::Moved(flow, _) if runs(flow));
        self.coming.values().filter(moves).count()
    }

    fn happen(&mut self, happened: Coming) {
        match happened {
            Coming::Tried(candidate) => {
                let worked = self.works.contains(&candidate);
                self.note(candidate, worked);
                if worked {
                    let takes = self.takes(candidate);
                    let shortest = self.book.shortest.entry(candidate).or_insert(takes);
                    *shortest = takes.min(*shortest);
                }
                let worked = worked || self.bug == Bug::BelievesTrials;
                let round_trip = worked.then(|| self.measured(candidate));
                self.tell(Input::Tried { candidate, round_trip });
            }
            Coming::Moved(flow, over) if self.works.contains(&over) => {
                let Some((place, moves)) = self.book.flows.get_mut(&flow) else { return };
                self.moves += 1;
                moves.push(self.now);
                *place = over;
                self.tell(Input::Moved { flow });
                if self.bug == Bug::ForgetsMoves {
                    self.tell(Input::Began { flow, over, asks_until: FOR_EVER });
                }
            }
            Coming::Moved(flow, over) if self.book.flows.contains_key(&flow) => {
                self.note(over, false);
                self.tell(Input::Stayed { flow, why: Stayed::Path });
            }
            // A flow that is over needs no path.
            Coming::Moved(..) => {}
        }
    }

    fn note(&mut self, candidate: Candidate, worked: bool) {
        let passed = self.book.passed.entry(candidate).or_default();
        let is_fresh = self.now.since(passed.1) < PROVEN_FOR;
        *passed = (u32::from(worked) + if worked && is_fresh { passed.0 } else { 0 }, self.now);
        if !worked {
            self.book.failed.insert(candidate, self.now);
        }
    }

    fn check_rest(&mut self, candidate: Candidate) {
        let within = |at: Option<&Moment>, rest| at.is_some_and(|at| self.now.since(*at) < rest);
        let (failed, slow) = (self.book.failed.get(&candidate), self.book.slow.get(&candidate));
        // Those for which there was no place left it a little later.
        if within(failed, FIRST_REST) || within(slow, SLOW_REST - SECOND) {
            let why = format!("it failed at {failed:?}, was slow at {slow:?}");
            let now = self.now;
            self.wrong.get_or_insert(format!("{candidate:?} is used at {now:?}, though {why}"));
        }
    }

    fn check_move(&mut self, flow: u64, over: Candidate) {
        self.check_rest(over);
        let Some((place, moves)) = self.book.flows.get(&flow) else { return };
        let place = *place;
        // What is no relay any more is left for whatever there is.
        if self.drains(over) && !self.is_left(place) {
            self.wrong.get_or_insert(format!("{flow} moves to what drains"));
        }
        if self.is_left(over) {
            self.wrong.get_or_insert(format!("{flow} moves to what it may not use"));
        }
        if self.is_left(place) || self.drains(place) {
            return;
        }
        let is_often = moves.last().is_some_and(|last| self.now.since(*last) < MOVE_EVERY);
        let wrong = match (is_often, over.hops() < place.hops()) {
            (true, _) => Some("moves too often"),
            (_, true) => self.mistake_of_moving_to_better(place, over),
            (_, false) => self.mistake_of_leaving_as_slow(place, over),
        };
        if let Some(wrong) = wrong {
            self.wrong.get_or_insert(format!("{flow} {wrong}: {place:?} to {over:?}"));
        }
    }

    fn mistake_of_moving_to_better(
        &self,
        place: Candidate,
        over: Candidate,
    ) -> Option<&'static str> {
        let (passed, at) = self.book.passed.get(&over).copied().unwrap_or_default();
        if passed < TRIALS {
            return Some("moves to what is not proven");
        }
        if self.now.since(at) > PROVEN_FOR {
            return Some("moves to what was proven long ago");
        }
        let is_slower = self.surely_take(over, place).is_some_and(|(takes, in_use)| {
            let must_be_better = self.direct == DirectPaths::WhenBetter && over == direct();
            if must_be_better { takes > in_use } else { is_slower(takes, in_use) }
        });
        is_slower.then_some("moves to what is slower")
    }

    fn mistake_of_leaving_as_slow(
        &mut self,
        place: Candidate,
        over: Candidate,
    ) -> Option<&'static str> {
        if place.is_relayed() {
            return Some("moves to what is no better");
        }
        let left = self.book.slow.get(&place);
        if left.is_some_and(|at| self.now.since(*at) < SLOW_REST) {
            return None;
        }
        self.book.slow.insert(place, self.now);
        let proven = |path| {
            let (passed, at) = self.book.passed.get(&path).copied().unwrap_or_default();
            passed >= TRIALS && self.now.since(at) <= PROVEN_FOR
        };
        if !proven(place) || !proven(over) {
            return Some("leaves a path that is not measured");
        }
        let must_be_better = self.direct == DirectPaths::WhenBetter;
        let is_kept = self.surely_take(place, over).is_some_and(|(takes, other)| {
            let clearly = other + other / 10 + KEPT_WITHIN;
            if must_be_better { takes <= clearly } else { !is_slower(takes, other) }
        });
        if is_kept {
            return Some("leaves what is not slower");
        }
        let shortest = self.book.shortest.remove(&place)?;
        let became_slow =
            must_be_better || !self.is_known(place) || is_slower(self.takes(place), shortest);
        (!became_slow).then_some("leaves what did not become slow")
    }
}
