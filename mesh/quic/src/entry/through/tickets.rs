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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::{net::TcpListener, sync::Semaphore};

    use super::*;

    #[tokio::test]
    async fn a_ticket_counts_once_and_while_somebody_waits_for_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let places = Arc::new(Semaphore::new(1));
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connection = (stream, places.clone().try_acquire_owned().unwrap());
        let tickets = Tickets::default();
        let (mut expected, other) = (tickets.expect().unwrap(), tickets.expect().unwrap());
        let gone = other.ticket;
        drop(other);
        let connection = tickets.came(&gone, connection).unwrap_err();
        let connection = tickets.came(&[0; 32], connection).unwrap_err();
        tickets.came(&expected.ticket, connection).unwrap();
        let connection = (&mut expected.came).await.unwrap();
        let connection = tickets.came(&expected.ticket, connection).unwrap_err();
        drop(connection);
        assert_eq!(places.available_permits(), 1);
        assert!(locked(&tickets.0).is_empty());
    }
}
