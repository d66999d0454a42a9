//! Tickets of ways that wait for their clients.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, oneshot},
};

use crate::mesh::locked;

/// A client's connection, with its place among those that were accepted.
pub(crate) type Came = (TcpStream, OwnedSemaphorePermit);

type Waiting = Arc<Mutex<BTreeMap<[u8; 32], oneshot::Sender<Came>>>>;

/// Tickets that nobody has brought yet. Each belongs to a channel, of which there are only so many.
#[derive(Default)]
pub(crate) struct Tickets(Waiting);

/// Waits for whoever brings a ticket. Dropped, it waits no more.
pub(super) struct Expected {
    waiting: Waiting,
    pub(super) ticket: [u8; 32],
    pub(super) came: oneshot::Receiver<Came>,
}

impl Tickets {
    /// Waits for whoever brings a new ticket. `None` when there is no randomness.
    pub(super) fn expect(&self) -> Option<Expected> {
        let mut ticket = [0; 32];
        rap_pki::tls::provider().secure_random.fill(&mut ticket).ok()?;
        let (sender, came) = oneshot::channel();
        locked(&self.0).insert(ticket, sender);
        Some(Expected { waiting: self.0.clone(), ticket, came })
    }

    /// Hands a connection to whoever waits for its ticket, or back.
    pub(crate) fn came(&self, ticket: &[u8; 32], connection: Came) -> Result<(), Came> {
        match locked(&self.0).remove(ticket) {
            Some(waiting) => waiting.send(connection),
            None => Err(connection),
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        locked(&self.waiting).remove(&self.ticket);
    }
}
