//! Sealed heads and their cosignatures.
//!
//! A seal takes no guard of the leader's generation, as an append of the leader's does, because a head
//! is no authority. It says what the log had come to, which stays true: one that a replica seals late,
//! when it leads no more, is as good as in time; the newest is the one of the most events, whenever it
//! came; and of two for one size the first stays. Replicas that never led seal, too: what one of them
//! showed a node is kept as soon as the node co-signs it. That the leader alone seals by itself saves
//! work. A late head can be of events that a failover lost meanwhile. The log is then found not to
//! continue it, and control freezes, as it does when a node comes that saw that head. A guard would not
//! prevent this, because the leader before and after a failover can be the same.

use std::collections::BTreeMap;

use rap_events::{
    heads::{MAX_READ_HEADS, MAX_SEALED_HEADS, SealedHead},
    log::ReadError,
};
use rap_proto::{NodeId, Timestamp};
use rap_tlog::cosignature::MAX_COSIGNATURES;
use sqlx::{PgExecutor, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::failure;

const SEAL: &str = "\
    INSERT INTO sealed_heads (size, note, sealed_at) VALUES ($1, $2, $3) \
    ON CONFLICT (size) DO NOTHING";
/// Below the newest so many.
const FORGET: &str = "\
    DELETE FROM sealed_heads \
    WHERE size <= (SELECT size FROM sealed_heads ORDER BY size DESC OFFSET $1 LIMIT 1)";
/// Writers that come at once can pass the bound together; a reader takes no more than it.
const COSIGN: &str = "\
    INSERT INTO cosignatures (size, node, line) \
    SELECT size, $2, $3 FROM sealed_heads WHERE size = $1 \
    AND (SELECT count(*) FROM cosignatures WHERE size = $1 AND node <> $2) < $4 \
    ON CONFLICT (size, node) DO UPDATE SET line = EXCLUDED.line";
const READ: &str = "\
    SELECT size, note, sealed_at FROM sealed_heads \
    WHERE $1::bigint IS NULL OR size < $1 ORDER BY size DESC LIMIT $2";
const READ_COSIGNATURES: &str = "\
    SELECT size, node, line FROM cosignatures WHERE size = ANY($1) ORDER BY size, node";

pub(crate) async fn seal(
    pool: &PgPool,
    size: u64,
    note: Vec<u8>,
    sealed_at: Timestamp,
) -> Result<(), ReadError> {
    let seal = sqlx::query(SEAL).bind(size.cast_signed()).bind(note).bind(sealed_at.unix_millis());
    let sealed = seal.execute(pool).await.map_err(|error| unavailable(&error))?;
    if sealed.rows_affected() > 0 {
        let kept = i64::try_from(MAX_SEALED_HEADS).unwrap_or(i64::MAX);
        let forget = sqlx::query(FORGET).bind(kept);
        forget.execute(pool).await.map_err(|error| unavailable(&error))?;
    }
    Ok(())
}

pub(crate) async fn cosign(
    pool: &PgPool,
    size: u64,
    node: NodeId,
    line: Vec<u8>,
) -> Result<(), ReadError> {
    let most = i64::try_from(MAX_COSIGNATURES).unwrap_or(i64::MAX);
    let query = sqlx::query(COSIGN).bind(size.cast_signed()).bind(node.uuid()).bind(line);
    query.bind(most).execute(pool).await.map_err(|error| unavailable(&error))?;
    Ok(())
}

pub(crate) async fn read(
    pool: &PgPool,
    below: Option<u64>,
    limit: usize,
) -> Result<Vec<SealedHead>, ReadError> {
    let below = below.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    let limit = i64::try_from(limit.min(MAX_READ_HEADS)).unwrap_or(i64::MAX);
    let read = sqlx::query(READ).bind(below).bind(limit);
    let rows = read.fetch_all(pool).await.map_err(|error| unavailable(&error))?;
    let heads = rows.iter().map(head).collect::<sqlx::Result<Vec<_>>>();
    let mut heads = heads.map_err(|error| unavailable(&error))?;
    let sizes: Vec<i64> = heads.iter().map(|head| head.size.cast_signed()).collect();
    let lines = cosignatures(pool, sizes).await.map_err(|error| unavailable(&error))?;
    for (size, node, line) in lines {
        if let Some(head) = heads.iter_mut().find(|head| head.size == size) {
            head.cosign(node, line);
        }
    }
    Ok(heads)
}

async fn cosignatures(
    executor: impl PgExecutor<'_>,
    sizes: Vec<i64>,
) -> sqlx::Result<Vec<(u64, NodeId, Vec<u8>)>> {
    let rows = sqlx::query(READ_COSIGNATURES).bind(sizes).fetch_all(executor).await?;
    let line = |row: &PgRow| {
        let size = row.try_get::<i64, _>(0)?.cast_unsigned();
        Ok((size, NodeId::from_uuid(row.try_get::<Uuid, _>(1)?), row.try_get(2)?))
    };
    rows.iter().map(line).collect()
}

fn head(row: &PgRow) -> sqlx::Result<SealedHead> {
    Ok(SealedHead {
        size: row.try_get::<i64, _>(0)?.cast_unsigned(),
        note: row.try_get(1)?,
        sealed_at: Timestamp::from_unix_millis(row.try_get(2)?),
        cosignatures: BTreeMap::new(),
    })
}

fn unavailable(error: &sqlx::Error) -> ReadError {
    ReadError::Unavailable(failure::describe(error))
}
