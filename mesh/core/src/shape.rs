//! How much of which flow passes when: a hierarchy of token buckets.
//!
//! The classes are node → organization → what its rules name. A flow counts in its organization and
//! in every rule that fits it, and passes bytes when each of its classes has tokens. The flows of
//! one session on one lane are alike: they make a queue. Who waits is served in this order, level
//! by level:
//!
//! 1. organizations within the reserve that the platform granted, then the others; in turns;
//! 2. within one, queues that are within a rule's reserve (committed), then the others (excess), of
//!    which one byte in [`LANE_FLOOR`] passes whatever is committed;
//! 3. interactive before media before bulk; of what passes before it one byte in [`LANE_FLOOR`] is
//!    each lower lane's;
//! 4. queues in turns, and the flows of one in the order in which they asked.
//!
//! Whoever is served takes tokens of every class of the flow, so that what one leaves is there for
//! the next. Reserves that are more than what there is are lowered in proportion (`plan`).
//!
//! A queue that comes first and cannot be served waits at the cap that it lacks (`serve`), where
//! nobody looks at it before the cap has what it wants. The first there claims that much of the
//! cap, and goes on claiming it while it waits for a further one: others pass with what is beyond
//! the claim, so neither small pieces nor two full caps starve anybody. There is one claim of a
//! cap at a time, of about a packet or 4 ms, and it is no lock: nobody waits for who holds it.
//!
//! # Cost
//!
//! With `n` queues that wait and `r` rules of the organization (at most `MAX_BANDWIDTH_RULES`), a
//! question, an end and a call of the timer each take some steps: in one step a queue is served, or
//! moved to where it waits, in O(r · log n), and the same again for each cap that it had claimed.
//! That is a step or two for a question and two for a grant, however many wait; no input takes more
//! than [`MAX_STEPS`] in a direction, and what is left is done a [`TICK`] later. The flows of one
//! queue cost O(log n) each. A policy moves the queues of the organizations of which it says something
//! else, or all when the node's own cap is another: O(r · log n) for each, [`MAX_MOVES`] of them at a
//! time, so that nobody's policy holds up the flows of others.
//!
//! Inputs: [`Shaper::ask`], at most one question of each direction of a flow at a time, and a newer
//! policy. Effects: grants for those that had to wait, and which flows are shaped at all. The timer
//! is when the next cap has what somebody waits for.

mod bucket;
mod class;
mod place;
mod plan;
mod queue;
mod serve;
mod side;
mod turns;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use rap_proto::{Moment, OrganizationId, bandwidth::Bandwidth};

pub(crate) use bucket::Bucket;
pub use bucket::{BURST, MAX_GRANT, MIN_BURST, MIN_GRANT, QUANTUM, burst};
use class::Class;
pub use class::{ClassName, ClassStatus, Direction, FlowOf, MeterStatus, One};
use plan::Plan;
use queue::{Queue, QueueId, Waiting};
pub use side::Counts;
use side::Side;
pub use turns::LANE_FLOOR;
pub(crate) use turns::LanesAhead;

/// The most flows that one node shapes.
pub const MAX_FLOWS: usize = 65_536;
/// The most of them that are of one organization: none keeps the others out.
pub const MAX_FLOWS_OF_ONE: usize = 32_768;
/// The most classes that one node tells apart. From there on, users and sessions that a rule would
/// count each by itself share one class of it.
pub const MAX_CLASSES: usize = 16_384;
/// The same within one organization: none makes another one's users share a class.
pub const MAX_CLASSES_OF_ONE: usize = 4_096;
/// How long after the timer ran it runs again at the earliest: many who want little are served
/// together.
pub const TICK: Duration = Duration::from_millis(1);
/// The most queues that are served or moved for one input, in each direction.
pub const MAX_STEPS: usize = 256;
/// The most queues that find their classes anew for one input.
pub const MAX_MOVES: usize = 256;
/// The most bytes of turns that a queue saves while a cap holds it up.
const MAX_SAVED: u64 = 4 * MAX_GRANT as u64;
/// The most classes that are shown.
pub const MAX_SHOWN: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(u64);

/// There are [`MAX_FLOWS`] flows, or [`MAX_FLOWS_OF_ONE`] of the organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// So many bytes may pass: all that were asked for, or as many as there are tokens.
    Now(usize),
    /// An [`Effect::Grant`] follows.
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// So many bytes of what was asked for may pass.
    Grant { flow: FlowId, direction: Direction, bytes: usize },
    /// Whether the flow has to ask at all, from now on.
    Shaped { flow: FlowId, shaped: bool },
}

type ClassId = u64;

#[derive(Debug, Default)]
pub struct Shaper {
    plan: Plan,
    classes: BTreeMap<ClassId, Class>,
    named: BTreeMap<ClassName, ClassId>,
    queues: BTreeMap<QueueId, Queue>,
    alike: BTreeMap<FlowOf, QueueId>,
    flows: BTreeMap<FlowId, Flow>,
    /// How many flows each organization has.
    counted: BTreeMap<OrganizationId, usize>,
    sides: [Side; 2],
    /// When a class is looked at again.
    timers: BTreeSet<(Moment, Direction, ClassId)>,
    /// Those whose classes are not those of the policy yet.
    moving: BTreeSet<QueueId>,
    /// [`MAX_STEPS`] were taken, or [`MAX_MOVES`], and there may be more.
    unfinished: bool,
    /// The timer does not run before.
    rested: Moment,
    next_id: u64,
    next_flow: u64,
    next_ticket: u64,
    /// Who asks at the moment, and its answer.
    asking: Option<(FlowId, Direction)>,
    answered: Option<usize>,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
struct Flow {
    queue: QueueId,
    /// Of the question that waits, in each direction.
    tickets: [Option<u64>; 2],
}

impl Shaper {
    /// Keeps to `policy` from now on, many flows to the one before for some [`TICK`]s more. Tokens of
    /// classes that stay are kept.
    pub fn apply(&mut self, now: Moment, policy: &Bandwidth) {
        let before = std::mem::replace(&mut self.plan, Plan::new(policy));
        let all = before.node != self.plan.node;
        let plans = (&before.organizations, &self.plan.organizations);
        let differs = |id: &OrganizationId| all || plans.0.get(id) != plans.1.get(id);
        let alike = self.alike.iter().filter(|(of, _)| differs(&of.organization));
        self.moving.extend(alike.map(|(_, queue)| *queue));
        self.move_some(now);
        self.serve(now);
    }

    /// A flow begins. It is not shaped until an effect says so.
    pub fn open(&mut self, now: Moment, of: FlowOf) -> Result<FlowId, Full> {
        let counted = self.counted.get(&of.organization).copied().unwrap_or(0);
        if self.flows.len() >= MAX_FLOWS || counted >= MAX_FLOWS_OF_ONE {
            return Err(Full);
        }
        let id = FlowId(self.next_flow);
        self.next_flow += 1;
        self.counted.insert(of.organization, counted + 1);
        let queue = self.join(now, of, id);
        self.flows.insert(id, Flow { queue, tickets: [None; 2] });
        Ok(id)
    }

    pub fn close(&mut self, now: Moment, flow: FlowId) {
        for direction in Direction::ALL {
            self.take_back(now, flow, direction);
        }
        let Some(gone) = self.flows.remove(&flow) else { return };
        self.part(now, gone.queue, flow);
        self.effects.retain(|effect| match effect {
            Effect::Grant { flow: of, .. } | Effect::Shaped { flow: of, .. } => *of != flow,
        });
        // Who waited behind it, or was held down while it was interactive, may go on.
        self.serve(now);
    }

    /// Asks whether `bytes` may pass. What is granted counts as passed.
    pub fn ask(&mut self, now: Moment, flow: FlowId, direction: Direction, bytes: usize) -> Answer {
        self.take_back(now, flow, direction);
        let Some(found) = self.flows.get_mut(&flow) else { return Answer::Now(bytes) };
        let id = found.queue;
        let queue = self.queues.get_mut(&id).filter(|queue| queue.path.is_some() && bytes > 0);
        let Some(queue) = queue else {
            self.serve_one(now, direction);
            return Answer::Now(bytes);
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        found.tickets[direction.index()] = Some(ticket);
        let line = queue.line_mut(direction);
        line.waiting.insert(ticket, Waiting { flow, want: bytes, since: now });
        if line.place.is_none() {
            self.make_ready(now, direction, id, 0);
        }
        self.asking = Some((flow, direction));
        self.serve_one(now, direction);
        self.asking = None;
        match self.answered.take() {
            Some(bytes) => Answer::Now(bytes),
            None => {
                self.sides[direction.index()].counts.waits += 1;
                Answer::Later
            }
        }
    }

    /// Whoever asked does not wait any more.
    pub fn give_up(&mut self, now: Moment, flow: FlowId, direction: Direction) {
        self.take_back(now, flow, direction);
        self.serve_one(now, direction);
    }

    /// What was granted and does not pass is there for others again, of every cap of the flow. Of a reserve
    /// it counts as used, as nobody remembers which one it came off.
    pub fn give_back(&mut self, now: Moment, flow: FlowId, direction: Direction, bytes: usize) {
        let queue = self.flows.get(&flow).and_then(|found| self.queues.get(&found.queue));
        let Some(path) = queue.and_then(|queue| queue.path.clone()) else { return };
        for class in path.classes() {
            let cap = self.classes.get_mut(&class).map(|class| class.meter_mut(direction));
            if let Some(cap) = cap.and_then(|meter| meter.cap.as_mut()) {
                cap.put_back(now, bytes);
            }
        }
        let counts = &mut self.sides[direction.index()].counts;
        counts.bytes = counts.bytes.saturating_sub(bytes as u64);
        for class in path.classes() {
            self.look_at(now, direction, class);
        }
        self.serve_one(now, direction);
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.rested = now + TICK;
        self.unfinished = false;
        for _ in 0..MAX_STEPS {
            let due = self.timers.first().copied().filter(|(at, ..)| *at <= now);
            let Some((_, direction, class)) = due else { break };
            self.set_wake(direction, class, None);
            self.look_at(now, direction, class);
        }
        self.move_some(now);
        self.serve(now);
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        let next = self.timers.first().map(|(at, ..)| *at);
        let next = if self.unfinished { Some(self.rested) } else { next };
        next.map(|at| at.max(self.rested))
    }

    /// The classes that something was said of, at most [`MAX_SHOWN`].
    pub fn status(&self, now: Moment) -> Vec<ClassStatus> {
        let classes = self.named.values().filter_map(|id| self.classes.get(id));
        let said = classes.filter(|class| class.is_said());
        said.take(MAX_SHOWN).map(|class| class.status(now)).collect()
    }

    /// What was done in a direction since the start, of all organizations together.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.sides[direction.index()].counts
    }
}
