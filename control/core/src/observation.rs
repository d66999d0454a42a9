//! What nodes report becomes events, once: each observation of a spool is one command whose id is
//! made from the node and the place in its spool.
//!
//! A spool is recorded in order, and acknowledged as far as it was recorded: whoever performs the
//! [`Verdict`]s stops at the first that fails. A node is believed about the sessions whose
//! tokens named it, about what can be seen from where they named it, and about nothing else.

use rap_events::{
    keys::observation_command,
    node_report::{NodeReportCommand, Report},
    session::{Seen, SessionCommand},
};
use rap_proto::{
    CommandId, Digest, NodeId, SessionId,
    bus::MAX_OBSERVATIONS,
    observation::{Claimed, Observation, Spooled, Vantage},
};

use crate::state::State;

/// What is to be done about one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub sequence: u64,
    pub action: Recording,
}

// A batch is small and short-lived: a box for each would cost more than the room.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// Give this command to the session's stream.
    Session { id: CommandId, request_hash: Digest, session: SessionId, command: SessionCommand },
    /// Give this command to the node's own stream of reports.
    Report { id: CommandId, request_hash: Digest, command: NodeReportCommand },
    /// It is in the log already.
    Known,
    /// The node has no part in what it claims: acknowledge it, so that it goes away, and tell
    /// whoever watches.
    Foreign { session: SessionId },
}

/// Why a batch is not taken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefused {
    #[error("{0} is not an approved node of this cluster")]
    NotApproved(NodeId),
    #[error("a batch has at most {MAX_OBSERVATIONS} observations")]
    TooMany,
    #[error("the observations are not in the order of their sequence")]
    OutOfOrder,
}

/// Maps a batch of one node's observations to commands, in order.
pub fn record(
    state: &State,
    node: NodeId,
    batch: &[Spooled],
) -> Result<Vec<Verdict>, BatchRefused> {
    let reporter = state
        .nodes()
        .get(node)
        .filter(|found| found.is_approved())
        .ok_or(BatchRefused::NotApproved(node))?;
    if batch.len() > MAX_OBSERVATIONS {
        return Err(BatchRefused::TooMany);
    }
    if !batch.is_sorted_by(|left, right| left.sequence < right.sequence) {
        return Err(BatchRefused::OutOfOrder);
    }
    let verdict = |spooled: &Spooled| Verdict {
        sequence: spooled.sequence,
        action: if spooled.sequence <= reporter.observed {
            Recording::Known
        } else {
            recording(state, node, spooled)
        },
    };
    Ok(batch.iter().map(verdict).collect())
}

fn recording(state: &State, node: NodeId, spooled: &Spooled) -> Recording {
    let seen = Seen { node, sequence: spooled.sequence, at: spooled.at };
    let (session, from, command) = match &spooled.observation {
        Observation::SessionStarted { session, from } => {
            let from = *from;
            (*session, from, SessionCommand::RecordStarted { seen, from })
        }
        Observation::SessionEnded { session, reason, bytes_up, bytes_down } => {
            let (bytes_up, bytes_down) = (*bytes_up, *bytes_down);
            let reason = *reason;
            let command = SessionCommand::RecordEnded { seen, reason, bytes_up, bytes_down };
            (*session, Some(Vantage::Entry), command)
        }
        Observation::AccessRefused { code, claimed } => {
            match claimed.as_ref().filter(|claimed| is_true(state, node, claimed)) {
                Some(claimed) => {
                    (claimed.session, None, SessionCommand::RecordRefused { seen, code: *code })
                }
                None => return report(state, spooled, node, Report::AccessRefused { code: *code }),
            }
        }
        Observation::SnapshotRefused { version, code } => {
            let refused = Report::SnapshotRefused { version: *version, code: *code };
            return report(state, spooled, node, refused);
        }
        Observation::LogRefused { size, known, code } => {
            let refused = Report::LogRefused { size: *size, known: *known, code: *code };
            return report(state, spooled, node, refused);
        }
        Observation::WorkerExited { kind, sessions } => {
            let exited = Report::WorkerExited { kind: kind.clone(), sessions: *sessions };
            return report(state, spooled, node, exited);
        }
        Observation::PathChanged { change } => {
            return report(state, spooled, node, Report::PathChanged { change: *change });
        }
        Observation::AuthorityChanged { change } => {
            return report(state, spooled, node, Report::AuthorityChanged { change: *change });
        }
    };
    if is_foreign(state, node, from, session) {
        return Recording::Foreign { session };
    }
    let id = observation_command(node, spooled.sequence);
    Recording::Session { id, request_hash: request_hash(id), session, command }
}

fn report(state: &State, spooled: &Spooled, node: NodeId, report: Report) -> Recording {
    let id = observation_command(node, spooled.sequence);
    Recording::Report {
        id,
        request_hash: request_hash(id),
        command: NodeReportCommand::Record {
            organization: state.nodes().get(node).and_then(|node| node.organization),
            sequence: spooled.sequence,
            observed_at: spooled.at,
            report,
        },
    }
}

/// Whether the claims that a node repeats are those of a session that it has a part in. Others
/// are recorded without them.
fn is_true(state: &State, node: NodeId, claimed: &Claimed) -> bool {
    state.sessions().get(claimed.session).is_some_and(|session| {
        session.nodes.contains(&node)
            && session.user == claimed.user
            && session.organization == claimed.organization
            && session.resource == Some(claimed.resource)
    })
}

/// A session that is forgotten here is left to its own stream, which knows its nodes.
fn is_foreign(state: &State, node: NodeId, from: Option<Vantage>, session: SessionId) -> bool {
    state.sessions().get(session).is_some_and(|session| !session.is_seen_by(node, from))
}

fn request_hash(id: CommandId) -> Digest {
    Digest::of_parts(&[b"observation", id.uuid().as_bytes()])
}

#[cfg(test)]
mod tests;
