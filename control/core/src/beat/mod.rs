//! The authority beat, as one replica makes it together with the others.
//!
//! ```text
//! look ──▶ the ballot: proposal, votes, the database's time and head
//!            ├─ enough signatures for the proposal      ▶ hold the beat
//!            ├─ a proposal that agrees with what this
//!            │  replica read itself, not voted for yet  ▶ store the vote, then sign
//!            └─ the proposal is old                     ▶ propose the next
//! ```
//!
//! Any replica may propose; the leader does first, so that the others have one thing to vote for.
//! What keeps two beats of one sequence apart is each replica's vote: stored before it is signed, once
//! for each sequence, and for more than half of the replicas. See [`Voter`].

mod ballot;
mod voter;

use std::time::Duration;

use rap_proto::{
    ClusterId, Digest, PublicKey, Signer,
    beat::{BEAT_INTERVAL_MS, BEAT_TTL_MS, Beat, EpochStatement},
    codec, signed,
};

pub use voter::{Effect, Held, Input, Reading, Voter};

use crate::State;

/// How often beats are made, and how long each is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub every: Duration,
    /// At most [`BEAT_TTL_MS`].
    pub valid: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let (every, valid) = (BEAT_INTERVAL_MS, BEAT_TTL_MS);
        Self { every: Duration::from_millis(every), valid: Duration::from_millis(valid) }
    }
}

/// The statement that is valid now, with its hash and the form that nodes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charter {
    pub statement: EpochStatement,
    pub digest: Digest,
    pub signed: Vec<u8>,
}

impl Charter {
    /// The one that the log made valid or, before there is one, the one that lists the control key
    /// alone. Signing is repeatable, so every replica makes the same.
    pub fn of(state: &State, cluster: ClusterId, control: &dyn Signer) -> Self {
        match &state.authority().stated {
            Some(stated) => Self {
                digest: digest(&stated.statement),
                statement: stated.statement.clone(),
                signed: stated.signed.to_vec(),
            },
            None => Self::implied(cluster, control),
        }
    }

    /// The one of a cluster that never listed a replica.
    pub fn implied(cluster: ClusterId, control: &dyn Signer) -> Self {
        Self::new(EpochStatement::implied(cluster, control.public_key()), control)
    }

    pub fn new(statement: EpochStatement, control: &dyn Signer) -> Self {
        let (digest, signed) = (digest(&statement), signed::seal(&statement, &[control]));
        Self { statement, digest, signed }
    }

    /// Whether the loss of one replica is noticed by the others: one alone is no quorum.
    pub fn is_quorum(&self) -> bool {
        self.statement.replicas.len() > 1
    }

    /// The statement behind this one, which lists `replicas`.
    pub fn followed_by(&self, replicas: Vec<PublicKey>) -> EpochStatement {
        EpochStatement {
            cluster: self.statement.cluster,
            epoch: self.statement.epoch,
            revision: self.statement.revision + 1,
            threshold: rap_proto::beat::majority(replicas.len()),
            replicas,
            previous: Some(self.digest),
        }
    }
}

fn digest(statement: &EpochStatement) -> Digest {
    Digest::of(&codec::encode(statement))
}

/// The beat in a proposal's payload; `None` when it is not one.
fn decode(payload: &[u8]) -> Option<Beat> {
    codec::decode(payload, <Beat as signed::Payload>::MAX_BYTES).ok()
}

#[cfg(test)]
mod tests;
