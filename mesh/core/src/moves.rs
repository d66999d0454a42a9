//! Which flows on the `tcp` carrier leave a connection that still carries them, for a better path.
//!
//! One machine for the flows of one lane to one egress. Inputs: what may be used, which flow runs
//! over what, what trials and moves came to, time. Effects: try a path, move a flow. A move does not
//! touch the flow before the other connection is there, and a flow whose move failed is where it was.
//!
//! - A path is better only when it leads over fewer relays and is not slower. One relay is never exchanged
//!   for another that merely seems better, so two paths cannot take turns.
//! - A better path has to answer [`TRIALS`] trials in a row, and again when that was a while ago. Once it
//!   has answered the first of them the path in use is tried beside it, so that both are measured alike.
//! - A direct path that became slow, and is slower than a way over relays, is left for that. Where the
//!   platform wants it better, it is taken only if it takes no longer, and left however long it took before.
//! - A relay that the snapshot no longer has is left at once, over whatever does not rest; when nothing
//!   takes the flow, it leaves without another path and waits for one.
//! - A relay that drains is left, too, each flow at a moment of its own, for whatever drains not and takes
//!   the flow. While nothing does, the flow stays.
//! - A flow moves when it is old enough to be worth it, and then rarely; a few flows at a time.
//! - What failed rests, longer each time.
//! - A flow that may not ask, as its token has expired, is left alone until it has another token.

mod prospect;
mod shorter;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use rap_proto::{Moment, NodeId, paths::DirectPaths, wire::hop::MAX_HOPS};

use crate::{paths::Candidate, peers::spread::Spread};
use prospect::Prospects;
use shorter::Compared;
use watch::Watched;

/// A flow that began less than this ago may be over soon.
pub const WORTH_AFTER: Duration = Duration::from_secs(3);
/// A flow moves to a better path at most so often …
pub const MOVE_EVERY: Duration = Duration::from_secs(30);
/// … and away from a relay that is to be left at most so often.
pub const LEAVE_EVERY: Duration = Duration::from_secs(2);
/// A flow that nothing else took for so long leaves such a relay all the same. More than the first
/// rest: whatever failed once is asked again before that.
pub const LEFT_WITHIN: Duration = Duration::from_secs(12);
/// Each flow draws a moment within this time to leave a relay that drains: the flows of all lanes spread
/// over it. Where something else takes them, a lane's flows are gone by then, and by what the moves of
/// the last take: [`MAX_MOVING`] at a time, so a lane of hundreds takes longer.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// The most flows of a lane that move at once.
pub const MAX_MOVING: usize = 2;
/// So many trials in a row a path answers before flows move to it …
pub const TRIALS: u32 = 3;
/// … with this pause between two.
pub const TRIAL_EVERY: Duration = Duration::from_secs(1);
/// What answered counts as proven for so long, whatever it carries since then: only trials measure.
pub const PROVEN_FOR: Duration = Duration::from_secs(10);
/// What failed rests this long first, and twice as long each further time …
pub const FIRST_REST: Duration = Duration::from_secs(10);
/// … and no longer than this.
pub const LONGEST_REST: Duration = Duration::from_secs(300);
/// A flow that stayed on its path for so long makes good for what failed there before.
pub const GOOD_AFTER: Duration = Duration::from_secs(60);
/// A direct path that carries a flow is tried this often, to see whether it became slow.
pub const WATCH_EVERY: Duration = Duration::from_secs(60);
/// The most paths that are tried for flows of one kind of path.
pub const MAX_TRIED: usize = 4;
/// The most paths that are remembered.
pub const MAX_PROSPECTS: usize = 256;

/// Pauses are spread upwards from what they have to be at least: by half of it at most.
const SPREAD_PERCENT: u32 = 20;

/// What may carry a lane's flows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// The best first.
    pub ways: Vec<Candidate>,
    /// Every relay that may: what leads over another is left.
    pub relays: BTreeSet<NodeId>,
    /// Those that drain: they go on with what they have, and set nothing up.
    pub draining: BTreeSet<NodeId>,
    /// When a path that leads over no relay may: where that is forbidden, it is left as well.
    pub direct: DirectPaths,
}

impl Allowed {
    /// Whether a path may carry nothing any more: it leads over a relay that is none, or over none where
    /// there has to be one.
    fn is_left(&self, over: Candidate) -> bool {
        let relays = over.relays();
        (!self.direct.are_allowed() && relays.is_empty())
            || !relays.iter().all(|relay| self.relays.contains(relay))
    }

    fn drains(&self, over: Candidate) -> bool {
        over.relays().iter().any(|relay| self.draining.contains(relay))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// What may be used from now on.
    Ways(Allowed),
    /// There are other addresses, or other nodes: what failed may work now.
    Renewed,
    /// It may ask its egress for another connection until then.
    Began {
        flow: u64,
        over: Candidate,
        asks_until: Moment,
    },
    /// It may ask until then, by another token.
    MayAsk {
        flow: u64,
        until: Moment,
    },
    /// The connection of a flow is gone.
    Lost {
        flow: u64,
    },
    /// A flow that lost its connection has another: over this path, or on a carrier of its own ways.
    WentOn {
        flow: u64,
        over: Option<Candidate>,
    },
    Ended {
        flow: u64,
    },
    /// The round trip over the whole path, of a trial that worked.
    Tried {
        candidate: Candidate,
        round_trip: Option<Duration>,
    },
    Moved {
        flow: u64,
    },
    /// A move came to nothing, for this reason.
    Stayed {
        flow: u64,
        why: Stayed,
    },
}

/// Why a flow did not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stayed {
    /// The path did not carry the asking and its answer.
    Path,
    /// The path works; the egress refused, or the flow itself was not ready.
    Flow,
    /// The flow may not ask: its token has expired sooner than was known.
    Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Connect over this path, have the egress answer once, and give the connection up again; say `Tried`.
    Try(Candidate),
    /// Bring the flow a connection over this path, and say `Moved` or `Stayed`.
    Move { flow: u64, over: Candidate },
    /// Take the flow off its connection, and say `WentOn` when it has another.
    Leave { flow: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Running {
    over: Option<Candidate>,
    /// On this path.
    since: Moment,
    /// It moves to a better path, or leaves its relay, no sooner.
    due: Moment,
    leaves_at: Moment,
    /// Since when its path leads over a relay that is none any more.
    left: Option<Moment>,
    /// When it leaves its path, as one of the relays drains.
    drains_at: Option<Moment>,
    asks_until: Moment,
    moving: Option<Candidate>,
}

/// The path of a flow before and after: `None` where it has none on TCP.
pub type Change = (Option<Candidate>, Option<Candidate>);

/// What flows of a path with so many relays may move to, by that number; at 0 there is nothing.
type Better = [Vec<Candidate>; MAX_HOPS + 1];

#[derive(Debug, Clone)]
pub struct LaneMoves {
    allowed: Allowed,
    /// Of the ways those that do not drain.
    steady: Vec<Candidate>,
    /// Of these those over relays.
    relayed: Vec<Candidate>,
    better: Better,
    flows: BTreeMap<u64, Running>,
    prospects: Prospects,
    effects: VecDeque<Effect>,
    changes: Vec<Change>,
    spread: Spread,
    /// Whatever was due by then was looked at.
    looked: Moment,
}

impl LaneMoves {
    /// For a lane that may use this. `seed` is random, and needs not be secret.
    pub fn new(seed: u64, allowed: Allowed) -> Self {
        let mut moves = Self {
            allowed: Allowed::default(),
            steady: Vec::new(),
            relayed: Vec::new(),
            better: Better::default(),
            flows: BTreeMap::new(),
            prospects: Prospects::default(),
            effects: VecDeque::new(),
            changes: Vec::new(),
            spread: Spread::new(seed),
            looked: Moment::default(),
        };
        moves.allow(allowed);
        moves
    }

    pub fn handle_input(&mut self, now: Moment, input: Input) {
        // A flow that begins makes nothing due, nor does one that ends without a place that others wait
        // for; and there can be many.
        let looks = match input {
            Input::Began { .. } => false,
            Input::Ended { flow } => self.is_moving(flow),
            _ => true,
        };
        match input {
            Input::Ways(allowed) => self.allow(allowed),
            Input::Renewed => self.prospects.renew(),
            Input::Began { flow, over, asks_until } => self.began(now, flow, over, asks_until),
            Input::MayAsk { flow, until } => self.may_ask(now, flow, until),
            Input::Lost { flow } => self.lost(now, flow),
            Input::WentOn { flow, over } => self.went_on(now, flow, over),
            Input::Ended { flow } => self.ended(flow),
            Input::Tried { candidate, round_trip } => {
                self.prospects.tried(now, candidate, round_trip);
            }
            Input::Moved { flow } => self.moved(now, flow),
            Input::Stayed { flow, why } => self.stayed(now, flow, why),
        }
        if looks {
            self.look(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        self.look(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Which paths flows took and left since this was asked last: to be asked whenever effects are.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// When something becomes due that no input announces.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let next = |flow: &Running| self.next_of(flow).filter(|at| *at < flow.asks_until);
        let all = self.flows.values().filter_map(next);
        all.filter(|at| *at > self.looked).min()
    }

    /// How many flows lead over relays.
    pub fn relayed(&self) -> usize {
        let over = self.flows.values().filter_map(|flow| flow.over);
        over.filter(Candidate::is_relayed).count()
    }

    /// Whether a flow has one of the [`MAX_MOVING`] places: when it ends, others may have something to do.
    pub fn is_moving(&self, flow: u64) -> bool {
        self.flows.get(&flow).is_some_and(|running| running.moving.is_some())
    }

    /// Whether no flow is left that could move.
    pub fn is_idle(&self) -> bool {
        self.flows.is_empty()
    }

    fn allow(&mut self, allowed: Allowed) {
        let is_steady = |way: &&Candidate| !allowed.drains(**way);
        self.steady = allowed.ways.iter().filter(is_steady).copied().collect();
        self.relayed = self.steady.iter().filter(|way| way.is_relayed()).copied().collect();
        self.better = std::array::from_fn(|hops| {
            let shorter = self.steady.iter().filter(|way| way.hops() < hops);
            let mut shorter: Vec<Candidate> = shorter.copied().collect();
            shorter.sort_by_key(Candidate::hops);
            shorter.truncate(MAX_TRIED);
            shorter
        });
        self.allowed = allowed;
    }

    fn began(&mut self, now: Moment, flow: u64, over: Candidate, asks_until: Moment) {
        let due = now + self.at_least(WORTH_AFTER);
        let drains = self.allowed.drains(over);
        let drains_at = drains.then(|| now + self.spread.around(DRAIN_WITHIN / 2, 100));
        self.changes.push((None, Some(over)));
        let (over, leaves_at, left, moving) = (Some(over), now, None, None);
        let running =
            Running { over, since: now, due, leaves_at, left, drains_at, asks_until, moving };
        self.flows.insert(flow, running);
    }

    fn may_ask(&mut self, now: Moment, flow: u64, until: Moment) {
        if let Some(running) = self.flows.get_mut(&flow) {
            if running.asks_until <= now {
                // It could not leave; now it has its time for it.
                running.left = None;
            }
            running.asks_until = until;
        }
    }

    fn lost(&mut self, now: Moment, flow: u64) {
        let Some(running) = self.flows.get_mut(&flow) else { return };
        if let Some(over) = running.over.take() {
            let was_good = now.since(running.since) >= GOOD_AFTER;
            self.prospects.failed(now, over, was_good);
            self.changes.push((Some(over), None));
        }
    }

    fn ended(&mut self, flow: u64) {
        let over = self.flows.remove(&flow).and_then(|running| running.over);
        self.changes.extend(over.map(|over| (Some(over), None)));
    }

    fn went_on(&mut self, now: Moment, flow: u64, over: Option<Candidate>) {
        let due = now + self.at_least(WORTH_AFTER);
        if let Some(running) = self.flows.get_mut(&flow) {
            self.changes.push((running.over, over));
            (running.over, running.since) = (over, now);
            running.due = running.due.max(due);
        }
    }

    fn moved(&mut self, now: Moment, flow: u64) {
        let (due, leaves_at) = (self.at_least(MOVE_EVERY), self.at_least(LEAVE_EVERY));
        let Some(running) = self.flows.get_mut(&flow) else { return };
        let Some(over) = running.moving.take() else { return };
        self.changes.push((running.over, Some(over)));
        (running.over, running.since) = (Some(over), now);
        (running.due, running.leaves_at) = (now + due, now + leaves_at);
    }

    fn stayed(&mut self, now: Moment, flow: u64, why: Stayed) {
        let (due, leaves_at) = (self.at_least(MOVE_EVERY), self.at_least(LEAVE_EVERY));
        let Some(running) = self.flows.get_mut(&flow) else { return };
        let Some(over) = running.moving.take() else { return };
        match why {
            // Another path may do, and this one rests.
            Stayed::Path => self.prospects.failed(now, over, false),
            Stayed::Flow => (running.due, running.leaves_at) = (now + due, now + leaves_at),
            Stayed::Token => running.asks_until = running.asks_until.min(now),
        }
    }

    /// Starts what is due.
    fn look(&mut self, now: Moment) {
        self.looked = now;
        let mut places =
            MAX_MOVING.saturating_sub(self.flows.values().filter(|it| it.moving.is_some()).count());
        let (mut compared, mut watched) = (Compared::default(), Watched::default());
        let mut moves = Vec::new();
        let (allowed, prospects) = (&self.allowed, &self.prospects);
        let known = (now, prospects, allowed.direct);
        for (flow, running) in &mut self.flows {
            let rests = running.moving.is_some() || running.asks_until <= now;
            let Some(over) = running.over.filter(|_| !rests) else { continue };
            let leads_nowhere = allowed.is_left(over);
            running.left = running.left.or(Some(now)).filter(|_| leads_nowhere);
            if running.left.is_some_and(|since| now >= since + LEFT_WITHIN) {
                (running.over, running.left) = (None, None);
                self.changes.push((Some(over), None));
                self.effects.push_back(Effect::Leave { flow: *flow });
                continue;
            }
            let drains = !leads_nowhere && allowed.drains(over);
            let draw = || now + self.spread.around(DRAIN_WITHIN / 2, 100);
            running.drains_at = drains.then(|| running.drains_at.unwrap_or_else(draw));
            let goes = running.drains_at.is_some_and(|at| at.max(running.leaves_at) <= now);
            let way_out = prospects.refuge(now, &self.steady, over).filter(|_| goes);
            let target = if leads_nowhere {
                prospects.refuge(now, &allowed.ways, over).filter(|_| running.leaves_at <= now)
            } else if way_out.is_some() {
                way_out
            } else if running.due <= now && !over.is_relayed() {
                watched.choose(known, &self.relayed, (over, running.since))
            } else if running.due <= now {
                compared.choose(known, &self.better[over.hops()], over)
            } else {
                None
            };
            if let Some(over) = target.filter(|_| places > 0) {
                places -= 1;
                moves.push((*flow, over));
            }
        }
        // What some flows leave as slow at this moment is not taken by others.
        for (flow, over) in moves.into_iter().filter(|(_, over)| !watched.leaves(*over)) {
            self.flows.entry(flow).and_modify(|running| running.moving = Some(over));
            self.effects.push_back(Effect::Move { flow, over });
        }
        let compared = compared.conclude(now, &mut self.prospects, &watched);
        let watched = watched.conclude(now, &mut self.prospects);
        self.effects.extend(compared.into_iter().chain(watched).map(Effect::Try));
    }

    /// When there is something to do for a flow, as far as is known.
    fn next_of(&self, running: &Running) -> Option<Moment> {
        let over = running.over.filter(|_| running.moving.is_none())?;
        if self.allowed.is_left(over) {
            let others = self.allowed.ways.iter().filter(|way| **way != over);
            let free_at = others.map(|way| self.prospects.rests_until(*way)).min();
            let moves_at = free_at.map(|free_at| running.leaves_at.max(free_at));
            let goes_at = running.left.map_or(running.leaves_at, |since| since + LEFT_WITHIN);
            let moves_at = moves_at.filter(|at| *at > self.looked);
            return Some(moves_at.map_or(goes_at, |at| at.min(goes_at)));
        }
        if !over.is_relayed() {
            return self.next_watch(running, over);
        }
        let goes_at = running.drains_at.and_then(|drains_at| {
            let others = self.steady.iter().filter(|way| **way != over);
            let free_at = others.map(|way| self.prospects.rests_until(*way)).min()?;
            Some(drains_at.max(running.leaves_at).max(free_at))
        });
        let better = &self.better[over.hops()];
        let beside = (!better.is_empty()).then_some(&over);
        let tried_at = better.iter().chain(beside);
        let tried_at = tried_at.filter_map(|way| self.prospects.next_trial(*way));
        let tried_at = tried_at.map(|at| running.due.max(at));
        goes_at.into_iter().chain(tried_at).filter(|at| *at > self.looked).min()
    }

    /// A pause that is no shorter than this, and not the same for every flow.
    fn at_least(&mut self, pause: Duration) -> Duration {
        self.spread.around(pause + pause / 4, SPREAD_PERCENT)
    }
}
