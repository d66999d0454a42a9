use std::time::Duration;

use rap_events::session::{CONCLUDE_AFTER_MS, CONCLUDE_STARTED_AFTER_MS, SessionCommand};
use rap_proto::WeekHour;

use super::{Clock, ProcessCommand, SETTLE, Step, command_id};
use crate::{
    access,
    state::{Session, State},
};

const WITHDRAWAL: &str = "access-withdrawal";
const CONCLUSION: &str = "session-conclusion";

/// Terminates the sessions whose access was withdrawn since it was granted: whatever their nodes
/// said of them, for as long as one of their tokens may be accepted.
pub(super) fn terminate_withdrawn(state: &State, clock: Clock) -> impl Iterator<Item = Step> {
    let at = WeekHour::of(clock.now);
    state.sessions().terminable(clock.now).filter_map(move |session| {
        let withdrawn = access::withdrawn(state, session, at)?;
        let command = SessionCommand::Terminate { cause: withdrawn.cause };
        Some(step(WITHDRAWAL, session, withdrawn.since, command))
    })
}

/// Concludes the sessions of which no node will say any more that they ended: those that were
/// never used, and those whose nodes were lost.
pub(super) fn conclude_silent(state: &State, clock: Clock) -> impl Iterator<Item = Step> {
    let settled = clock.now >= clock.listening_since + SETTLE;
    state.sessions().open().filter(move |session| settled && is_silent(session, clock)).map(
        |session| step(CONCLUSION, session, Some(session.stamp.changed), SessionCommand::Conclude),
    )
}

fn is_silent(session: &Session, clock: Clock) -> bool {
    if session.grant.is_none() {
        return false;
    }
    let wait = match session.started_at {
        Some(_) => CONCLUDE_STARTED_AFTER_MS,
        None => CONCLUDE_AFTER_MS,
    };
    clock.now > session.expires_at + Duration::from_millis(wait)
}

fn step(
    process: &'static str,
    session: &Session,
    causation: Option<u64>,
    command: SessionCommand,
) -> Step {
    Step {
        process,
        id: command_id(process, session.id.uuid(), session.stamp.revision),
        causation,
        command: ProcessCommand::Session(session.id, command),
    }
}
