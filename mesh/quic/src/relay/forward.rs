//! Forwarding one flow: two connected sockets, datagrams from each sent on by the other. Nothing
//! is added, read or kept.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rap_proto::Moment;

use super::{
    batch::Batch,
    socket::FlowSocket,
    turns::{Carried, Turn, Way},
};
use crate::clock::Clock;

/// Batches that one flow forwards before the tasks of others are looked at.
const BATCHES_IN_A_ROW: usize = 8;

pub(super) struct Forwarding {
    asker: FlowSocket,
    target: FlowSocket,
    clock: Clock,
    /// [`Moment`] in microseconds.
    last_used: AtomicU64,
}

impl Forwarding {
    /// Between the asker and whoever is next.
    pub(super) fn between(asker: FlowSocket, target: FlowSocket, clock: Clock) -> Self {
        let last_used = AtomicU64::new(clock.moment().micros());
        Self { asker, target, clock, last_used }
    }

    pub(super) fn last_used(&self) -> Moment {
        Moment::from_micros(self.last_used.load(Ordering::Relaxed))
    }

    /// Forwards both ways, in its turns, until it is dropped, or a socket fails for good.
    pub(super) async fn run(self: Arc<Self>, carried: Carried) {
        let stopped = tokio::select! {
            biased;
            stopped = self.forward(&carried.up, &self.asker, &self.target) => stopped,
            stopped = self.forward(&carried.down, &self.target, &self.asker) => stopped,
        };
        if let Err(error) = stopped {
            tracing::warn!(%error, "a relayed flow's socket failed");
        }
    }

    async fn forward(&self, way: &Way, from: &FlowSocket, to: &FlowSocket) -> io::Result<()> {
        let mut batch = Batch::new();
        loop {
            from.readable().await?;
            let mut turn = way.next_turn().await;
            let mut in_a_row = 0;
            while pass_on(from, to, &mut batch, &mut turn).await? {
                in_a_row += 1;
                if in_a_row >= BATCHES_IN_A_ROW {
                    in_a_row = 0;
                    self.used();
                    tokio::task::yield_now().await;
                }
                // While there is more, the lanes below do not come between.
                turn.again().await;
            }
            drop(turn);
            self.used();
            tokio::task::yield_now().await;
        }
    }

    fn used(&self) {
        self.last_used.store(self.clock.moment().micros(), Ordering::Relaxed);
    }
}

/// Forwards what there is, as much as the turn has room for. False when there is nothing.
async fn pass_on(
    from: &FlowSocket,
    to: &FlowSocket,
    batch: &mut Batch,
    turn: &mut Turn<'_>,
) -> io::Result<bool> {
    match from.receive(batch, turn.room()) {
        Ok(()) => {
            turn.admit(batch);
            // While the link has no room, it stays this flow's turn.
            to.send(batch).await?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        // The other side's port is closed for now (ICMP); it may open again.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if is_passing(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// A route that is missing at the moment.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
}

#[cfg(test)]
mod tests;
