//! The votes for the authority beat: which beat is proposed, and who signed it.
//!
//! Rows, because a beat changes no authority. They stand beside the log, in the same database:
//! whoever can vote has written to the primary. Each change compares and sets, so that what is
//! there never goes back to an earlier sequence.

use futures_util::future::BoxFuture;
use rap_proto::{Digest, KeyId, Timestamp};

/// The most votes that are read at once; there are fewer replicas than that.
pub const MAX_VOTES: usize = 64;
/// The largest payload of a beat that is stored, in bytes.
pub const MAX_PROPOSAL_BYTES: usize = 4 * 1024;

/// The beat that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub sequence: u64,
    /// The payload that is signed, byte for byte.
    pub payload: Vec<u8>,
}

/// A replica's newest vote. It never votes for an earlier sequence, nor twice for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub replica: KeyId,
    pub sequence: u64,
    /// The hash of the payload that it votes for.
    pub payload: Digest,
    /// `None` until it has signed, which it does when its vote is stored.
    pub signature: Option<[u8; 64]>,
}

/// Everything that there is, read at once from the primary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ballot {
    /// By the database's clock.
    pub now: Timestamp,
    /// The last position of the log.
    pub head: u64,
    pub proposal: Option<Proposal>,
    /// In the order of the keys.
    pub votes: Vec<Vote>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeatTableError {
    /// Nothing is known: neither that it was stored nor that it was not. Read again.
    #[error("the beats' table is unavailable: {0}")]
    Unavailable(String),
    /// The database that answered is a standby; only what the primary says counts.
    #[error("the database is not the primary")]
    NotPrimary,
    #[error("a proposal of {actual} bytes is above {MAX_PROPOSAL_BYTES}")]
    TooLarge { actual: usize },
}

/// The votes of one log's replicas.
pub trait BeatTable: Send + Sync + 'static {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>>;

    /// Takes the place of a proposal with a smaller sequence; `false` when there is none.
    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>>;

    /// Takes the place of the replica's vote for a smaller sequence, without a signature; `false`
    /// when it has voted for this sequence or a later one.
    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>>;

    /// Adds the signature to a vote that is stored; `false` when it is not.
    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>>;
}
