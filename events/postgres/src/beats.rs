//! The votes for the authority beat. Every statement compares and sets.

use rap_events::beat::{Ballot, BeatTableError, MAX_PROPOSAL_BYTES, MAX_VOTES, Proposal, Vote};
use rap_proto::{Digest, KeyId, Timestamp};
use sqlx::{PgPool, Row as _, postgres::PgRow};

use crate::{
    engine::{clock, is_standby},
    failure,
};

/// One row, whether there is a proposal or not.
const READ: &str = concat!(
    "SELECT ",
    clock!(),
    ", ",
    is_standby!(),
    ", log_head.position, beat_proposal.sequence, beat_proposal.payload \
     FROM log_head LEFT JOIN beat_proposal ON true",
);
const READ_VOTES: &str = "\
    SELECT replica, sequence, payload, signature FROM beat_votes ORDER BY replica LIMIT $1";
const PROPOSE: &str = "\
    INSERT INTO beat_proposal (only_row, sequence, payload) VALUES (true, $1, $2) \
    ON CONFLICT (only_row) DO UPDATE SET \
        sequence = EXCLUDED.sequence, payload = EXCLUDED.payload \
    WHERE beat_proposal.sequence < EXCLUDED.sequence";
const VOTE: &str = "\
    INSERT INTO beat_votes (replica, sequence, payload, signature) VALUES ($1, $2, $3, NULL) \
    ON CONFLICT (replica) DO UPDATE SET \
        sequence = EXCLUDED.sequence, payload = EXCLUDED.payload, signature = NULL \
    WHERE beat_votes.sequence < EXCLUDED.sequence";
const SIGN: &str = "\
    UPDATE beat_votes SET signature = $4 \
    WHERE replica = $1 AND sequence = $2 AND payload = $3";

pub(crate) async fn read(pool: &PgPool) -> Result<Ballot, BeatTableError> {
    let row = sqlx::query(READ).fetch_one(pool).await.map_err(|error| unavailable(&error))?;
    // The votes second: none of them is for a proposal that is older than the one that was read.
    let limit = i64::try_from(MAX_VOTES).unwrap_or(i64::MAX);
    let votes = sqlx::query(READ_VOTES).bind(limit).fetch_all(pool).await;
    let votes = votes.map_err(|error| unavailable(&error))?;
    if row.try_get(1).map_err(|error| unavailable(&error))? {
        return Err(BeatTableError::NotPrimary);
    }
    ballot(&row, &votes).map_err(|error| unavailable(&error))
}

pub(crate) async fn propose(pool: &PgPool, proposal: Proposal) -> Result<bool, BeatTableError> {
    let actual = proposal.payload.len();
    if actual > MAX_PROPOSAL_BYTES {
        return Err(BeatTableError::TooLarge { actual });
    }
    let query = sqlx::query(PROPOSE).bind(proposal.sequence.cast_signed()).bind(proposal.payload);
    changed(query.execute(pool).await)
}

pub(crate) async fn vote(
    pool: &PgPool,
    replica: KeyId,
    sequence: u64,
    payload: Digest,
) -> Result<bool, BeatTableError> {
    let query = sqlx::query(VOTE).bind(&replica.as_bytes()[..]).bind(sequence.cast_signed());
    changed(query.bind(&payload.as_bytes()[..]).execute(pool).await)
}

pub(crate) async fn sign(
    pool: &PgPool,
    replica: KeyId,
    sequence: u64,
    payload: Digest,
    signature: [u8; 64],
) -> Result<bool, BeatTableError> {
    let query = sqlx::query(SIGN).bind(&replica.as_bytes()[..]).bind(sequence.cast_signed());
    let query = query.bind(&payload.as_bytes()[..]).bind(&signature[..]);
    changed(query.execute(pool).await)
}

fn changed(done: sqlx::Result<sqlx::postgres::PgQueryResult>) -> Result<bool, BeatTableError> {
    done.map(|done| done.rows_affected() == 1).map_err(|error| unavailable(&error))
}

fn ballot(row: &PgRow, votes: &[PgRow]) -> sqlx::Result<Ballot> {
    let proposal = match row.try_get::<Option<i64>, _>(3)? {
        Some(sequence) => {
            Some(Proposal { sequence: sequence.cast_unsigned(), payload: row.try_get(4)? })
        }
        None => None,
    };
    Ok(Ballot {
        now: Timestamp::from_unix_millis(row.try_get(0)?),
        head: row.try_get::<i64, _>(2)?.cast_unsigned(),
        proposal,
        votes: votes.iter().map(vote_of).collect::<sqlx::Result<_>>()?,
    })
}

fn vote_of(row: &PgRow) -> sqlx::Result<Vote> {
    Ok(Vote {
        replica: Digest::from_bytes(row.try_get(0)?),
        sequence: row.try_get::<i64, _>(1)?.cast_unsigned(),
        payload: Digest::from_bytes(row.try_get(2)?),
        signature: match row.try_get::<Option<Vec<u8>>, _>(3)? {
            Some(signature) => signature.try_into().ok(),
            None => None,
        },
    })
}

fn unavailable(error: &sqlx::Error) -> BeatTableError {
    BeatTableError::Unavailable(failure::describe(error))
}
