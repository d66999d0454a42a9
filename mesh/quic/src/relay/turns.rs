//! Turns and bounds of everything that this relay forwards.
//!
//! Every direction of every flow asks here before it takes anything from its socket: a pure machine
//! says whose turn it is, another what is beyond a bound. One task has the timer for all of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rap_mesh_core::{
    bounds::{Bounds, Limits, Quota, Whose},
    lane_turns::{Answer, Full, LaneTurns, MemberId},
};
use rap_proto::{BitRate, Lane, Moment};
use rap_splice::Gate;
use tokio::{sync::Notify, time::sleep};

use super::batch::Batch;
use crate::{
    clock::Clock,
    mesh::{Mesh, locked},
    status::RelayedStatus,
};

pub(crate) struct Turns {
    clock: Clock,
    state: Mutex<State>,
    /// The timer has to be set anew.
    sooner: Notify,
}

struct State {
    turns: LaneTurns,
    bounds: Bounds,
    members: BTreeMap<MemberId, Arc<Waiter>>,
    /// Datagrams that came from elsewhere than from a flow's own address.
    strangers: u64,
    /// What the timer is set to.
    armed: Option<Moment>,
}

/// What a member and its machine share.
#[derive(Default)]
struct Waiter {
    /// Bytes of a turn that was given and not taken yet.
    granted: AtomicUsize,
    changed: Notify,
}

impl Turns {
    pub(super) fn new(limits: Limits, clock: Clock) -> Self {
        let state = State {
            turns: LaneTurns::default(),
            bounds: Bounds::new(limits),
            members: BTreeMap::new(),
            strangers: 0,
            armed: None,
        };
        Self { clock, state: Mutex::new(state), sooner: Notify::new() }
    }

    /// Forwards no more than this from now on.
    pub(super) fn apply(&self, rate: Option<BitRate>) {
        self.change(|state, now| state.turns.apply(now, rate));
    }

    pub(super) fn status(&self) -> RelayedStatus {
        let state = locked(&self.state);
        let counts = state.bounds.counts();
        RelayedStatus {
            datagrams: counts.datagrams,
            bytes: counts.bytes,
            dropped_datagrams: counts.dropped_datagrams,
            dropped_bytes: counts.dropped_bytes,
            held_back: counts.held_back,
            waits: state.turns.waits(),
            strangers: state.strangers,
        }
    }

    /// A place for both directions of a flow.
    pub(super) fn begin(
        self: &Arc<Self>,
        flow: u64,
        lane: Lane,
        whose: Whose,
    ) -> Result<Carried, Full> {
        let (up, down) = (self.join(flow, lane)?, self.join(flow, lane)?);
        self.change(|state, now| state.bounds.begin(now, flow, whose));
        Ok(Carried { up, down })
    }

    fn join(self: &Arc<Self>, flow: u64, lane: Lane) -> Result<Way, Full> {
        let mut state = locked(&self.state);
        let member = state.turns.join(lane)?;
        let waiter = Arc::new(Waiter::default());
        state.members.insert(member, waiter.clone());
        Ok(Way { turns: self.clone(), flow, member, waiter })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, Moment) -> T) -> T {
        let mut state = locked(&self.state);
        let changed = change(&mut state, self.clock.moment());
        if state.perform() {
            self.sooner.notify_one();
        }
        changed
    }
}

impl State {
    /// Performs the effects. True when the timer is too late.
    fn perform(&mut self) -> bool {
        while let Some(turn) = self.turns.poll_effect() {
            if let Some(waiter) = self.members.get(&turn.member) {
                waiter.granted.store(turn.bytes, Ordering::Release);
                waiter.changed.notify_one();
            }
        }
        match (self.turns.poll_timeout(), self.armed) {
            (Some(wanted), Some(armed)) => wanted < armed,
            (wanted, None) => wanted.is_some(),
            (None, Some(_)) => false,
        }
    }
}

/// Wakes those that wait, until the node leaves.
pub(crate) async fn drive(mesh: Arc<Mesh>) {
    tokio::select! {
        biased;
        () = mesh.leaving.cancelled() => {}
        () = mesh.relay.turns.wake() => {}
    }
}

impl Turns {
    /// Wakes those that wait, for ever.
    pub(super) async fn wake(&self) {
        loop {
            let due = {
                let mut state = locked(&self.state);
                state.armed = state.turns.poll_timeout();
                state.armed
            };
            tokio::select! {
                biased;
                () = self.sooner.notified() => {}
                () = self.clock.until(due) => self.change(|state, now| state.turns.handle_timeout(now)),
            }
        }
    }
}

/// Both directions of a flow; its places are given back however it ends.
pub(super) struct Carried {
    pub(super) up: Way,
    pub(super) down: Way,
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.up.turns.change(|state, _| state.bounds.end(self.up.flow));
    }
}

/// One direction.
pub(super) struct Way {
    turns: Arc<Turns>,
    flow: u64,
    member: MemberId,
    waiter: Arc<Waiter>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.turns.change(|state, now| {
            state.turns.leave(now, self.member);
            state.members.remove(&self.member);
        });
    }
}

impl Way {
    /// Waits for its turn.
    pub(super) async fn next_turn(&self) -> Turn<'_> {
        let mut turn = self.no_turn();
        turn.again().await;
        turn
    }

    async fn answered(&self, answer: Answer) -> usize {
        if let Answer::Now(bytes) = answer {
            return bytes;
        }
        loop {
            let granted = self.waiter.granted.swap(0, Ordering::Acquire);
            if granted > 0 {
                return granted;
            }
            self.waiter.changed.notified().await;
        }
    }

    const fn no_turn(&self) -> Turn<'_> {
        Turn { way: self, room: 0, passed: Passed { bytes: 0, streamed: 0 } }
    }
}

/// While it is held, it is this direction's turn. Dropped before it is there, it is given up.
pub(super) struct Turn<'a> {
    way: &'a Way,
    room: usize,
    passed: Passed,
}

/// What passed in a turn and is not counted yet.
#[derive(Default)]
struct Passed {
    bytes: usize,
    /// Of them, what no bound has counted.
    streamed: usize,
}

impl Passed {
    /// What the bounds have to know before anything else is asked of them.
    fn count(self, state: &mut State, now: Moment, flow: u64) -> usize {
        if self.streamed > 0 {
            state.bounds.passed(now, flow, self.streamed);
        }
        self.bytes
    }
}

impl Turn<'_> {
    pub(super) const fn room(&self) -> usize {
        self.room
    }

    /// Waits for its next turn. The one that it has is over, and nobody below comes between the two.
    pub(super) async fn again(&mut self) {
        let Way { turns, flow, member, .. } = self.way;
        let passed = self.over();
        let answer = turns.change(|state, now| {
            let bytes = passed.count(state, now, *flow);
            state.turns.again(now, *member, bytes)
        });
        self.room = self.way.answered(answer).await;
    }

    /// The same for a stream, which is not read while it is at a bound.
    async fn again_within_bounds(&mut self) {
        let Way { turns, flow, member, .. } = self.way;
        let mut passed = self.over();
        loop {
            let passed = std::mem::take(&mut passed);
            let asked = turns.change(|state, now| {
                let bytes = passed.count(state, now, *flow);
                match state.bounds.quota(now, *flow) {
                    Quota::Now(most) => Ok((most, state.turns.again(now, *member, bytes))),
                    Quota::At(at) => {
                        state.turns.end(now, *member, bytes);
                        Err(at.since(now))
                    }
                }
            });
            match asked {
                Ok((most, answer)) => {
                    self.room = self.way.answered(answer).await.min(most);
                    return;
                }
                Err(wait) => sleep(wait).await,
            }
        }
    }

    /// There is no turn until the next one has come.
    fn over(&mut self) -> Passed {
        self.room = 0;
        std::mem::take(&mut self.passed)
    }

    /// Leaves out of a batch what is beyond a bound, and counts the rest.
    pub(super) fn admit(&mut self, batch: &mut Batch) {
        let Way { turns, flow, .. } = self.way;
        let now = turns.clock.moment();
        let mut state = locked(&turns.state);
        state.strangers += batch.strangers();
        self.passed.bytes += batch.shorten(|run| state.bounds.admit(now, *flow, run));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        let Way { turns, flow, member, waiter } = self.way;
        turns.change(|state, now| {
            let bytes = passed.count(state, now, *flow);
            state.turns.end(now, *member, bytes);
        });
        if self.room == 0 {
            // What was given at the last moment is not for the next question.
            waiter.granted.store(0, Ordering::Release);
        }
    }
}

impl Gate for Way {
    type Turn<'a> = Turn<'a>;

    async fn turn(&self) -> Turn<'_> {
        let mut turn = self.no_turn();
        turn.again_within_bounds().await;
        turn
    }
}

impl rap_splice::Turn for Turn<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn passed(&mut self, bytes: usize) {
        self.passed.bytes += bytes;
        self.passed.streamed += bytes;
    }

    async fn again(&mut self) {
        self.again_within_bounds().await;
    }
}

#[cfg(test)]
mod tests;
