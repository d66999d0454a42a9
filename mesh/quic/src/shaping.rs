//! The endpoint's shaper: flows ask it before they pass bytes on, and wait until they may.
//!
//! What waits is a piece that was read already, at most one of each direction, and nothing more is
//! read meanwhile: so the sender feels it, and nothing is dropped or queued. One task has the timer
//! for all flows. A flow that nothing is said of looks at one flag and asks nobody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rap_mesh_core::shape::{
    Answer, ClassStatus, Counts, Direction, Effect, FlowId, FlowOf, MAX_GRANT, Shaper,
};
use rap_proto::{Lane, Moment, RefusalCode, bandwidth::Bandwidth, token::AccessClaims};
use tokio::sync::Notify;

use crate::mesh::{Mesh, locked};

#[derive(Default)]
pub(crate) struct Shaping {
    state: Mutex<State>,
    /// The timer has to be set anew.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    shaper: Shaper,
    flows: BTreeMap<FlowId, Arc<Waiter>>,
    /// What the timer is set to.
    armed: Option<Moment>,
}

/// What a flow and the shaper share.
#[derive(Default)]
struct Waiter {
    shaped: AtomicBool,
    up: Slot,
    down: Slot,
}

#[derive(Default)]
struct Slot {
    /// Bytes that were granted and not taken yet.
    granted: AtomicUsize,
    changed: Notify,
}

impl Waiter {
    fn slot(&self, direction: Direction) -> &Slot {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl Shaping {
    /// Keeps to `policy` from now on, for flows that run too.
    pub(crate) fn apply(&self, now: Moment, policy: &Bandwidth) {
        self.change(|shaper| shaper.apply(now, policy));
    }

    pub(crate) fn status(&self, now: Moment) -> Vec<ClassStatus> {
        locked(&self.state).shaper.status(now)
    }

    pub(crate) fn counts(&self, direction: Direction) -> Counts {
        locked(&self.state).shaper.counts(direction)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Shaper) -> T) -> T {
        let mut state = locked(&self.state);
        let changed = change(&mut state.shaper);
        if state.perform() {
            self.sooner.notify_one();
        }
        changed
    }
}

impl State {
    /// Performs the effects. True when the timer is too late.
    fn perform(&mut self) -> bool {
        while let Some(effect) = self.shaper.poll_effect() {
            match effect {
                Effect::Grant { flow, direction, bytes } => {
                    if let Some(waiter) = self.flows.get(&flow) {
                        let slot = waiter.slot(direction);
                        slot.granted.store(bytes, Ordering::Release);
                        slot.changed.notify_one();
                    }
                }
                Effect::Shaped { flow, shaped } => {
                    if let Some(waiter) = self.flows.get(&flow) {
                        waiter.shaped.store(shaped, Ordering::Relaxed);
                    }
                }
            }
        }
        match (self.shaper.poll_timeout(), self.armed) {
            (Some(wanted), Some(armed)) => wanted < armed,
            (wanted, None) => wanted.is_some(),
            (None, Some(_)) => false,
        }
    }
}

/// Wakes those that wait, until the node leaves.
pub(crate) async fn drive(mesh: Arc<Mesh>) {
    let shaping = &mesh.shaping;
    loop {
        let due = {
            let mut state = locked(&shaping.state);
            state.armed = state.shaper.poll_timeout();
            state.armed
        };
        tokio::select! {
            biased;
            () = mesh.leaving.cancelled() => return,
            () = shaping.sooner.notified() => {}
            () = mesh.clock.until(due) => shaping.change(|shaper| shaper.handle_timeout(mesh.clock.moment())),
        }
    }
}

/// A flow's place in the shaper, given back however it ends.
pub(crate) struct Shaped {
    mesh: Arc<Mesh>,
    flow: FlowId,
    waiter: Arc<Waiter>,
}

impl Shaped {
    pub(crate) fn open(
        mesh: &Arc<Mesh>,
        claims: &AccessClaims,
        lane: Lane,
    ) -> Result<Self, RefusalCode> {
        let waiter = Arc::new(Waiter::default());
        let now = mesh.clock.moment();
        let mut state = locked(&mesh.shaping.state);
        let opened = state.shaper.open(now, FlowOf::new(claims, lane));
        let flow = opened.map_err(|_| RefusalCode::LimitReached)?;
        state.flows.insert(flow, waiter.clone());
        // Whether it is shaped; nobody waits longer because it is there.
        let _ = state.perform();
        drop(state);
        Ok(Self { mesh: mesh.clone(), flow, waiter })
    }

    /// Whether anything has to be asked for. What changes is seen with the next piece.
    pub(crate) fn is_free(&self) -> bool {
        !self.waiter.shaped.load(Ordering::Relaxed)
    }

    /// Waits until some of `bytes` may pass, and says how many: at least one.
    pub(crate) async fn pass(&self, direction: Direction, bytes: usize) -> usize {
        if self.is_free() {
            return bytes;
        }
        let bytes = bytes.min(MAX_GRANT);
        let now = self.mesh.clock.moment();
        let asked = |shaper: &mut Shaper| shaper.ask(now, self.flow, direction, bytes);
        if let Answer::Now(bytes) = self.mesh.shaping.change(asked) {
            return bytes;
        }
        let mut asking = Asking { shaped: self, direction, granted: false };
        let slot = self.waiter.slot(direction);
        loop {
            let granted = slot.granted.swap(0, Ordering::Acquire);
            if granted > 0 {
                asking.granted = true;
                return granted;
            }
            slot.changed.notified().await;
        }
    }

    /// What was granted and does not pass is there for others.
    pub(crate) fn give_back(&self, direction: Direction, bytes: usize) {
        if bytes > 0 {
            let now = self.mesh.clock.moment();
            let given = |shaper: &mut Shaper| shaper.give_back(now, self.flow, direction, bytes);
            self.mesh.shaping.change(given);
        }
    }
}

impl Drop for Shaped {
    fn drop(&mut self) {
        let now = self.mesh.clock.moment();
        locked(&self.mesh.shaping.state).flows.remove(&self.flow);
        self.mesh.shaping.change(|shaper| shaper.close(now, self.flow));
    }
}

/// A question that waits for its answer. Dropped without one, it is taken back.
struct Asking<'a> {
    shaped: &'a Shaped,
    direction: Direction,
    granted: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.granted {
            return;
        }
        let Shaped { mesh, flow, waiter } = self.shaped;
        let now = mesh.clock.moment();
        mesh.shaping.change(|shaper| shaper.give_up(now, *flow, self.direction));
        // What was granted at the last moment is not for the next question.
        let granted = waiter.slot(self.direction).granted.swap(0, Ordering::AcqRel);
        self.shaped.give_back(self.direction, granted);
    }
}
