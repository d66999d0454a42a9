//! A place among the relay's flows, from the moment that it is taken to the end of what fills it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rap_proto::{Lane, RefusalCode, wire::hop::FLOW_TTL_MS};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Running,
    forward::Forwarding,
    stream::{Towards, expect},
    turns::Carried,
};
use crate::{
    hops::{Refreshed, RelayedFlow},
    mesh::{Mesh, locked},
};

/// How often the next leg is refreshed while this one is held.
const REFRESH_EVERY: Duration = Duration::from_millis(FLOW_TTL_MS / 3);
/// So many refreshes in a row that nobody answered, and the next leg counts as lost.
const MAX_MISSED: u32 = 2;

/// Given back when the flow comes to nothing.
pub(super) struct Place<'m> {
    mesh: &'m Arc<Mesh>,
    lane: Lane,
    flow: u64,
    is_kept: bool,
}

impl<'m> Place<'m> {
    pub(super) const fn new(mesh: &'m Arc<Mesh>, lane: Lane, flow: u64) -> Self {
        Self { mesh, lane, flow, is_kept: false }
    }
}

impl Place<'_> {
    /// Forwards from now on, unless the place was lost while the rest was set up.
    pub(super) fn keep_running(
        mut self,
        forwarding: Arc<Forwarding>,
        beyond: Option<RelayedFlow>,
    ) -> Result<u64, RefusalCode> {
        let mesh = self.mesh.clone();
        let mut state = locked(&self.mesh.relay.state);
        if !state.table.led_on(self.flow) {
            return Err(RefusalCode::PathUnavailable);
        }
        let carried = state.carry(&self.mesh.relay.turns, self.flow)?;
        let there = self.mesh.tasks_of(self.lane);
        let task = there.spawn(run(mesh, self.flow, (forwarding.clone(), carried), beyond));
        let task = AbortOnDropHandle::new(task);
        state.running.insert(self.flow, Running { forwarding: Some(forwarding), _task: task });
        self.is_kept = true;
        Ok(self.flow)
    }

    /// Waits for the ticket from now on, unless the place was lost.
    pub(super) fn keep_expecting(
        mut self,
        ticket: [u8; 32],
        from: IpAddr,
        to: Towards,
    ) -> Result<u64, RefusalCode> {
        let mut state = locked(&self.mesh.relay.state);
        if !state.table.led_on(self.flow) {
            return Err(RefusalCode::PathUnavailable);
        }
        expect(self.mesh, &mut state, ticket, self.flow, from, to);
        self.is_kept = true;
        Ok(self.flow)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            locked(&self.mesh.relay.state).table.remove(self.flow);
        }
    }
}

/// Forwards until a socket fails or the next leg is lost, and gives the place back.
async fn run(
    mesh: Arc<Mesh>,
    flow: u64,
    (forwarding, carried): (Arc<Forwarding>, Carried),
    beyond: Option<RelayedFlow>,
) {
    match &beyond {
        None => forwarding.run(carried).await,
        Some(beyond) => tokio::select! {
            biased;
            () = forwarding.run(carried) => {}
            () = lost(beyond) => tracing::debug!(flow, "the next leg of a path is lost"),
        },
    }
    let mut state = locked(&mesh.relay.state);
    state.table.remove(flow);
    state.running.remove(&flow);
}

/// Refreshes the next leg, until it is lost.
async fn lost(beyond: &RelayedFlow) {
    let hop_lost = beyond.hop_lost();
    tokio::pin!(hop_lost);
    let mut watches = true;
    let mut ticks = interval_at(Instant::now() + REFRESH_EVERY, REFRESH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    while missed < MAX_MISSED {
        tokio::select! {
            biased;
            is_closed = &mut hop_lost, if watches => {
                // Closed by the relay, its flows are gone; otherwise another hop may find them.
                if is_closed {
                    return;
                }
                watches = false;
            }
            _ = ticks.tick() => match beyond.refresh().await {
                Refreshed::Kept => missed = 0,
                Refreshed::Gone => return,
                Refreshed::Unanswered => missed += 1,
            },
        }
    }
}
