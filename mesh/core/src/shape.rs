//! How much of which flow passes when: a hierarchy of token buckets.
//!
//! The classes are node → organization → what its rules name → session. A flow is part of one
//! session and of every rule that fits it, and passes bytes when each of its classes has tokens.
//! Who waits is served in this order, level by level:
//!
//! 1. organizations within the reserve that the platform granted, then the others; in turns;
//! 2. within one, flows that are within a rule's reserve (committed), then the others (excess);
//! 3. interactive before bulk, of which one byte in [`LANE_FLOOR`] passes whatever is before it;
//! 4. sessions in turns, and the flows of one in the order in which they asked.
//!
//! Whoever is served takes tokens of every class of the flow, so that what one leaves is there for
//! the next. Who cannot be served claims the cap that it waits for: those behind pass by its way
//! only when it did. Other caps it leaves alone, so nothing is kept free for somebody who could not
//! use it.
//!
//! Inputs: [`Shaper::ask`], at most one question of each direction of a flow at a time, and a newer
//! policy. Effects: grants for those that had to wait, and which flows are shaped at all. The timer
//! is when the next cap has what somebody waits for.

mod bucket;
mod class;
mod order;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rap_proto::{Moment, bandwidth::Bandwidth};

pub use bucket::{BURST, MAX_GRANT, MIN_BURST, MIN_GRANT, QUANTUM, burst};
use class::{Class, Concern, allowance, concern};
pub use class::{ClassName, ClassStatus, Direction, FlowOf, MeterStatus, One};
pub use order::LANE_FLOOR;

/// The most flows that one node shapes.
pub const MAX_FLOWS: usize = 65_536;
/// The most classes that one node tells apart. From there on, users and sessions that a rule would
/// count each by itself share one class of it.
pub const MAX_CLASSES: usize = 16_384;
/// How long after something was done the timer runs again at the earliest.
pub const TICK: Duration = Duration::from_millis(1);
/// The most classes that are shown.
pub const MAX_SHOWN: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(u64);

/// There are [`MAX_FLOWS`] flows.
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
    policy: Bandwidth,
    classes: BTreeMap<ClassId, (ClassName, Class)>,
    named: BTreeMap<ClassName, ClassId>,
    flows: BTreeMap<FlowId, Flow>,
    /// Flows of which a direction waits, and how many directions do.
    waiting: BTreeMap<(FlowId, Direction), Waiting>,
    next_class: ClassId,
    next_flow: u64,
    /// Rises with each question and each turn.
    ticket: u64,
    round: u64,
    wake: Option<Moment>,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
struct Flow {
    of: FlowOf,
    /// Its classes; empty when it is not shaped.
    path: Vec<ClassId>,
    /// Classes that count others because it is there.
    reasons: Vec<ClassId>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    want: usize,
    since: Moment,
    ticket: u64,
    /// The class whose cap it waits for.
    held_by: Option<ClassId>,
}

impl Shaper {
    /// Keeps to `policy` from now on. Tokens and turns of classes that stay are kept.
    pub fn apply(&mut self, now: Moment, policy: Bandwidth) {
        self.policy = policy;
        for (name, class) in self.classes.values_mut() {
            class.allow(allowance(&self.policy, name), now);
        }
        let flows: Vec<FlowId> = self.flows.keys().copied().collect();
        for flow in flows {
            self.place(now, flow);
        }
        self.serve(now);
    }

    /// A flow begins. It is not shaped until an effect says so.
    pub fn open(&mut self, now: Moment, of: FlowOf) -> Result<FlowId, Full> {
        if self.flows.len() >= MAX_FLOWS {
            return Err(Full);
        }
        let id = FlowId(self.next_flow);
        self.next_flow += 1;
        self.flows.insert(id, Flow { of, path: Vec::new(), reasons: Vec::new() });
        self.place(now, id);
        Ok(id)
    }

    pub fn close(&mut self, now: Moment, flow: FlowId) {
        for direction in Direction::ALL {
            self.take_back(flow, direction);
        }
        let Some(gone) = self.flows.remove(&flow) else { return };
        self.leave(&gone.path, &gone.reasons);
        self.effects.retain(|effect| match effect {
            Effect::Grant { flow: of, .. } | Effect::Shaped { flow: of, .. } => *of != flow,
        });
        // Who waited behind it, or was held down while it was interactive, may go on.
        self.serve(now);
    }

    /// Asks whether `bytes` may pass. What is granted counts as passed.
    pub fn ask(&mut self, now: Moment, flow: FlowId, direction: Direction, bytes: usize) -> Answer {
        let Some(found) = self.flows.get(&flow) else { return Answer::Now(bytes) };
        if found.path.is_empty() {
            return Answer::Now(bytes);
        }
        let way = Way { classes: &self.classes, path: &found.path, direction };
        let ready = way.ready(now, bytes).0;
        if ready <= now && !way.is_waited_for() {
            return Answer::Now(self.pass(now, flow, direction, bytes));
        }
        self.ticket += 1;
        let waiting = Waiting { want: bytes, since: now, ticket: self.ticket, held_by: None };
        for id in &found.path {
            if let Some((_, class)) = self.classes.get_mut(id) {
                class.meter(direction).waiting += 1;
            }
        }
        self.waiting.insert((flow, direction), waiting);
        if ready <= now {
            self.serve(now);
        } else {
            self.wake_at(now, ready);
        }
        Answer::Later
    }

    /// Whoever asked does not wait any more.
    pub fn give_up(&mut self, now: Moment, flow: FlowId, direction: Direction) {
        if self.take_back(flow, direction).is_some() {
            self.serve(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Moment) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.serve(now);
        }
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Moment> {
        self.wake
    }

    /// The classes that something was said of, at most [`MAX_SHOWN`].
    pub fn status(&self, now: Moment) -> Vec<ClassStatus> {
        let said = self.named.values().filter_map(|id| self.classes.get(id));
        let said = said.filter(|(_, class)| class.allowance != Default::default());
        said.take(MAX_SHOWN).map(|(name, class)| class.status(*name, now)).collect()
    }

    /// Not before the next tick: many who want little are served together.
    fn wake_at(&mut self, now: Moment, ready: Moment) {
        let at = ready.max(now + TICK);
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Serves everybody who can be.
    fn serve(&mut self, now: Moment) {
        self.wake = None;
        if self.waiting.is_empty() {
            return;
        }
        self.round += 1;
        let mut later = Vec::new();
        for candidate in self.in_order(now) {
            if !self.still_stands(now, &candidate) {
                later.push(candidate);
                continue;
            }
            self.try_serve(now, candidate.flow, candidate.direction);
        }
        for candidate in later {
            self.try_serve(now, candidate.flow, candidate.direction);
        }
    }

    fn try_serve(&mut self, now: Moment, flow: FlowId, direction: Direction) {
        let Some(waiting) = self.waiting.get(&(flow, direction)).copied() else { return };
        let Some(found) = self.flows.get(&flow) else { return };
        let way = Way { classes: &self.classes, path: &found.path, direction };
        if way.is_claimed(self.round) {
            return;
        }
        let (ready, by) = way.ready(now, waiting.want);
        if ready <= now {
            self.take_back(flow, direction);
            let bytes = self.pass(now, flow, direction, waiting.want);
            self.effects.push_back(Effect::Grant { flow, direction, bytes });
            let held_by = waiting.held_by.and_then(|id| self.classes.get_mut(&id));
            if let Some((_, class)) = held_by {
                let meter = class.meter(direction);
                meter.waited = meter.waited.saturating_add(now.since(waiting.since));
            }
            return;
        }
        let round = self.round;
        let holding = by.and_then(|id| self.classes.get_mut(&id));
        if let Some((_, class)) = holding {
            class.meter(direction).claimed = round;
        }
        if let Some(waiting) = self.waiting.get_mut(&(flow, direction)) {
            waiting.held_by = by;
        }
        self.wake_at(now, ready);
    }

    /// Takes the tokens for what may pass now of `want`; says how much that is.
    fn pass(&mut self, now: Moment, flow: FlowId, direction: Direction, want: usize) -> usize {
        let Some(found) = self.flows.get(&flow) else { return want };
        let way = Way { classes: &self.classes, path: &found.path, direction };
        let bytes = way.passing(now, want);
        self.ticket += 1;
        for id in &found.path {
            let Some((name, class)) = self.classes.get_mut(id) else { continue };
            class.pass(now, direction, bytes, want);
            class.turn = self.ticket;
            if matches!(name, ClassName::Organization(_)) {
                class.count_lane(found.of.lane, direction, bytes);
            }
        }
        bytes
    }

    /// Ends a wait.
    fn take_back(&mut self, flow: FlowId, direction: Direction) -> Option<Waiting> {
        let waiting = self.waiting.remove(&(flow, direction))?;
        for id in self.flows.get(&flow).map_or(&[][..], |flow| &flow.path) {
            if let Some((_, class)) = self.classes.get_mut(id) {
                class.meter(direction).waiting -= 1;
            }
        }
        Some(waiting)
    }

    /// Finds a flow's classes anew. Who waits goes on waiting, for as long as it is shaped.
    fn place(&mut self, now: Moment, id: FlowId) {
        let Some(of) = self.flows.get(&id).map(|flow| flow.of) else { return };
        let (path, reasons) = self.enter(now, &of);
        let waits: Vec<(Direction, Waiting)> = Direction::ALL
            .into_iter()
            .filter_map(|direction| Some((direction, self.take_back(id, direction)?)))
            .collect();
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let shaped = !path.is_empty();
        let was = !flow.path.is_empty();
        let before = std::mem::replace(&mut flow.path, path.clone());
        let reasons_before = std::mem::replace(&mut flow.reasons, reasons);
        self.leave(&before, &reasons_before);
        if shaped != was {
            self.effects.push_back(Effect::Shaped { flow: id, shaped });
        }
        for (direction, waiting) in waits {
            if !shaped {
                let bytes = waiting.want;
                self.effects.push_back(Effect::Grant { flow: id, direction, bytes });
                continue;
            }
            for class in &path {
                if let Some((_, class)) = self.classes.get_mut(class) {
                    class.meter(direction).waiting += 1;
                }
            }
            self.waiting.insert((id, direction), Waiting { held_by: None, ..waiting });
        }
    }

    /// The classes of a flow, which counts in them from now on, and those that it is a reason of.
    fn enter(&mut self, now: Moment, of: &FlowOf) -> (Vec<ClassId>, Vec<ClassId>) {
        let said = self.policy.organizations.get(&of.organization);
        if self.policy.node.is_none() && said.is_none() {
            return (Vec::new(), Vec::new());
        }
        let organization = of.organization;
        let concerns: Vec<_> = said
            .into_iter()
            .flat_map(|said| &said.rules)
            .filter_map(|rule| Some((rule.traffic, concern(&rule.traffic, of)?)))
            .collect();
        let mut path = vec![
            self.class(now, ClassName::Node),
            self.class(now, ClassName::Organization(organization)),
        ];
        let mut reasons = Vec::new();
        for (traffic, concern) in concerns {
            let one = traffic.each.map(|each| One::of(each, of));
            let id = self.class(now, ClassName::Rule { organization, traffic, one });
            match concern {
                Concern::Counted => path.push(id),
                Concern::Reason => reasons.push(id),
            }
        }
        let session = Some(of.session);
        path.push(self.class(now, ClassName::Session { organization, session }));
        for (ids, reason) in [(&path, false), (&reasons, true)] {
            for id in ids {
                let Some((_, class)) = self.classes.get_mut(id) else { continue };
                let count = if reason { &mut class.reasons } else { &mut class.flows };
                *count += 1;
            }
        }
        (path, reasons)
    }

    fn class(&mut self, now: Moment, name: ClassName) -> ClassId {
        if let Some(id) = self.named.get(&name) {
            return *id;
        }
        let shared = match name {
            ClassName::Rule { organization, traffic, one: Some(_) } => {
                Some(ClassName::Rule { organization, traffic, one: None })
            }
            ClassName::Session { organization, session: Some(_) } => {
                Some(ClassName::Session { organization, session: None })
            }
            _ => None,
        };
        if let Some(shared) = shared.filter(|_| self.classes.len() >= MAX_CLASSES) {
            return self.class(now, shared);
        }
        let id = self.next_class;
        self.next_class += 1;
        self.classes.insert(id, (name, Class::new(&name, allowance(&self.policy, &name), now)));
        self.named.insert(name, id);
        id
    }

    fn leave(&mut self, path: &[ClassId], reasons: &[ClassId]) {
        for (ids, reason) in [(path, false), (reasons, true)] {
            for id in ids {
                let Some((name, class)) = self.classes.get_mut(id) else { continue };
                let count = if reason { &mut class.reasons } else { &mut class.flows };
                *count -= 1;
                if class.flows == 0 && class.reasons == 0 {
                    let name = *name;
                    self.classes.remove(id);
                    self.named.remove(&name);
                }
            }
        }
    }
}

/// One direction of a flow's classes.
struct Way<'a> {
    classes: &'a BTreeMap<ClassId, (ClassName, Class)>,
    path: &'a [ClassId],
    direction: Direction,
}

impl Way<'_> {
    fn each(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        self.path.iter().filter_map(|id| Some((*id, &self.classes.get(id)?.1)))
    }

    /// When some of `want` can pass, and the class that is the last to have tokens.
    fn ready(&self, now: Moment, want: usize) -> (Moment, Option<ClassId>) {
        let caps = || self.each().filter_map(|(id, class)| Some((id, class.cap(self.direction)?)));
        let least = caps().map(|(_, cap)| cap.quantum()).min().unwrap_or(want).min(want);
        let ready = caps().map(|(id, cap)| (cap.ready(now, least), Some(id)));
        ready.max_by_key(|(ready, _)| *ready).unwrap_or((now, None))
    }

    /// How much of `want` passes now: no more than there is of any cap, and of any reserve that
    /// it passes by.
    fn passing(&self, now: Moment, want: usize) -> usize {
        let caps = self.each().filter_map(|(_, class)| class.cap(self.direction));
        let caps = caps.map(|cap| cap.bytes(now));
        let reserves =
            self.each().filter_map(|(_, class)| class.committed(now, self.direction, want));
        caps.chain(reserves).min().unwrap_or(want).min(want).min(MAX_GRANT)
    }

    fn is_waited_for(&self) -> bool {
        self.each().any(|(_, class)| class.meters[self.direction.index()].waiting > 0)
    }

    fn is_claimed(&self, round: u64) -> bool {
        self.each().any(|(_, class)| class.meters[self.direction.index()].claimed == round)
    }
}
