//! Ways to egresses that wait for their clients, and what was opened over them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use rap_proto::{
    PublicKey, RefusalCode, SessionId, observation::EndReason, token::AccessClaims,
    wire::resume::FlowId,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, oneshot, watch},
};

use super::channel::Account;
use crate::mesh::locked;

/// A client's connection, with its place among those that were accepted.
pub(crate) type Came = (TcpStream, OwnedSemaphorePermit);

/// Tickets that nobody has brought yet. Each belongs to a channel, of which there are only so many.
#[derive(Default)]
pub(crate) struct Tickets(Arc<Mutex<BTreeMap<[u8; 32], oneshot::Sender<Came>>>>);

/// Waits for whoever brings a ticket. Dropped, it waits no more.
pub(super) struct Expected {
    tickets: Arc<Mutex<BTreeMap<[u8; 32], oneshot::Sender<Came>>>>,
    pub(super) ticket: [u8; 32],
    pub(super) came: oneshot::Receiver<Came>,
}

impl Tickets {
    /// Whoever brings this ticket is waited for. `None` when there is no randomness.
    pub(super) fn expect(&self) -> Option<Expected> {
        let mut ticket = [0; 32];
        rap_pki::tls::provider().secure_random.fill(&mut ticket).ok()?;
        let (sender, came) = oneshot::channel();
        locked(&self.0).insert(ticket, sender);
        Some(Expected { tickets: self.0.clone(), ticket, came })
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
        locked(&self.tickets).remove(&self.ticket);
    }
}

/// The through flows that have a way here.
#[derive(Default)]
pub(crate) struct Ways(Arc<Mutex<BTreeMap<(SessionId, FlowId), Weak<Open>>>>);

/// A through flow, for as long as it has a way here or one is expected.
pub(super) struct Open {
    ways: Arc<Mutex<BTreeMap<(SessionId, FlowId), Weak<Open>>>>,
    id: (SessionId, FlowId),
    owner: PublicKey,
    /// Its place in the session's book, which is one however many ways it has had.
    account: Mutex<Option<Account>>,
    /// The number of its newest way.
    newest: watch::Sender<u64>,
}

impl Ways {
    pub(crate) fn len(&self) -> usize {
        locked(&self.0).len()
    }

    /// A further way of a flow that is known here, or the first of one that `open` takes a place for.
    /// Returns the number of that way.
    pub(super) fn enter(
        &self,
        claims: &AccessClaims,
        flow: FlowId,
        open: impl FnOnce() -> Result<Account, RefusalCode>,
    ) -> Result<(Arc<Open>, u64), RefusalCode> {
        let id = (claims.session, flow);
        let mut ways = locked(&self.0);
        if let Some(known) = ways.get(&id).and_then(Weak::upgrade) {
            drop(ways);
            if known.owner != claims.client_key {
                return Err(RefusalCode::AccessDenied);
            }
            let mut number = 0;
            known.newest.send_modify(|newest| {
                *newest += 1;
                number = *newest;
            });
            return Ok((known, number));
        }
        let account = Mutex::new(Some(open()?));
        let newest = watch::Sender::new(0);
        let owner = claims.client_key;
        let open = Arc::new(Open { ways: self.0.clone(), id, owner, account, newest });
        ways.insert(id, Arc::downgrade(&open));
        Ok((open, 0))
    }
}

impl Open {
    /// Something came over a way: from now on there are bytes and a reason to account for.
    pub(super) async fn reached(&self) {
        let account = locked(&self.account).take();
        if let Some(account) = account {
            let account = account.reached().await;
            *locked(&self.account) = Some(account);
        }
    }

    /// So much passed over a way, which ended for this reason.
    pub(super) fn passed(&self, (up, down): (u64, u64), reason: EndReason) {
        if let Some(account) = &mut *locked(&self.account) {
            account.counters.add(up, down);
            account.reason = reason;
        }
    }

    /// Waits until there is a newer way than that.
    pub(super) async fn has_newer(&self, number: u64) {
        let mut newest = self.newest.subscribe();
        let _ = newest.wait_for(|newest| *newest > number).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut ways = locked(&self.ways);
        // Another one may have begun under its name.
        if ways.get(&self.id).is_some_and(|known| known.strong_count() == 0) {
            ways.remove(&self.id);
        }
    }
}
