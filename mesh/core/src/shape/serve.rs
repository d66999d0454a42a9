//! Serves who waits: queue by queue, until a cap is used up.

use rap_proto::Moment;

use super::{
    Class, ClassId, ClassName, Direction, Effect, FlowId, MAX_GRANT, MAX_SAVED, MAX_STEPS, QueueId,
    Shaper,
    queue::{Path, Waiting},
    turns::Standing,
};

/// What a queue waits for, and from when on it is there.
enum Obstacle {
    Rule(ClassId),
    Organization(ClassId, Moment),
    Node(ClassId, Moment),
}

impl Shaper {
    pub(super) fn serve(&mut self, now: Moment) {
        for direction in Direction::ALL {
            self.serve_one(now, direction);
        }
    }

    /// Serves everybody who can be, in one direction.
    pub(super) fn serve_one(&mut self, now: Moment, direction: Direction) {
        for _ in 0..MAX_STEPS {
            if !self.step(now, direction) {
                return;
            }
        }
        self.unfinished = true;
    }

    /// Serves the first, or moves it to where it waits. False when nobody is left that the node
    /// has tokens for.
    fn step(&mut self, now: Moment, direction: Direction) -> bool {
        let Some(organization) = self.next_organization(now, direction) else { return false };
        self.sides[direction.index()].counts.steps += 1;
        let Some((queue, standing)) = self.first_at(now, direction, organization) else {
            self.unlist(direction, organization);
            return true;
        };
        match self.obstacle(now, direction, queue) {
            None => self.grant(now, direction, queue, standing),
            Some(Obstacle::Rule(class)) => self.park(now, direction, queue, class),
            Some(Obstacle::Organization(class, at)) => {
                self.unlist(direction, class);
                self.hold(direction, organization, class, at);
            }
            Some(Obstacle::Node(class, at)) => {
                self.hold(direction, organization, class, at);
                return false;
            }
        }
        true
    }

    /// Whoever is of the organization waits for the cap of a class around all of it.
    fn hold(&mut self, direction: Direction, organization: ClassId, class: ClassId, at: Moment) {
        self.set_wake(direction, class, Some(at));
        if let Some(own) = self.classes.get_mut(&organization) {
            own.meter_mut(direction).among.held_by = Some(class);
        }
    }

    /// The cap that a queue lacks: of the rules the one that has it last, then those around all.
    fn obstacle(&self, now: Moment, direction: Direction, id: QueueId) -> Option<Obstacle> {
        let path = self.queues.get(&id)?.path.as_ref()?;
        let least = self.least(direction, id);
        let lacks = |class: ClassId| {
            let ready = self.classes.get(&class)?.ready(now, direction, id, least)?;
            (ready > now).then_some((class, ready))
        };
        let rules = path.rules.iter().filter_map(|class| lacks(*class));
        if let Some((class, _)) = rules.max_by_key(|(_, ready)| *ready) {
            return Some(Obstacle::Rule(class));
        }
        if let Some((class, ready)) = lacks(path.organization) {
            return Some(Obstacle::Organization(class, ready));
        }
        path.node.and_then(lacks).map(|(class, ready)| Obstacle::Node(class, ready))
    }

    /// How many bytes a queue waits for at least: what it wants, or what the slowest of its caps
    /// gives at once. At least one while somebody waits.
    fn least(&self, direction: Direction, id: QueueId) -> usize {
        let Some(want) = self.want(direction, id) else { return 0 };
        let classes = self.queues.get(&id).and_then(|queue| queue.path.as_ref());
        let classes = classes.into_iter().flat_map(|path| path.classes());
        let quanta = classes.filter_map(|class| self.classes.get(&class)?.quantum(direction));
        quanta.min().unwrap_or(want).min(want)
    }

    /// What the first of a queue wants.
    pub(super) fn want(&self, direction: Direction, id: QueueId) -> Option<usize> {
        self.queues.get(&id)?.line(direction).want()
    }

    /// Who comes first of those that wait at a class.
    pub(super) fn first_at(
        &self,
        now: Moment,
        direction: Direction,
        id: ClassId,
    ) -> Option<(QueueId, Standing)> {
        let meter = self.classes.get(&id)?.meter(direction);
        meter.order.first(meter.floors(), |reserve, queue| {
            let want = self.want(direction, queue);
            let reserve = self.classes.get(&reserve);
            reserve
                .zip(want)
                .is_some_and(|(reserve, want)| reserve.committed(now, direction, want).is_some())
        })
    }

    /// Makes a queue wait for a rule's cap. It claims what it wants of it, and of the one that
    /// called it before, where nobody else does.
    fn park(&mut self, now: Moment, direction: Direction, id: QueueId, class: ClassId) {
        let least = self.least(direction, id);
        let left = self.take(direction, id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let line = queue.line_mut(direction);
        line.held_by = Some(class);
        let caller = line.called_by.take();
        for claimed in caller.into_iter().chain([class]) {
            self.claim(direction, claimed, id, least);
        }
        self.put(direction, id, class);
        if let Some(left) = left {
            self.list(now, direction, left);
        }
        if let Some(caller) = caller {
            self.forget_call(direction, caller);
            if caller != class {
                self.call(now, direction, caller);
            }
        }
        self.call(now, direction, class);
    }

    /// Never more than the cap gives at once, so that as much again is left for another one.
    fn claim(&mut self, direction: Direction, class: ClassId, id: QueueId, least: usize) {
        let Some(class) = self.classes.get_mut(&class) else { return };
        let Some(most) = class.quantum(direction) else { return };
        let claim = &mut class.meter_mut(direction).claim;
        if claim.is_none_or(|(of, _)| of == id) {
            *claim = Some((id, least.min(most)));
        }
    }

    fn forget_call(&mut self, direction: Direction, class: ClassId) {
        if let Some(class) = self.classes.get_mut(&class) {
            class.meter_mut(direction).called = None;
        }
    }

    /// Calls the first who waits for a rule's cap, or says when it can be. Whoever was called
    /// before and was not served yet goes back: somebody may have come who goes first.
    fn call(&mut self, now: Moment, direction: Direction, class: ClassId) {
        let called =
            self.classes.get_mut(&class).and_then(|class| class.meter_mut(direction).called.take());
        if let Some(called) = called {
            let left = self.take(direction, called);
            if let Some(queue) = self.queues.get_mut(&called) {
                queue.line_mut(direction).called_by = None;
            }
            self.put(direction, called, class);
            if let Some(left) = left {
                self.list(now, direction, left);
            }
        }
        self.set_wake(direction, class, None);
        let Some((first, _)) = self.first_at(now, direction, class) else { return };
        let least = self.least(direction, first);
        let found = self.classes.get(&class);
        let ready = found.and_then(|found| found.ready(now, direction, first, least));
        if let Some(ready) = ready.filter(|ready| *ready > now) {
            self.claim(direction, class, first, least);
            self.set_wake(direction, class, Some(ready));
            return;
        }
        self.take(direction, first);
        if let Some(queue) = self.queues.get_mut(&first) {
            queue.line_mut(direction).called_by = Some(class);
        }
        if let Some(found) = self.classes.get_mut(&class) {
            found.meter_mut(direction).called = Some(first);
        }
        self.make_ready(now, direction, first, MAX_SAVED);
    }

    /// Looks at a class anew: who waits there may be another one, or may want something else.
    pub(super) fn look_at(&mut self, now: Moment, direction: Direction, id: ClassId) {
        match self.classes.get(&id).map(|class| class.name) {
            Some(ClassName::Organization(_)) => self.list(now, direction, id),
            Some(ClassName::Rule { .. }) => self.call(now, direction, id),
            Some(ClassName::Node) | None => {}
        }
    }

    /// Serves the first of a queue.
    fn grant(&mut self, now: Moment, direction: Direction, id: QueueId, standing: Standing) {
        let left = self.take(direction, id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(path) = queue.path.clone() else { return };
        let Some((_, waiting)) = queue.line_mut(direction).waiting.pop_first() else { return };
        let bytes = self.passing(now, direction, (id, &*path), waiting.want, standing);
        self.count(now, direction, (id, &*path), (waiting, bytes), standing);
        let waits = self.want(direction, id).is_some();
        if waits {
            self.make_ready(now, direction, id, MAX_SAVED);
        } else if let Some(left) = left {
            self.list(now, direction, left);
        }
        self.release(now, direction, id);
        self.answer(waiting.flow, direction, bytes);
    }

    fn answer(&mut self, flow: FlowId, direction: Direction, bytes: usize) {
        if let Some(found) = self.flows.get_mut(&flow) {
            found.tickets[direction.index()] = None;
        }
        if self.asking == Some((flow, direction)) {
            self.answered = Some(bytes);
        } else {
            self.effects.push_back(Effect::Grant { flow, direction, bytes });
        }
    }

    /// How much of `want` passes now: no more than there is of any cap, and of any reserve that
    /// it passes by.
    fn passing(
        &self,
        now: Moment,
        direction: Direction,
        (id, path): (QueueId, &Path),
        want: usize,
        standing: Standing,
    ) -> usize {
        let classes = || path.classes().filter_map(|id| self.classes.get(&id));
        let caps = classes().filter_map(|class| class.bytes(now, direction, id));
        let reserves = classes()
            .filter(|class| counts_as_committed(class, standing))
            .filter_map(|class| class.committed(now, direction, want));
        caps.chain(reserves).min().unwrap_or(want).min(want).min(MAX_GRANT)
    }

    /// Takes the tokens for what passes, and moves the turns on.
    fn count(
        &mut self,
        now: Moment,
        direction: Direction,
        (id, path): (QueueId, &Path),
        (waiting, bytes): (Waiting, usize),
        standing: Standing,
    ) {
        let Some(lane) = self.queues.get(&id).map(|queue| queue.of.lane) else { return };
        let mut granted = false;
        for class in path.classes() {
            let Some(class) = self.classes.get_mut(&class) else { continue };
            let commits = counts_as_committed(class, standing)
                && class.committed(now, direction, waiting.want).is_some();
            granted |= commits && matches!(class.name, ClassName::Organization(_));
            class.pass(now, direction, bytes, commits);
            class.meter_mut(direction).count(lane, standing, bytes);
        }
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(own) = self.classes.get_mut(&path.organization) else { return };
        let line = queue.line_mut(direction);
        let among = &mut own.meter_mut(direction).among;
        let (tag, clock) = (line.tags.of(standing), among.clock(lane).of(standing));
        *clock = (*clock).max(*tag);
        *tag = tag.saturating_add(bytes as u64);
        let side = &mut self.sides[direction.index()];
        if !granted {
            side.clock = side.clock.max(among.tag);
            among.tag = among.tag.saturating_add(bytes as u64);
        }
        let waited = waiting.waited(now);
        side.counts.bytes = side.counts.bytes.saturating_add(bytes as u64);
        side.counts.waited = side.counts.waited.saturating_add(waited);
        let held_by = line.held_by.take().or(among.held_by).unwrap_or(path.organization);
        if let Some(class) = self.classes.get_mut(&held_by) {
            let meter = class.meter_mut(direction);
            meter.waited = meter.waited.saturating_add(waited);
        }
    }

    /// Ends a question that waits.
    pub(super) fn take_back(&mut self, now: Moment, flow: FlowId, direction: Direction) {
        let Some(found) = self.flows.get_mut(&flow) else { return };
        let Some(ticket) = found.tickets[direction.index()].take() else { return };
        let id = found.queue;
        let place = self.take(direction, id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let line = queue.line_mut(direction);
        line.waiting.remove(&ticket);
        let Some(place) = place else { return };
        if line.waiting.is_empty() {
            self.release(now, direction, id);
        } else {
            self.put(direction, id, place);
        }
        self.look_at(now, direction, place);
    }

    /// Takes a queue out of wherever it waits. Those who wait in it stay.
    pub(super) fn withdraw(&mut self, now: Moment, direction: Direction, id: QueueId) {
        if let Some(place) = self.take(direction, id) {
            self.release(now, direction, id);
            self.look_at(now, direction, place);
        }
    }

    /// Gives up what a queue claims, and who called it: the next is called.
    fn release(&mut self, now: Moment, direction: Direction, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(path) = queue.path.clone() else { return };
        let caller = queue.line_mut(direction).called_by.take();
        if let Some(caller) = caller {
            self.forget_call(direction, caller);
        }
        for class in &path.rules {
            let Some(found) = self.classes.get_mut(class) else { continue };
            let claim = &mut found.meter_mut(direction).claim;
            let claimed = claim.is_some_and(|(of, _)| of == id);
            if claimed {
                *claim = None;
            }
            if claimed || caller == Some(*class) {
                self.call(now, direction, *class);
            }
        }
    }

    /// Lets a queue wait for its organization's turn; it begins not more than so many bytes before
    /// those that are served now.
    pub(super) fn make_ready(
        &mut self,
        now: Moment,
        direction: Direction,
        id: QueueId,
        saved: u64,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(organization) = queue.path.as_ref().map(|path| path.organization) else { return };
        let Some(own) = self.classes.get_mut(&organization) else { return };
        let clock = *own.meter_mut(direction).among.clock(queue.of.lane);
        let line = queue.line_mut(direction);
        line.tags = line.tags.at_most_behind(clock, saved);
        self.put(direction, id, organization);
        self.list(now, direction, organization);
    }

    fn take(&mut self, direction: Direction, id: QueueId) -> Option<ClassId> {
        let queue = self.queues.get_mut(&id)?;
        let place = queue.line_mut(direction).place.take()?;
        if let Some(class) = self.classes.get_mut(&place) {
            class.meter_mut(direction).order.remove(queue.entry(id, direction));
        }
        Some(place)
    }

    fn put(&mut self, direction: Direction, id: QueueId, place: ClassId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.line_mut(direction).place = Some(place);
        if let Some(class) = self.classes.get_mut(&place) {
            class.meter_mut(direction).order.insert(queue.entry(id, direction));
        }
    }

    /// Sets when a class is looked at again.
    pub(super) fn set_wake(&mut self, direction: Direction, id: ClassId, at: Option<Moment>) {
        let Some(class) = self.classes.get_mut(&id) else { return };
        let before = std::mem::replace(&mut class.meter_mut(direction).wake, at);
        if let Some(before) = before {
            self.timers.remove(&(before, direction, id));
        }
        if let Some(at) = at {
            self.timers.insert((at, direction, id));
        }
    }
}

/// Whether what passes comes off the class' reserve: a rule's only when it was served by it.
fn counts_as_committed(class: &Class, standing: Standing) -> bool {
    match class.name {
        ClassName::Rule { .. } => standing == Standing::Committed,
        ClassName::Organization(_) => true,
        ClassName::Node => false,
    }
}
