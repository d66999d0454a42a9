//! The authority beat: the replicas' word, every few seconds, that more than half of them see one
//! and the same log.
//!
//! An [`EpochStatement`] lists the keys of the replicas and how many of them make a quorum; it is
//! signed with the cluster's control key, and an event of the log makes it valid. A [`Beat`] is
//! signed by that many of those keys. Each replica signs once per sequence, so a minority cannot
//! make a beat, and no two different ones have the same sequence.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, Digest, PublicKey, Timestamp,
    signed::{MAX_SIGNATURES, Payload, Trusted},
};

/// How often a beat is made.
pub const BEAT_INTERVAL_MS: u64 = 5_000;
/// The longest that a beat is valid.
pub const BEAT_TTL_MS: u64 = 30_000;
/// How long after the end of its last beat a node counts as isolated.
pub const ISOLATED_AFTER_MS: u64 = 300_000;
/// The most replicas in one statement: their signatures fit into one envelope.
pub const MAX_REPLICAS: usize = 15;
const _: () = assert!(MAX_REPLICAS <= MAX_SIGNATURES);
/// The epoch of a cluster whose authority was never promoted, merged or split.
pub const FIRST_AUTHORITY_EPOCH: u64 = 1;

/// Which replicas may sign beats, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochStatement {
    pub cluster: ClusterId,
    pub epoch: u64,
    /// Rises with each statement of one cluster; zero for the one that needs no event: the control
    /// key alone.
    pub revision: u64,
    pub replicas: Vec<PublicKey>,
    /// How many of them make a quorum: more than half.
    pub threshold: u32,
    /// The hash of the statement before; `None` in the first.
    pub previous: Option<Digest>,
}

impl Payload for EpochStatement {
    const TYPE: &'static str = "application/vnd.rap.epoch-statement.v1+msgpack";
    const MAX_BYTES: usize = 4 * 1024;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatement {
    #[error("a statement lists 1 to {MAX_REPLICAS} replicas")]
    Replicas,
    #[error("a replica is listed twice")]
    Twice,
    #[error("a quorum is more than half of the replicas, and not more than all")]
    Threshold,
}

impl EpochStatement {
    /// The statement of a cluster that listed no replicas yet: whoever holds the control key.
    pub fn implied(cluster: ClusterId, control: PublicKey) -> Self {
        Self {
            cluster,
            epoch: FIRST_AUTHORITY_EPOCH,
            revision: 0,
            replicas: vec![control],
            threshold: 1,
            previous: None,
        }
    }

    pub fn check(&self) -> Result<(), InvalidStatement> {
        let replicas = self.replicas.len();
        if replicas == 0 || replicas > MAX_REPLICAS {
            return Err(InvalidStatement::Replicas);
        }
        let distinct: BTreeSet<_> = self.replicas.iter().map(PublicKey::id).collect();
        if distinct.len() != replicas {
            return Err(InvalidStatement::Twice);
        }
        let threshold = self.threshold as usize;
        if threshold * 2 <= replicas || threshold > replicas {
            return Err(InvalidStatement::Threshold);
        }
        Ok(())
    }

    /// Whose signatures make a beat. Only of a statement that passed [`EpochStatement::check`].
    pub fn trusted(&self) -> Trusted {
        Trusted::new(self.replicas.iter().copied(), self.threshold.max(1) as usize)
    }

    pub fn lists(&self, key: &PublicKey) -> bool {
        self.replicas.contains(key)
    }
}

/// The smallest number of replicas that is more than half of them.
pub const fn majority(replicas: usize) -> u32 {
    // At most MAX_REPLICAS.
    (replicas / 2 + 1) as u32
}

/// What a quorum of the replicas says together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    pub cluster: ClusterId,
    pub epoch: u64,
    /// The hash of the statement whose replicas sign it.
    pub statement: Digest,
    /// Rises with each beat.
    pub sequence: u64,
    /// Every signer had folded the log at least this far; never falls.
    pub snapshot_floor: u64,
    /// The position of the last event that denied a node or a session. A node that hears of a
    /// later one than it knows asks for its snapshot at once.
    pub deny_version: u64,
    pub issued_at: Timestamp,
    /// At most [`BEAT_TTL_MS`] later.
    pub expires_at: Timestamp,
}

impl Payload for Beat {
    const TYPE: &'static str = "application/vnd.rap.beat.v1+msgpack";
    const MAX_BYTES: usize = 1024;
}

impl Beat {
    /// Whether its life is one that a beat may have.
    pub fn is_bounded(&self) -> bool {
        let life = self.expires_at.since(self.issued_at).as_millis();
        life > 0 && life <= u128::from(BEAT_TTL_MS)
    }
}

/// What a node derives from the beats that it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authority {
    /// No beat was ever heard: control is of a release that makes none.
    #[default]
    Unheard,
    /// The last beat is valid.
    Healthy,
    /// The last beat ended at `since`: what was authorized before goes on, nothing later counts.
    Degraded { since: Timestamp },
    /// The last beat ended long before: nothing new at all, and what is running goes on as the
    /// snapshot's stale policy says.
    Isolated { since: Timestamp },
}

impl Authority {
    /// Whether something that control authorized at `at` may begin now.
    pub fn covers(self, at: Timestamp) -> bool {
        match self {
            Self::Unheard | Self::Healthy => true,
            Self::Degraded { since } => at <= since,
            Self::Isolated { .. } => false,
        }
    }

    pub const fn is_isolated(self) -> bool {
        matches!(self, Self::Isolated { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Signer as _, key::LocalKey};

    fn statement(seeds: &[u8], threshold: u32) -> EpochStatement {
        let key = |seed: &u8| LocalKey::from_random(&[*seed; 32]).map(|key| key.public_key());
        EpochStatement {
            cluster: ClusterId::from_u128(1),
            epoch: 1,
            revision: 1,
            replicas: seeds.iter().filter_map(key).collect(),
            threshold,
            previous: None,
        }
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        for (replicas, threshold, fits) in
            [(1, 1, true), (2, 1, false), (2, 2, true), (3, 1, false), (3, 2, true), (3, 4, false)]
        {
            let seeds: Vec<u8> = (1..=replicas).collect();
            let checked = statement(&seeds, threshold).check();
            assert_eq!(checked.is_ok(), fits, "{threshold} of {replicas}");
        }
        for replicas in 1..=MAX_REPLICAS {
            let seeds: Vec<u8> = (1..).take(replicas).collect();
            assert_eq!(statement(&seeds, majority(replicas)).check(), Ok(()));
        }
    }

    #[test]
    fn so_many_replicas_are_listed_and_each_once() {
        let seeds: Vec<u8> = (1..).take(MAX_REPLICAS + 1).collect();
        let many = statement(&seeds, majority(seeds.len()));
        assert_eq!(many.check(), Err(InvalidStatement::Replicas));
        assert_eq!(statement(&[], 1).check(), Err(InvalidStatement::Replicas));
        assert_eq!(statement(&[1, 1, 2], 2).check(), Err(InvalidStatement::Twice));
    }

    #[test]
    fn each_state_covers_less_than_the_one_before() {
        let at = Timestamp::from_unix_millis;
        let degraded = Authority::Degraded { since: at(10) };
        assert!(Authority::Unheard.covers(at(11)) && Authority::Healthy.covers(at(11)));
        assert!(degraded.covers(at(10)) && !degraded.covers(at(11)));
        assert!(!Authority::Isolated { since: at(10) }.covers(at(9)));
    }
}
