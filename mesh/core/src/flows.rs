//! The flows that a relay carries: bounded, owned by the node that asked, and gone by themselves
//! when nobody refreshes or uses them.
//!
//! Inputs: set-ups that [`crate::admission`] allowed, refreshes, closes, traffic
//! and time. Output: which flows have to end. The shell calls [`FlowTable::expire`] at
//! [`FlowTable::poll_timeout`] and drops the sockets of what it returns.

use std::{collections::BTreeMap, time::Duration};

use rap_proto::{
    Lane, Moment, NodeId, NodeRole, OrganizationId, RefusalCode, wire::hop::FLOW_TTL_MS,
};

use crate::bounds::Whose;

/// The most flows that one relay carries.
pub const MAX_FLOWS: usize = 4096;
/// The most flows that one node may have at one relay.
pub const MAX_FLOWS_PER_ASKER: usize = 256;
/// One place in so many, of both limits, is kept for lanes: there are many more streams than lanes,
/// and a lane that finds no place is a person who waits.
pub const KEPT_FOR_LANES: usize = 4;
/// The most legs of one asker that wait for the next relay of their path.
pub const MAX_WAITING_LEGS: usize = 32;
/// The most legs that one asker may have for one organization: a relay asks for many.
pub const MAX_LEGS_OF_ONE: usize = MAX_FLOWS_PER_ASKER / 2;
/// The most legs of one organization, whoever asks.
pub const MAX_LEGS_PER_ORGANIZATION: usize = MAX_FLOWS / 4;
/// A flow without datagrams in either direction ends after this, refreshed or not: a living
/// lane sends keep-alives far more often.
pub const FLOW_IDLE_MS: u64 = 30_000;

/// How large a table is; a relay uses [`Limits::RELAY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub flows: usize,
    pub flows_per_asker: usize,
}

impl Limits {
    pub const RELAY: Self = Self { flows: MAX_FLOWS, flows_per_asker: MAX_FLOWS_PER_ASKER };
}

/// By which right a flow is one leg of a path over several relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage {
    pub organization: OrganizationId,
    /// What the next node is there for: a relay, or the path's end.
    pub next_role: NodeRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub asker: NodeId,
    /// Whom this relay sends to: the next node of the path.
    pub target: NodeId,
    pub lane: Lane,
    /// `None` when this relay is the only one.
    pub passage: Option<Passage>,
    /// The rest of its path is being set up.
    waits: bool,
    expires: Moment,
    last_used: Moment,
}

/// INVARIANT: `per_asker` counts exactly the flows in `flows`, and holds no zero.
#[derive(Debug, Clone)]
pub struct FlowTable {
    limits: Limits,
    flows: BTreeMap<u64, Flow>,
    per_asker: BTreeMap<NodeId, usize>,
    next: u64,
}

impl FlowTable {
    pub fn new(limits: Limits) -> Self {
        Self { limits, flows: BTreeMap::new(), per_asker: BTreeMap::new(), next: 1 }
    }

    /// Adds a flow and returns its number, which is never used again.
    pub fn set_up(
        &mut self,
        now: Moment,
        asker: NodeId,
        target: NodeId,
        lane: Lane,
    ) -> Result<u64, RefusalCode> {
        let own = self.per_asker.get(&asker).copied().unwrap_or(0);
        if self.flows.len() >= self.limits.flows || own >= self.limits.flows_per_asker {
            return Err(RefusalCode::LimitReached);
        }
        let id = self.next;
        self.next += 1;
        let expires = now + Duration::from_millis(FLOW_TTL_MS);
        let flow =
            Flow { asker, target, lane, passage: None, waits: false, expires, last_used: now };
        self.flows.insert(id, flow);
        *self.per_asker.entry(asker).or_insert(0) += 1;
        Ok(id)
    }

    /// The same for a stream, which leaves one in [`KEPT_FOR_LANES`] places to lanes.
    pub fn set_up_stream(
        &mut self,
        now: Moment,
        asker: NodeId,
        target: NodeId,
        lane: Lane,
    ) -> Result<u64, RefusalCode> {
        let own = self.per_asker.get(&asker).copied().unwrap_or(0);
        let beyond = |used: usize, most: usize| used >= most - most / KEPT_FOR_LANES;
        if beyond(self.flows.len(), self.limits.flows) || beyond(own, self.limits.flows_per_asker) {
            return Err(RefusalCode::LimitReached);
        }
        self.set_up(now, asker, target, lane)
    }

    /// Makes a flow one leg of a longer path, whose rest is set up now. One that is refused is gone.
    pub fn lead_on(&mut self, id: u64, passage: Passage) -> Result<(), RefusalCode> {
        let Some(flow) = self.flows.get_mut(&id) else { return Err(RefusalCode::PathUnavailable) };
        // The last leg may wait for its node's knock: calls have bounds of their own.
        let waits = passage.next_role == NodeRole::RelayNode;
        (flow.passage, flow.waits) = (Some(passage), waits);
        let asker = flow.asker;
        let legs = |is_one: &dyn Fn(&Flow) -> bool| {
            self.flows.values().filter(|flow| flow.passage.is_some() && is_one(flow)).count()
        };
        let is_theirs =
            |flow: &Flow| flow.passage.is_some_and(|it| it.organization == passage.organization);
        let full = legs(&|flow| flow.waits && flow.asker == asker) > MAX_WAITING_LEGS
            || legs(&|flow| flow.asker == asker && is_theirs(flow)) > MAX_LEGS_OF_ONE
            || legs(&is_theirs) > MAX_LEGS_PER_ORGANIZATION;
        if full {
            self.remove(id);
            return Err(RefusalCode::LimitReached);
        }
        Ok(())
    }

    /// The rest of a leg's path is there. False when the leg lost its place meanwhile.
    pub fn led_on(&mut self, id: u64) -> bool {
        let Some(flow) = self.flows.get_mut(&id) else { return false };
        flow.waits = false;
        true
    }

    /// Keeps a flow for another [`FLOW_TTL_MS`], when it is the asker's.
    pub fn refresh(&mut self, now: Moment, asker: NodeId, id: u64) -> Result<(), RefusalCode> {
        let flow = self
            .flows
            .get_mut(&id)
            .filter(|flow| flow.asker == asker)
            .ok_or(RefusalCode::PathUnavailable)?;
        flow.expires = now + Duration::from_millis(FLOW_TTL_MS);
        Ok(())
    }

    /// Keeps a flow that shows by itself that both sides live: a stream, for as long as its
    /// connections are up.
    pub fn keep(&mut self, now: Moment, id: u64) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.expires = now + Duration::from_millis(FLOW_TTL_MS);
            flow.last_used = now;
        }
    }

    /// Notes that datagrams were forwarded at `at`.
    pub fn used(&mut self, at: Moment, id: u64) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.last_used = flow.last_used.max(at);
        }
    }

    /// Removes a flow, when it is the asker's. False when there was none.
    pub fn close(&mut self, asker: NodeId, id: u64) -> bool {
        let own = self.flows.get(&id).is_some_and(|flow| flow.asker == asker);
        if own {
            self.remove(id);
        }
        own
    }

    /// Removes a flow whose sockets failed.
    pub fn remove(&mut self, id: u64) {
        let Some(flow) = self.flows.remove(&id) else { return };
        let count = self.per_asker.get_mut(&flow.asker).expect("INVARIANT of the table");
        *count -= 1;
        if *count == 0 {
            self.per_asker.remove(&flow.asker);
        }
    }

    /// Removes and returns the flows whose time is over.
    pub fn expire(&mut self, now: Moment) -> Vec<u64> {
        self.remove_where(|flow| flow.deadline() <= now)
    }

    /// Removes and returns the flows that `keep` does not want, as under a new view.
    pub fn retain(&mut self, keep: impl Fn(&Flow) -> bool) -> Vec<u64> {
        self.remove_where(|flow| !keep(flow))
    }

    pub fn flow(&self, id: u64) -> Option<&Flow> {
        self.flows.get(&id)
    }

    /// When the next flow's time is over.
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.flows.values().map(Flow::deadline).min()
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    fn remove_where(&mut self, over: impl Fn(&Flow) -> bool) -> Vec<u64> {
        let ids: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| over(flow)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.remove(*id));
        ids
    }
}

impl Flow {
    /// Whom what it forwards counts for.
    pub fn whose(&self) -> Whose {
        Whose { asker: self.asker, organization: self.passage.map(|passage| passage.organization) }
    }

    fn deadline(&self) -> Moment {
        self.expires.min(self.last_used + Duration::from_millis(FLOW_IDLE_MS))
    }
}

#[cfg(test)]
mod tests;
