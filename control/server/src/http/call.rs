//! One request on its way through a handler: who calls, what for, over which state.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use rap_control_core::{
    Action, Decision, Principal, State, Target, authorization::authorize_on_record, authorize,
    quota,
};
use rap_events::{Actor, Allowed, StreamId, keys};
use rap_proto::{
    Timestamp,
    api::{Problem, ProblemCode, Reference},
    secret::{Secret, SecretKind},
};

use super::{
    answer::{Answer, Done, Reply},
    endpoint::Condition,
    failure::{Failure, internal, not_found},
};
use crate::{
    app::App,
    clock,
    work::{Identity, Work},
};

/// The most memberships of a caller that a command holds in place.
const MAX_HELD_MEMBERSHIPS: usize = 16;
/// How long a command that lost a race waits for the projections to see who won.
const RACE_WAIT: Duration = Duration::from_millis(200);

/// The greatest position that can be asked for: what an integer of the database holds.
pub(crate) const MAX_POSITION: u64 = i64::MAX.unsigned_abs();

/// A position of the log, as a query names it.
pub(crate) struct Position(pub(crate) u64);

impl std::str::FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|position| *position <= MAX_POSITION).map(Self).ok_or(())
    }
}

#[derive(Clone)]
pub(crate) struct Call(Rc<Parts>);

#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) app: Arc<App>,
    /// The projections as they were when the request was authenticated.
    pub(crate) state: Arc<State>,
    pub(crate) now: Timestamp,
    pub(crate) principal: Option<Principal>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) last_event_id: Option<String>,
    pub(crate) if_match: Option<u64>,
    pub(crate) condition: Condition,
    /// Whether the command may be given while authority is frozen.
    pub(crate) while_frozen: bool,
    /// The person whom it is about was given a key before: it was decided before, and refused for that.
    pub(crate) key_given: bool,
    /// Of a command only.
    pub(crate) identity: Option<Identity>,
    /// What the handler asked and was allowed so far, for the log.
    pub(crate) allowed: RefCell<Option<Allowed>>,
}

impl std::ops::Deref for Call {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Call {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Rc::new(parts))
    }

    /// Who calls, on a route that is not public.
    pub(crate) fn principal(&self) -> Result<&Principal, Failure> {
        self.principal.as_ref().ok_or_else(|| Failure::Problem(unauthenticated()))
    }

    /// Asks the authorization table. What the caller may not know of is as if it were absent.
    pub(crate) fn allow(&self, action: Action, target: Target) -> Result<(), Failure> {
        self.allow_as(self.principal()?, action, target)
    }

    pub(crate) fn allow_as(
        &self,
        principal: &Principal,
        action: Action,
        target: Target,
    ) -> Result<(), Failure> {
        // Only what a command does is kept.
        let (decision, allowed) = match self.identity {
            Some(_) => authorize_on_record(&self.state, principal, action, target),
            None => (authorize(&self.state, principal, action, target), None),
        };
        match decision {
            Decision::Allowed(rule) => {
                self.record(allowed);
                tracing::debug!(%rule, "allowed");
                Ok(())
            }
            Decision::Denied(refusal) => {
                Err(Problem::new(ProblemCode::Forbidden, "your role does not include this")
                    .rule(refusal.to_string())
                    .into())
            }
            Decision::Hidden => Err(not_found().into()),
        }
    }

    fn record(&self, allowed: Option<Allowed>) {
        let Some(allowed) = allowed else { return };
        let mut kept = self.allowed.borrow_mut();
        *kept = Some(match kept.take() {
            Some(before) => before.and(allowed),
            None => allowed,
        });
    }

    /// Whether the table allows it, for filtering what is listed.
    pub(crate) fn may(&self, action: Action, target: Target) -> bool {
        self.principal
            .as_ref()
            .is_some_and(|who| authorize(&self.state, who, action, target).is_allowed())
    }

    /// The same call over the state that the winner of a race left behind.
    pub(crate) async fn refreshed(&self, key_given: bool) -> Self {
        let seen = self.state.position();
        let state = match self.app.wait_for(seen + 1, RACE_WAIT).await {
            Some(state) => state,
            None => self.app.state(),
        };
        let allowed = RefCell::default();
        let now = clock::now();
        Self::new(Parts { state, now, key_given, allowed, ..Parts::clone(&self.0) })
    }

    /// A parameter of the path. What cannot be one names nothing.
    pub(crate) fn param<T: std::str::FromStr>(&self, name: &str) -> Result<T, Failure> {
        let text = self.params.get(name).ok_or_else(internal)?;
        text.parse().map_err(|_| not_found().into())
    }

    pub(crate) fn reference(&self, name: &str) -> Result<Reference, Failure> {
        self.param(name)
    }

    /// A parameter of the query.
    pub(crate) fn query_value<T: std::str::FromStr>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.query.get(name) else { return Ok(None) };
        let parsed = text.parse().map_err(|_| {
            Problem::new(ProblemCode::MalformedRequest, "a query parameter cannot be read")
                .field(name)
        })?;
        Ok(Some(parsed))
    }

    /// The secret that this command hands out, the same each time.
    pub(crate) fn secret<K: SecretKind>(&self) -> Secret<K> {
        let identity = self.identity.as_ref().expect("only commands hand out secrets");
        self.app.custody.derivation.secret(identity.command)
    }

    pub(crate) fn work(&self) -> Work {
        Work::new(Arc::clone(&self.app.log), self.now)
    }

    /// Compares `If-Match` with the revision of what is about to be changed.
    pub(crate) fn check_revision(&self, revision: u64) -> Result<(), Failure> {
        match self.if_match {
            Some(expected) if expected == revision => Ok(()),
            Some(expected) => Err(Problem::new(
                ProblemCode::PreconditionFailed,
                format!("it is at revision {revision}, not {expected}"),
            )
            .rule("if_match")
            .into()),
            None if self.condition == Condition::None => Ok(()),
            None => Err(Problem::new(
                ProblemCode::PreconditionRequired,
                "send the ETag of what you read as If-Match",
            )
            .rule("if_match")
            .into()),
        }
    }

    /// Appends what was decided, with the reply that a repetition gets too.
    pub(crate) async fn commit<R: Answer>(
        &self,
        work: Work,
        answer: R,
    ) -> Result<Done<R>, Failure> {
        let actor = self.identity.as_ref().map_or(Actor::Setup, |identity| identity.actor.clone());
        self.commit_as(actor, work, answer).await
    }

    /// As [`Call::commit`], for callers who became somebody by this very command.
    pub(crate) async fn commit_as<R: Answer>(
        &self,
        actor: Actor,
        mut work: Work,
        answer: R,
    ) -> Result<Done<R>, Failure> {
        self.spend(&work)?;
        self.hold_authority(&mut work);
        let identity = self.identity.clone().ok_or_else(internal)?;
        self.append(work, Identity { actor, ..identity }, &Reply::command(&answer)).await
    }

    /// Appends the record of a refusal; a repetition is refused in the same words.
    pub(crate) async fn refuse<R: Answer>(
        &self,
        mut work: Work,
        problem: &Problem,
    ) -> Result<Done<R>, Failure> {
        self.spend(&work)?;
        self.hold_authority(&mut work);
        let identity = self.identity.clone().ok_or_else(internal)?;
        self.append(work, identity, &Reply::refusal(problem)).await
    }

    async fn append<R: Answer>(
        &self,
        work: Work,
        identity: Identity,
        reply: &Reply,
    ) -> Result<Done<R>, Failure> {
        let identity = Identity { allowed: self.allowed.borrow().clone(), ..identity };
        if !self.while_frozen {
            self.app.may_grant()?;
        }
        let appended = work.commit(identity, reply.to_stored()).await?;
        let reply = Reply::from_stored(&appended.reply, appended.last)?;
        Ok(Done { reply, body: std::marker::PhantomData })
    }

    /// Events count against the quota of an organization in which the caller acts; what the platform
    /// does to an organization is not held back by the organization's own haste.
    fn spend(&self, work: &Work) -> Result<(), Failure> {
        let Some(principal) = &self.principal else { return Ok(()) };
        for (organization, events) in work.counted() {
            if principal.role_in(&self.state, organization).is_some() {
                let quotas = quota::quotas(&self.state, organization);
                let spent = self.app.spending.spend(organization, quotas.events_per_second, events);
                spent.inspect_err(|_| {
                    let counter = quota::Quota::EventsPerSecond.as_str();
                    self.app.metrics.count("quota_reached", counter);
                })?;
            }
        }
        Ok(())
    }

    /// The roles that the caller was allowed by must not have changed when the command is
    /// appended: a role that is taken away meanwhile takes its last command along.
    fn hold_authority(&self, work: &mut Work) {
        let Some(user) = self.principal.as_ref().and_then(Principal::user) else { return };
        if let Some(found) = self.state.users().get(user) {
            work.hold_at(StreamId::new("user", user.uuid()), found.stamp.revision);
        }
        for organization in self.state.users().organizations_of(user).take(MAX_HELD_MEMBERSHIPS) {
            if let Some(found) = self.state.users().membership(organization, user) {
                let id = keys::membership_id(organization, user);
                work.hold_at(StreamId::new("membership", id), found.stamp.revision);
            }
        }
    }

    pub(crate) fn fresh<T>(&self, make: fn(Timestamp, [u8; 10]) -> T) -> T {
        make(self.now, clock::random())
    }
}

pub(crate) fn unauthenticated() -> Problem {
    Problem::new(ProblemCode::Unauthenticated, "send a valid login or API token as bearer")
}
