//! Which classes a queue counts in, from its first flow to its last.

use std::sync::Arc;

use rap_proto::{Moment, bandwidth::Allowance};

use super::{
    Class, ClassId, ClassName, Direction, Effect, FlowId, FlowOf, MAX_CLASSES, MAX_CLASSES_OF_ONE,
    MAX_MOVES, One, Queue, QueueId, Shaper,
    class::{Concern, concern},
    plan::Share,
    queue::Path,
};

impl Shaper {
    /// Adds a flow to those that are like it.
    pub(super) fn join(&mut self, now: Moment, of: FlowOf, flow: FlowId) -> QueueId {
        let known = self.alike.get(&of).copied();
        let id = known.unwrap_or_else(|| self.begin(now, of));
        let Some(queue) = self.queues.get_mut(&id) else { return id };
        queue.flows.insert(flow);
        if let Some(path) = queue.path.clone() {
            self.effects.push_back(Effect::Shaped { flow, shaped: true });
            self.enter(&path, 1);
        }
        id
    }

    /// Takes a flow away that nothing waits for.
    pub(super) fn part(&mut self, now: Moment, id: QueueId, flow: FlowId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.flows.remove(&flow);
        let (of, path, is_last) = (queue.of, queue.path.clone(), queue.flows.is_empty());
        if let Some(counted) = self.counted.get_mut(&of.organization) {
            *counted -= 1;
            if *counted == 0 {
                self.counted.remove(&of.organization);
            }
        }
        if is_last {
            self.queues.remove(&id);
            self.alike.remove(&of);
            self.moving.remove(&id);
        }
        if let Some(path) = path {
            self.leave(now, &path, 1, is_last);
        }
    }

    /// Finds the classes of some queues anew; the rest follows.
    pub(super) fn move_some(&mut self, now: Moment) {
        for _ in 0..MAX_MOVES {
            let Some(queue) = self.moving.pop_first() else { return };
            self.place_anew(now, queue);
        }
        self.unfinished |= !self.moving.is_empty();
    }

    /// Finds a queue's classes anew. Who waits goes on waiting, for as long as it is shaped.
    fn place_anew(&mut self, now: Moment, id: QueueId) {
        let Some(of) = self.queues.get(&id).map(|queue| queue.of) else { return };
        for direction in Direction::ALL {
            self.withdraw(now, direction, id);
        }
        let path = self.path(now, &of);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let before = std::mem::replace(&mut queue.path, path.clone());
        if before.is_some() != path.is_some() {
            let shaped = path.is_some();
            let said = queue.flows.iter().map(|flow| Effect::Shaped { flow: *flow, shaped });
            self.effects.extend(said);
        }
        // A queue has at most `MAX_FLOWS`.
        let flows = u32::try_from(queue.flows.len()).unwrap_or(u32::MAX);
        if let Some(path) = &path {
            self.enter(path, flows);
            self.reason(path);
        }
        if let Some(before) = before {
            self.leave(now, &before, flows, true);
        }
        for direction in Direction::ALL {
            self.wait_anew(now, direction, id);
        }
    }

    /// Puts those who wait where they begin now.
    fn wait_anew(&mut self, now: Moment, direction: Direction, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let shaped = queue.path.is_some();
        let line = queue.line_mut(direction);
        line.tags = Default::default();
        line.held_by = None;
        if shaped {
            if !line.waiting.is_empty() {
                self.make_ready(now, direction, id, 0);
            }
            return;
        }
        for waiting in std::mem::take(&mut line.waiting).into_values() {
            if let Some(flow) = self.flows.get_mut(&waiting.flow) {
                flow.tickets[direction.index()] = None;
            }
            let bytes = waiting.want;
            self.effects.push_back(Effect::Grant { flow: waiting.flow, direction, bytes });
        }
    }

    /// A queue without flows. Nothing counts in its classes yet but what it is a reason of.
    fn begin(&mut self, now: Moment, of: FlowOf) -> QueueId {
        let id = QueueId(self.id());
        let path = self.path(now, &of);
        if let Some(path) = &path {
            self.reason(path);
        }
        let mut queue = Queue::new(of);
        queue.path = path;
        self.queues.insert(id, queue);
        self.alike.insert(of, id);
        id
    }

    /// The classes that the policy has for a queue; none when nothing is said of it.
    fn path(&mut self, now: Moment, of: &FlowOf) -> Option<Arc<Path>> {
        let organization = of.organization;
        let node = self.plan.node;
        let said = self.plan.organizations.get(&organization);
        if node.is_none() && said.is_none() {
            return None;
        }
        let granted = said.map(|said| said.granted).unwrap_or_default();
        let rules = said.into_iter().flat_map(|said| &said.rules);
        let concerns: Vec<_> = rules
            .filter_map(|(traffic, share)| Some((*traffic, *share, concern(traffic, of)?)))
            .collect();
        let node = node.map(|cap| {
            let said = Allowance { cap: Some(cap), reserved: None };
            self.class(now, ClassName::Node, Share { said, reserved: None })
        });
        let own = self.class(now, ClassName::Organization(organization), granted);
        let mut path = Path {
            organization: own,
            node,
            rules: Vec::new(),
            reserves: Vec::new(),
            reasons: Vec::new(),
        };
        for (traffic, share, concern) in concerns {
            let one = traffic.each.map(|each| One::of(each, of));
            let id = self.class(now, ClassName::Rule { organization, traffic, one }, share);
            match concern {
                Concern::Counted => path.rules.push(id),
                Concern::Reason => path.reasons.push(id),
            }
        }
        let keeps = |id: &ClassId| self.classes.get(id).is_some_and(Class::has_reserve);
        path.reserves = path.rules.iter().copied().filter(keeps).collect();
        Some(Arc::new(path))
    }

    /// The class of that name, with what it may take.
    fn class(&mut self, now: Moment, name: ClassName, share: Share) -> ClassId {
        let known = self.named.get(&name).copied();
        let id = match (known, name) {
            (Some(id), _) => id,
            (None, ClassName::Rule { organization, traffic, one: Some(_) })
                if !self.has_room(ClassName::Organization(organization)) =>
            {
                return self.class(
                    now,
                    ClassName::Rule { organization, traffic, one: None },
                    share,
                );
            }
            (None, name) => self.add(name),
        };
        if let Some(class) = self.classes.get_mut(&id) {
            class.allow(share, now);
        }
        id
    }

    /// Whether an organization may have one more class for one of many.
    fn has_room(&self, organization: ClassName) -> bool {
        let own = self.named.get(&organization).and_then(|id| self.classes.get(id));
        let ones = own.map_or(0, |own| own.ones);
        self.classes.len() < MAX_CLASSES && ones < MAX_CLASSES_OF_ONE
    }

    fn add(&mut self, name: ClassName) -> ClassId {
        let id = self.id();
        self.classes.insert(id, Class::new(name));
        self.named.insert(name, id);
        if let Some(own) = self.counts_ones(name) {
            own.ones += 1;
        }
        id
    }

    /// The organization's class, of a class that is for one of many.
    fn counts_ones(&mut self, name: ClassName) -> Option<&mut Class> {
        let ClassName::Rule { organization, one: Some(_), .. } = name else { return None };
        let own = self.named.get(&ClassName::Organization(organization))?;
        self.classes.get_mut(own)
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn reason(&mut self, path: &Path) {
        for id in &path.reasons {
            if let Some(class) = self.classes.get_mut(id) {
                class.reasons += 1;
            }
        }
    }

    fn enter(&mut self, path: &Path, flows: u32) {
        for id in path.classes() {
            if let Some(class) = self.classes.get_mut(&id) {
                class.flows += flows;
            }
        }
    }

    /// The other way round; `is_last` when the whole queue goes.
    fn leave(&mut self, now: Moment, path: &Path, flows: u32, is_last: bool) {
        for id in path.classes() {
            if let Some(class) = self.classes.get_mut(&id) {
                class.flows -= flows;
                self.remove_unused(id);
            }
        }
        for id in path.reasons.iter().filter(|_| is_last) {
            let Some(class) = self.classes.get_mut(id) else { continue };
            class.reasons -= 1;
            if class.reasons == 0 && class.flows > 0 {
                // It counts nobody any more: who waits for its cap is called.
                for direction in Direction::ALL {
                    self.look_at(now, direction, *id);
                }
            }
            self.remove_unused(*id);
        }
    }

    fn remove_unused(&mut self, id: ClassId) {
        let unused = self.classes.get(&id).filter(|class| class.flows == 0 && class.reasons == 0);
        let Some(name) = unused.map(|class| class.name) else { return };
        for direction in Direction::ALL {
            self.set_wake(direction, id, None);
            self.unlist(direction, id);
        }
        self.classes.remove(&id);
        self.named.remove(&name);
        if let Some(own) = self.counts_ones(name) {
            own.ones -= 1;
        }
    }
}
