//! Where a stream begins: behind `Last-Event-ID`, or at the present end.
//!
//! An id says which event its client saw last. Where the log has another one there, the database lost
//! events that the client saw, and has others in their place: who went on behind them would never see those.

use rap_control_core::audit::Seen;
use rap_proto::{
    Digest,
    api::{EventId, Problem, ProblemCode, UNREADABLE_EVENT_ID},
};

use crate::{
    app::App,
    follow,
    http::{call::Call, failure::Failure},
};

const BEHIND: &str = "this server shows what its database lost; repeat later, or elsewhere";

/// What is no id, an id of another log, one from the future of this one, and one that is too far back
/// get the same answer, begin anew, each with a rule that says why.
pub(super) async fn start(call: &Call) -> Result<Seen, Failure> {
    let Some(id) = &call.last_event_id else { return Ok(present(call)) };
    let Ok(id) = id.parse::<EventId>() else {
        return Err(gone(UNREADABLE_EVENT_ID, "not an id of this stream"));
    };
    if id.cluster != call.app.custody.cluster {
        return Err(another_log());
    }
    let behind = call.state.position().saturating_sub(id.position);
    if behind > call.app.feed.limits().resume_events {
        let detail = "too far back; read the audit log up to its end, and begin there";
        return Err(gone("resume_events", detail));
    }
    named(&call.app, id).await
}

/// The last event of the projections. Which one it is, the window may not know yet, when it was folded
/// and not published: the log is not asked for that, as the stream learns it with what is published.
fn present(call: &Call) -> Seen {
    let position = call.state.position();
    Seen { position, leaf: call.app.feed.leaf_at(position) }
}

/// The event that an id names. Where the window does not hold it, the log is asked: another replica may
/// also have shown it to the client before this one folded it.
async fn named(app: &App, EventId { position, imprint, .. }: EventId) -> Result<Seen, Failure> {
    let imprint_of = |leaf: &Digest| app.custody.derivation.imprint(leaf);
    let is_meant = |leaf: &Digest| imprint.is_none_or(|said| said == imprint_of(leaf));
    if position == 0 {
        return if imprint.is_none() { Ok(Seen::default()) } else { Err(another_log()) };
    }
    let held = app.feed.leaf_at(position);
    let leaf = match held.filter(is_meant) {
        Some(leaf) => leaf,
        None => stands(held, stored(app, position).await?.filter(is_meant))?,
    };
    Ok(Seen { position, leaf: Some(leaf) })
}

/// Of an event that the log has, and the window holds not at all or another one in its place: then what
/// this replica shows was lost, and it has not noticed yet.
fn stands(held: Option<Digest>, stored: Option<Digest>) -> Result<Digest, Failure> {
    match (stored, held) {
        (None, _) => Err(another_log()),
        (Some(leaf), None) => Ok(leaf),
        (Some(_), Some(_)) => Err(Problem::new(ProblemCode::Unavailable, BEHIND).into()),
    }
}

/// No more ask the log at the same time than read it for streams that are behind.
async fn stored(app: &App, position: u64) -> Result<Option<Digest>, Failure> {
    let _turn = app.feed.page_readers.acquire().await;
    Ok(follow::leaf_at(app.log.as_ref(), position).await?)
}

fn another_log() -> Failure {
    gone("last_event_id", "not an event of this log; read the audit log anew from before it")
}

fn gone(rule: &str, detail: &str) -> Failure {
    Problem::new(ProblemCode::PositionTooOld, detail).rule(rule).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(outcome: Result<Digest, Failure>) -> Result<Digest, Option<ProblemCode>> {
        outcome.map_err(|failure| match failure {
            Failure::Problem(problem) => problem.code(),
            Failure::Conflict | Failure::KeyGiven | Failure::LeaseLost => None,
        })
    }

    #[test]
    fn a_replica_that_shows_what_was_lost_sends_who_saw_the_new_log_elsewhere() {
        let [one, other] = [b"one", b"two"].map(|bytes| Digest::of(bytes));
        assert_eq!(code(stands(None, Some(one))), Ok(one));
        assert_eq!(code(stands(Some(other), Some(one))), Err(Some(ProblemCode::Unavailable)));
        for held in [None, Some(other)] {
            assert_eq!(code(stands(held, None)), Err(Some(ProblemCode::PositionTooOld)));
        }
    }
}
