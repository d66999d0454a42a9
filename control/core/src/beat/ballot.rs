//! What a ballot says: which beat is agreed upon, and whether a proposal may be signed.

use std::time::Duration;

use rap_events::beat::{Ballot, Proposal};
use rap_proto::{
    Digest,
    beat::Beat,
    codec,
    signed::{self, Verified},
};

use super::{Charter, Pace, decode};

/// What this replica itself folded of the log that it reads from the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) position: u64,
    pub(super) deny_version: u64,
}

/// The proposed beat under its signatures, when a quorum of the statement's replicas signed it.
pub(super) fn agreed(charter: &Charter, ballot: &Ballot) -> Option<(Verified<Beat>, Vec<u8>)> {
    let proposal = ballot.proposal.as_ref()?;
    let payload = Digest::of(&proposal.payload);
    let fitting = ballot.votes.iter().filter(|vote| {
        vote.sequence == proposal.sequence
            && vote.payload == payload
            && charter.statement.replicas.iter().any(|key| key.id() == vote.replica)
    });
    let signatures: Vec<_> =
        fitting.filter_map(|vote| Some((vote.replica, vote.signature?))).collect();
    if signatures.len() < charter.statement.threshold as usize {
        return None;
    }
    let envelope = signed::join::<Beat>(&proposal.payload, signatures);
    let beat = signed::open::<Beat>(&envelope, &charter.statement.trusted()).ok()?;
    let fits = beat.sequence == proposal.sequence && is_of(charter, &beat);
    fits.then_some((beat, envelope))
}

/// Whether this very beat is the proposed one.
pub(super) fn proposes(ballot: &Ballot, beat: &Beat) -> bool {
    let proposal = ballot.proposal.as_ref().filter(|last| last.sequence == beat.sequence);
    proposal.and_then(|last| decode(&last.payload)).is_some_and(|last| last == *beat)
}

/// Whether this replica can stand behind a proposal: it says nothing that the replica did not
/// read from the primary itself, and it is new.
pub(super) fn may_sign(
    charter: &Charter,
    own: Own,
    ballot: &Ballot,
    proposal: &Proposal,
    pace: Pace,
) -> bool {
    let Some(beat) = decode(&proposal.payload) else { return false };
    let life = beat.expires_at.since(beat.issued_at);
    // A denial that the floor covers must be named.
    let names_denials = if own.deny_version <= beat.snapshot_floor {
        beat.deny_version == own.deny_version
    } else {
        beat.deny_version <= own.deny_version
    };
    // A head behind what was folded is another log than the one that was read before.
    own.position <= ballot.head
        && is_of(charter, &beat)
        && beat.sequence == proposal.sequence
        && beat.snapshot_floor <= own.position
        && beat.deny_version <= beat.snapshot_floor
        && names_denials
        && life == pace.valid
        && beat.is_bounded()
        && beat.issued_at <= ballot.now
        && ballot.now < beat.expires_at
}

/// The beat that comes next.
pub(super) fn next(charter: &Charter, own: Own, ballot: &Ballot, pace: Pace) -> Proposal {
    let sequence = ballot.proposal.as_ref().map_or(0, |last| last.sequence) + 1;
    let beat = Beat {
        cluster: charter.statement.cluster,
        epoch: charter.statement.epoch,
        statement: charter.digest,
        sequence,
        snapshot_floor: own.position,
        deny_version: own.deny_version,
        issued_at: ballot.now,
        expires_at: ballot.now + pace.valid,
    };
    Proposal { sequence, payload: codec::encode(&beat) }
}

/// Whether the next beat is due: there is none, it is of another statement, or as old as this.
pub(super) fn is_due(charter: &Charter, ballot: &Ballot, old: Duration) -> bool {
    let last = ballot.proposal.as_ref().and_then(|last| decode(&last.payload));
    last.is_none_or(|last| {
        let ahead = last.issued_at > ballot.now;
        !is_of(charter, &last) || ahead || ballot.now.since(last.issued_at) >= old
    })
}

fn is_of(charter: &Charter, beat: &Beat) -> bool {
    beat.cluster == charter.statement.cluster
        && beat.epoch == charter.statement.epoch
        && beat.statement == charter.digest
}
