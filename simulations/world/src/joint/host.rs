//! A process of the world: a party with its clock and what waits while it stands still.

use std::sync::Arc;

use crate::{control::Control, kit::process::Process, message::Message, node::SimNode};

use super::way::Reached;

/// A host with its agent.
pub struct Host {
    pub process: Process<Message>,
    pub node: SimNode,
    /// Which replica its next question goes to.
    pub next_replica: usize,
}

/// A replica of control with its way to the log.
pub struct Replica {
    pub process: Process<Message>,
    pub control: Control,
    pub way: Arc<Reached>,
}
