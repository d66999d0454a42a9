//! A through flow as its entry knows it, whatever ways it has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rap_mesh_core::{moves::Stayed, paths::Candidate};
use rap_proto::{
    Moment, NodeId, PublicKey, RefusalCode, SessionId, Timestamp,
    observation::EndReason,
    token::AccessClaims,
    wire::{resume::FlowId, through::Wanted},
};
use tokio::time::timeout;

use crate::{
    entry::{channel::Account, tell},
    lanes::{LaneKey, Member, Through},
    mesh::{Mesh, locked},
};

/// How long a client may take to go over to another way: the way, TLS with the egress, its answer, and the
/// end of the way before.
const GO_OVER_WITHIN: Duration = Duration::from_secs(15);
/// The most ways that one flow has at once: the one of now, the next, and one that is forgotten.
const MAX_WAYS: usize = 3;

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
    wanted: Wanted,
    /// Set when it first has a way.
    egress: OnceLock<NodeId>,
    expires_at: Timestamp,
    /// Its place in the session's book, which is one however many ways it has had.
    account: Mutex<Account>,
    /// From when it first has a way: it moves with those of its lane.
    member: OnceLock<Member>,
    standing: rap_watch::Sender<Standing>,
}

/// A way of a flow, from when it was asked for until it ends.
pub(super) struct Way {
    pub(super) flow: Arc<Open>,
    /// From one on.
    number: u64,
}

/// Which of its ways is which.
#[derive(Debug, Default)]
struct Standing {
    /// The newest that was asked for.
    asked: u64,
    /// How many there are, wherever they have got to.
    ways: usize,
    /// Those that the egress was heard on, and their paths.
    heard: BTreeMap<u64, Candidate>,
    /// The path that its client is asked to go over to.
    goes: Option<Candidate>,
    /// This node did not get through over that path.
    is_unreachable: bool,
    /// Ways up to this one have to end.
    cut: u64,
    /// The newest that has ended.
    ended: u64,
}

impl Standing {
    /// The newest way that the egress was heard on.
    fn on(&self) -> Option<(u64, Candidate)> {
        self.heard.last_key_value().map(|(number, over)| (*number, *over))
    }

    /// What became of a flow that is to go over to this path, once that is clear. It was on way `before`,
    /// and `newest` had been asked for last.
    fn went(&self, over: Candidate, before: u64, newest: u64) -> Option<Result<(), Stayed>> {
        let has_left = !self.heard.contains_key(&before);
        if self.is_unreachable {
            Some(Err(Stayed::Path))
        } else if has_left && self.on().is_some_and(|(on, path)| on > newest && path == over) {
            Some(Ok(()))
        } else if has_left || self.ended > newest {
            // It ended, lost its way, or its next one ended first, as that did not carry it.
            Some(Err(Stayed::Flow))
        } else {
            None
        }
    }
}

impl Ways {
    pub(crate) fn len(&self) -> usize {
        locked(&self.0).len()
    }

    /// A further way of a flow that is known here, or the first of one that `open` takes a place for.
    pub(super) fn enter(
        &self,
        mesh: &Arc<Mesh>,
        claims: &AccessClaims,
        wanted: &Wanted,
        open: impl FnOnce() -> Result<Account, RefusalCode>,
    ) -> Result<Way, RefusalCode> {
        let id = (claims.session, wanted.flow);
        let known = locked(&self.0).get(&id).and_then(Weak::upgrade);
        let flow = match known {
            Some(known) if !known.is_same(claims, wanted) => return Err(RefusalCode::AccessDenied),
            Some(known) => known,
            None => {
                let opened = Arc::new(Open {
                    mesh: mesh.clone(),
                    known: self.0.clone(),
                    id,
                    owner: claims.client_key,
                    wanted: wanted.clone(),
                    egress: OnceLock::new(),
                    expires_at: claims.expires_at,
                    account: Mutex::new(open()?),
                    member: OnceLock::new(),
                    standing: rap_watch::Sender::default(),
                });
                locked(&self.0).insert(id, Arc::downgrade(&opened));
                opened
            }
        };
        flow.enter()
    }
}

impl Open {
    /// Whether another way is wanted for this flow, to where it is.
    fn is_same(&self, claims: &AccessClaims, wanted: &Wanted) -> bool {
        let Wanted { channel, lane, egress, .. } = wanted;
        self.owner == claims.client_key
            && (self.wanted.channel, self.wanted.lane) == (*channel, *lane)
            && self.egress.get().is_none_or(|is_at| egress.as_ref() == Some(is_at))
    }

    fn enter(self: Arc<Self>) -> Result<Way, RefusalCode> {
        let mut number = None;
        self.standing.send_modify(|standing| {
            if standing.ways < MAX_WAYS {
                standing.ways += 1;
                standing.asked += 1;
                number = Some(standing.asked);
            }
        });
        let number = number.ok_or(RefusalCode::LimitReached)?;
        Ok(Way { flow: self, number })
    }

    async fn stands(&self, so: impl FnMut(&Standing) -> bool) {
        // It is there for as long as this is.
        let _ = self.standing.subscribe().wait_for(so).await;
    }
}

impl Way {
    /// Whether the flow has had another before it here.
    pub(super) const fn is_further(&self) -> bool {
        self.number > 1
    }

    /// The path that the flow is to go over to, if it is.
    pub(super) fn goes_over(&self) -> Option<Candidate> {
        self.flow.standing.borrow().goes
    }

    /// The flow is at this egress from now on. False when another way of it led elsewhere.
    pub(super) fn is_at(&self, egress: NodeId) -> bool {
        *self.flow.egress.get_or_init(|| egress) == egress
    }

    /// This node did not get through over the path that the flow is to go over to.
    pub(super) fn is_unreachable(&self) {
        self.flow.standing.send_modify(|standing| standing.is_unreachable = true);
    }

    /// The egress was heard: from now on there are bytes and a reason to account for.
    pub(super) fn heard(&self, (key, over): (LaneKey, Candidate)) {
        let Self { flow, number } = self;
        let mut wanted = None;
        flow.standing.send_modify(|standing| {
            standing.heard.insert(*number, over);
            wanted = standing.goes;
        });
        match flow.member.get() {
            // A move is told by whoever asked for it.
            Some(member) if wanted != Some(over) => member.went_on(Some(over)),
            Some(_) => {}
            None => {
                let through = Arc::downgrade(flow) as Weak<dyn Through>;
                let join = || flow.mesh.lanes.join(&flow.mesh, key, (flow.id.0, through), over);
                flow.member.get_or_init(join);
            }
        }
        self.reached();
    }

    /// So much passed, and this is why it ended.
    pub(super) fn passed(&self, (up, down): (u64, u64), reason: EndReason) {
        // A way can be over before anybody looks at what was heard.
        if down > 0 {
            self.reached();
        }
        let mut account = locked(&self.flow.account);
        account.counters.add(up, down);
        account.reason = reason;
    }

    fn reached(&self) {
        let Open { mesh, account, .. } = &*self.flow;
        if let Some(start) = locked(account).reach() {
            // Not the way's own to wait for: it can end first.
            let telling = mesh.clone();
            mesh.spawn(async move { tell(&telling, start).await });
        }
    }

    /// The way to the egress broke, and the flow has no other.
    pub(super) fn lost(&self) {
        let others = self.flow.standing.borrow().heard.keys().any(|number| *number != self.number);
        if let Some(member) = self.flow.member.get().filter(|_| !others) {
            member.lost();
        }
    }

    /// Waits until there is a newer way than this.
    pub(super) async fn has_newer(&self) {
        self.flow.stands(|standing| standing.asked > self.number).await;
    }

    /// Waits until the client has to leave this way for another, or need not any more.
    pub(super) async fn goes(&self, goes: bool) {
        let on = |standing: &Standing| standing.on().is_some_and(|(on, _)| on == self.number);
        self.flow.stands(|standing| (standing.goes.is_some() && on(standing)) == goes).await;
    }

    /// Waits until it has to end.
    pub(super) async fn is_cut(&self) {
        self.flow.stands(|standing| standing.cut >= self.number).await;
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.flow.standing.send_modify(|standing| {
            standing.ways -= 1;
            standing.heard.remove(&self.number);
            standing.ended = standing.ended.max(self.number);
        });
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
        self.standing.send_modify(|standing| standing.cut = standing.on().map_or(0, |(on, _)| on));
    }

    fn leave(self: Arc<Self>, over: Candidate) -> BoxFuture<'static, Result<(), Stayed>> {
        if self.asks_until() <= self.mesh.clock.moment() {
            return std::future::ready(Err(Stayed::Token)).boxed();
        }
        let mut standing = self.standing.subscribe();
        let (on, newest) = (standing.borrow().on(), standing.borrow().asked);
        let Some((before, _)) = on else {
            return std::future::ready(Err(Stayed::Flow)).boxed();
        };
        self.standing.send_modify(|standing| {
            (standing.goes, standing.is_unreachable) = (Some(over), false);
        });
        // A flow that ends meanwhile is not held.
        let flow = Arc::downgrade(&self);
        async move {
            let went = |standing: &Standing| standing.went(over, before, newest);
            let clear = standing.wait_for(|standing| went(standing).is_some());
            let outcome = match timeout(GO_OVER_WITHIN, clear).await {
                Ok(Ok(standing)) => went(&standing).unwrap_or(Err(Stayed::Flow)),
                // It is over, or its client did not come.
                Ok(Err(_)) | Err(_) => Err(Stayed::Flow),
            };
            if let Some(flow) = flow.upgrade() {
                flow.standing.send_modify(|standing| standing.goes = None);
            }
            outcome
        }
        .boxed()
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

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Candidate = Candidate::Relay(NodeId::from_u128(1));
    const THERE: Candidate = Candidate::Relay(NodeId::from_u128(2));

    /// A flow that is on its first way, whose second ended without carrying it.
    fn stayed_once() -> Standing {
        let heard = BTreeMap::from([(1, HERE)]);
        Standing { asked: 2, ways: 1, heard, ended: 2, ..Standing::default() }
    }

    #[test]
    fn a_flow_that_stayed_once_can_go_over_later() {
        let mut standing = stayed_once();
        assert_eq!(standing.went(THERE, 1, 2), None, "what ended before says nothing of this move");
        standing.heard.insert(3, THERE);
        assert_eq!(standing.went(THERE, 1, 2), None, "it is on both");
        standing.heard.remove(&1);
        assert_eq!(standing.went(THERE, 1, 2), Some(Ok(())));
    }

    #[test]
    fn a_move_comes_to_nothing_by_the_path_or_by_the_flow() {
        let unreachable = Standing { is_unreachable: true, ..stayed_once() };
        assert_eq!(unreachable.went(THERE, 1, 2), Some(Err(Stayed::Path)));
        let refused = Standing { ended: 3, ..stayed_once() };
        assert_eq!(refused.went(THERE, 1, 2), Some(Err(Stayed::Flow)), "its next way ended first");
        let lost = Standing { heard: BTreeMap::new(), ..stayed_once() };
        assert_eq!(lost.went(THERE, 1, 2), Some(Err(Stayed::Flow)));
        let elsewhere = Standing { heard: BTreeMap::from([(3, HERE)]), ..stayed_once() };
        assert_eq!(elsewhere.went(THERE, 1, 2), Some(Err(Stayed::Flow)));
    }
}
