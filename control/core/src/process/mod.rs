//! What follows from the state and the time: commands that no person gives.
//!
//! [`due`] is asked after events and from time to time. Each [`Step`] is one command for one
//! stream, with an id made from what it follows from: asking again before the log took it, or in
//! two processes at once, gives the same command, which the log stores once.

mod credentials;
mod sessions;
mod snapshots;

use std::time::Duration;

use rap_events::{Actor, cluster::ClusterCommand, login::LoginCommand, session::SessionCommand};
use rap_proto::{ClusterId, CommandId, Digest, LoginId, SessionId, Timestamp};
use uuid::Uuid;

use crate::state::State;

/// The most steps of one answer; the rest follows at the next question.
pub const MAX_STEPS: usize = 256;
/// How long after control starts to listen nothing is concluded from silence: the nodes' spools
/// still hold what they saw while control was away.
pub const SETTLE: Duration = Duration::from_secs(120);

/// What the caller knows of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    pub now: Timestamp,
    /// Since when the nodes' reports have been heard without a break.
    pub listening_since: Timestamp,
}

/// One command that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The process manager's name, for the log's actor.
    pub process: &'static str,
    pub id: CommandId,
    /// The position of the event that it follows from, where there is one.
    pub causation: Option<u64>,
    pub command: ProcessCommand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a few are alive at a time")]
pub enum ProcessCommand {
    Cluster(ClusterId, ClusterCommand),
    Login(LoginId, LoginCommand),
    Session(SessionId, SessionCommand),
}

impl Step {
    pub fn actor(&self) -> Actor {
        Actor::System { process: self.process.to_owned() }
    }

    /// Whether it prolongs what nodes may do, which has to wait while authority is frozen.
    pub fn prolongs_authority(&self) -> bool {
        matches!(self.command, ProcessCommand::Cluster(_, ClusterCommand::RenewSnapshots))
    }

    /// The hash of the request: the same for the same id.
    pub fn request_hash(&self) -> Digest {
        Digest::of_parts(&[b"process", self.process.as_bytes(), self.id.uuid().as_bytes()])
    }
}

/// The commands that are due, the oldest duty first within each process.
pub fn due(state: &State, clock: Clock) -> Vec<Step> {
    snapshots::renew(state, clock.now)
        .chain(sessions::terminate_withdrawn(state, clock))
        .chain(credentials::close_logins(state))
        .chain(sessions::conclude_silent(state, clock))
        .take(MAX_STEPS)
        .collect()
}

/// The id of the command that `process` gives to one stream at one revision: a UUID of version 8
/// (RFC 9562) made from the hash of all three.
fn command_id(process: &'static str, stream: Uuid, revision: u64) -> CommandId {
    let parts: [&[u8]; 3] = [process.as_bytes(), stream.as_bytes(), &revision.to_be_bytes()];
    let digest = Digest::of_parts(&parts);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    CommandId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests;
