//! What carries a connection: the port to its driver, and the gate that each packet passes.
//!
//! | Driver | is for |
//! |---|---|
//! | [`NoDriver`] | nodes that can carry nothing: they are never ready |
//! | [`RecordingDriver`] | tests: sends a small datagram in the place of each packet |

mod recording;

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use rap_agent_core::lease::Permit;
use rap_proto::{Generation, VpnConnectionId};

use crate::{clock::Clock, options::DriverChoice};

pub(crate) use recording::RecordingDriver;

/// Asked before each packet. It says no at the lease's end by itself, whoever is late: a thread
/// that was stopped in between asks again, and the clock counts on.
#[derive(Debug, Clone)]
pub struct Gate {
    clock: Clock,
    permit: Arc<Mutex<Option<Permit>>>,
}

impl Gate {
    /// Closed, until it is set.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, permit: Arc::default() }
    }

    pub(crate) fn set(&self, permit: Option<Permit>) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }

    /// Whether a packet may leave under this generation now.
    pub fn may_forward(&self, generation: Generation) -> bool {
        let permit = *self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        permit.is_some_and(|permit| permit.covers(self.clock.moment(), generation))
    }
}

/// Carries connections. What a call begins is begun when it returns; what its future says is so
/// when the future resolves. It outlives the actor that calls it.
pub trait Driver: Send + Sync + 'static {
    /// Starts; whatever is sent asks the gate first, each time. `false` when it did not start.
    fn activate(
        &self,
        connection: VpnConnectionId,
        generation: Generation,
        gate: Gate,
    ) -> BoxFuture<'static, bool>;

    /// Stops whatever runs of the connection. Resolved, nothing of it is sent any more.
    fn deactivate(&self, connection: VpnConnectionId) -> BoxFuture<'static, ()>;

    /// Whether it could start now. Starts nothing.
    fn probe(&self, connection: VpnConnectionId) -> BoxFuture<'static, bool>;
}

pub(crate) fn driver(choice: &DriverChoice) -> Arc<dyn Driver> {
    match choice {
        DriverChoice::None => Arc::new(NoDriver),
        DriverChoice::RecordingForTests { to } => Arc::new(RecordingDriver::new(*to)),
    }
}

/// Of a node that can carry no connection.
#[derive(Debug)]
pub(crate) struct NoDriver;

impl Driver for NoDriver {
    fn activate(&self, _: VpnConnectionId, _: Generation, _: Gate) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    fn deactivate(&self, _: VpnConnectionId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn probe(&self, _: VpnConnectionId) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }
}
