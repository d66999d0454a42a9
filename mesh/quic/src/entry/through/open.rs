//! A through flow as its entry knows it, whatever way it has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh_core::{moves::Stayed, paths::Candidate};
use rap_proto::{
    Moment, PublicKey, RefusalCode, SessionId, Timestamp, observation::EndReason,
    token::AccessClaims, wire::resume::FlowId,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    entry::channel::Account,
    lanes::{LaneKey, Member, Through},
    mesh::{Mesh, locked},
};

/// How long a client may take to come over another way: the way, TLS with the egress, and its answer.
const GO_OVER_WITHIN: Duration = Duration::from_secs(15);

type Known = Arc<Mutex<BTreeMap<(SessionId, FlowId), Weak<Open>>>>;

/// The through flows that have a way here, or wait for one.
#[derive(Default)]
pub(crate) struct Ways(Known);

/// A through flow, for as long as it has a way here or one is expected.
pub(super) struct Open {
    mesh: Arc<Mesh>,
    known: Known,
    id: (SessionId, FlowId),
    owner: PublicKey,
    expires_at: Timestamp,
    /// Its place in the session's book, which is one however many ways it has had.
    account: Mutex<Option<Account>>,
    /// From when it first has a way: it moves with those of its lane.
    member: OnceLock<Member>,
    standing: watch::Sender<Standing>,
}

/// Which of its ways, numbered from one, is which.
#[derive(Debug, Default)]
struct Standing {
    /// The newest that was asked for.
    asked: u64,
    /// The one that it is on, and the path of that. None before the first.
    on: Option<(u64, Candidate)>,
    /// The path that its client is asked to go over to.
    goes: Option<Candidate>,
    /// The way that has to end.
    cut: u64,
}

impl Ways {
    pub(crate) fn len(&self) -> usize {
        locked(&self.0).len()
    }

    /// A further way of a flow that is known here, or the first of one that `open` takes a place for.
    /// Returns the number of that way.
    pub(super) fn enter(
        &self,
        mesh: &Arc<Mesh>,
        claims: &AccessClaims,
        flow: FlowId,
        open: impl FnOnce() -> Result<Account, RefusalCode>,
    ) -> Result<(Arc<Open>, u64), RefusalCode> {
        let id = (claims.session, flow);
        let known = locked(&self.0).get(&id).and_then(Weak::upgrade);
        let flow = match known {
            Some(known) if known.owner != claims.client_key => {
                return Err(RefusalCode::AccessDenied);
            }
            Some(known) => known,
            None => {
                let opened = Arc::new(Open {
                    mesh: mesh.clone(),
                    known: self.0.clone(),
                    id,
                    owner: claims.client_key,
                    expires_at: claims.expires_at,
                    account: Mutex::new(Some(open()?)),
                    member: OnceLock::new(),
                    standing: watch::Sender::default(),
                });
                locked(&self.0).insert(id, Arc::downgrade(&opened));
                opened
            }
        };
        let mut number = 0;
        flow.standing.send_modify(|standing| {
            standing.asked += 1;
            number = standing.asked;
        });
        Ok((flow, number))
    }
}

impl Open {
    /// The path that it is to go over to, if it is.
    pub(super) fn goes_over(&self) -> Option<Candidate> {
        self.standing.borrow().goes
    }

    /// Its client has come over this way: from now on there are bytes and a reason to account for.
    pub(super) async fn came(self: &Arc<Self>, number: u64, (key, over): (LaneKey, Candidate)) {
        let account = locked(&self.account).take();
        if let Some(account) = account {
            let account = account.reached().await;
            *locked(&self.account) = Some(account);
        }
        let mut wanted = None;
        self.standing.send_modify(|standing| {
            wanted = standing.goes.take();
            standing.on = Some((number, over));
        });
        let Some(member) = self.member.get() else {
            let through = Arc::downgrade(self) as Weak<dyn Through>;
            let join = || self.mesh.lanes.join(&self.mesh, key, (self.id.0, through), over);
            self.member.get_or_init(join);
            return;
        };
        // A move is told by whoever asked for it.
        if wanted != Some(over) {
            member.went_on(Some(over));
        }
    }

    /// A way ended, after so much had passed.
    pub(super) fn left(&self, number: u64, (up, down): (u64, u64), reason: EndReason) {
        if let Some(account) = &mut *locked(&self.account) {
            account.counters.add(up, down);
            account.reason = reason;
        }
        let is_last = self.standing.borrow().on.is_some_and(|(on, _)| on == number);
        if let Some(member) = self.member.get().filter(|_| is_last) {
            member.lost();
        }
    }

    /// Waits until there is a newer way than that.
    pub(super) async fn has_newer(&self, number: u64) {
        self.stands(|standing| standing.asked > number).await;
    }

    /// Waits until its client has to leave that way for another.
    pub(super) async fn goes(&self, number: u64) {
        let is_on = |on: (u64, Candidate)| on.0 == number;
        self.stands(|standing| standing.goes.is_some() && standing.on.is_some_and(is_on)).await;
    }

    /// Waits until that way has to end.
    pub(super) async fn is_cut(&self, number: u64) {
        self.stands(|standing| standing.cut >= number).await;
    }

    async fn stands(&self, so: impl FnMut(&Standing) -> bool) {
        // It is there for as long as this is.
        let _ = self.standing.subscribe().wait_for(so).await;
    }

    async fn go_over(self: Arc<Self>, over: Candidate) -> Result<(), Stayed> {
        if self.asks_until() <= self.mesh.clock.moment() {
            return Err(Stayed::Token);
        }
        let mut before = None;
        self.standing.send_modify(|standing| {
            before = standing.on;
            standing.goes = Some(over);
        });
        let Some((before, _)) = before else { return Err(Stayed::Flow) };
        let came = self.stands(|standing| standing.on.is_some_and(|(on, _)| on > before));
        let came = timeout(GO_OVER_WITHIN, came).await;
        let mut on = None;
        self.standing.send_modify(|standing| {
            standing.goes = None;
            on = standing.on.map(|(_, over)| over);
        });
        if came.is_ok() && on == Some(over) { Ok(()) } else { Err(Stayed::Path) }
    }
}

impl Through for Open {
    fn asks_until(&self) -> Moment {
        let (session, clock) = (self.id.0, self.mesh.clock);
        let newest = self.mesh.clients.shown_last(session, self.owner);
        let until = newest.map_or(self.expires_at, |admitted| admitted.claims.expires_at);
        clock.moment() + until.since(clock.now())
    }

    fn cut(&self) {
        self.standing.send_modify(|standing| standing.cut = standing.on.map_or(0, |(on, _)| on));
    }

    fn leave(self: Arc<Self>, over: Candidate) -> BoxFuture<'static, Result<(), Stayed>> {
        self.go_over(over).boxed()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut known = locked(&self.known);
        // Another one may have begun under its name.
        if known.get(&self.id).is_some_and(|known| known.strong_count() == 0) {
            known.remove(&self.id);
        }
    }
}
