use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use rap_proto::{Digest, KeyId};

use super::{MemoryLog, ready};
use crate::beat::{
    Ballot, BeatTable, BeatTableError, MAX_PROPOSAL_BYTES, MAX_VOTES, Proposal, Vote,
};

/// The rows of [`BeatTable`].
#[derive(Debug, Clone, Default)]
pub(super) struct Beats {
    proposal: Option<Proposal>,
    votes: BTreeMap<KeyId, Vote>,
}

impl BeatTable for MemoryLog {
    fn read_ballot(&self) -> BoxFuture<'_, Result<Ballot, BeatTableError>> {
        let (state, now) = (self.state(), self.now());
        let votes = state.beats.votes.values().take(MAX_VOTES).copied().collect();
        let proposal = state.beats.proposal.clone();
        ready(Ok(Ballot { now, head: state.head(), proposal, votes }))
    }

    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        let actual = proposal.payload.len();
        if actual > MAX_PROPOSAL_BYTES {
            return ready(Err(BeatTableError::TooLarge { actual }));
        }
        let beats = &mut self.state().beats;
        let newer = beats.proposal.as_ref().is_none_or(|held| held.sequence < proposal.sequence);
        if newer {
            beats.proposal = Some(proposal);
        }
        ready(Ok(newer))
    }

    fn vote(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        let votes = &mut self.state().beats.votes;
        let newer = votes.get(&replica).is_none_or(|held| held.sequence < sequence);
        if newer {
            votes.insert(replica, Vote { replica, sequence, payload, signature: None });
        }
        ready(Ok(newer))
    }

    fn sign(
        &self,
        replica: KeyId,
        sequence: u64,
        payload: Digest,
        signature: [u8; 64],
    ) -> BoxFuture<'_, Result<bool, BeatTableError>> {
        let votes = &mut self.state().beats.votes;
        let held = votes.get_mut(&replica);
        let held = held.filter(|held| (held.sequence, held.payload) == (sequence, payload));
        let found = held.map(|held| held.signature = Some(signature)).is_some();
        ready(Ok(found))
    }
}
