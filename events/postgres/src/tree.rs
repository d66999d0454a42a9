//! The Merkle tree: moved by the append transaction, read from leaves and tile roots.

use rap_events::{
    entry,
    log::{MAX_READ_EVENTS, ReadError},
};
use rap_proto::Digest;
use rap_tlog::{Completed, Frontier, frontier::InvalidFrontier};
use sqlx::{Connection as _, PgConnection, PgPool, Row as _, postgres::PgRow};

use crate::{failure, head::Head, pipeline::Sent, read};

const READ_TREE: &str = "SELECT leaves, frontier FROM log_head";
const READ_LEAVES: &str = "\
    SELECT leaf FROM events WHERE position > $1 AND position <= $2 ORDER BY position";
const READ_TILE_ROOTS: &str = "\
    SELECT root FROM tile_roots WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index";
const INSERT_TILE_ROOTS: &str = "\
    INSERT INTO tile_roots (level, index, root) \
    SELECT * FROM UNNEST($1::smallint[], $2::bigint[], $3::bytea[])";
const SET_LEAVES: &str = "\
    UPDATE events SET leaf = new.leaf \
    FROM UNNEST($1::bigint[], $2::bytea[]) AS new (position, leaf) \
    WHERE events.position = new.position";
const MOVE_TREE: &str = "UPDATE log_head SET leaves = $1, frontier = $2";

/// The frontier that two columns of a row hold.
pub(crate) fn frontier(row: &PgRow, leaves: usize, bytes: usize) -> sqlx::Result<Frontier> {
    let size = row.try_get::<i64, _>(leaves)?.cast_unsigned();
    let decode = |error: InvalidFrontier| sqlx::Error::ColumnDecode {
        index: "frontier".to_owned(),
        source: error.to_string().into(),
    };
    Frontier::from_bytes(size, &row.try_get::<Vec<u8>, _>(bytes)?).map_err(decode)
}

pub(crate) async fn read_frontier(pool: &PgPool) -> Result<Frontier, ReadError> {
    let row = sqlx::query(READ_TREE).fetch_one(pool).await.map_err(|error| unread(&error))?;
    frontier(&row, 0, 1)
        .map_err(|error| ReadError::Corrupt { position: 0, detail: error.to_string() })
}

pub(crate) async fn read_hashes(
    pool: &PgPool,
    level: u8,
    first: u64,
    count: u16,
) -> Result<Vec<Digest>, ReadError> {
    let end = first.saturating_add(u64::from(count));
    let (Ok(first), Ok(end)) = (i64::try_from(first), i64::try_from(end)) else {
        return Ok(Vec::new());
    };
    let query = match level.checked_sub(1) {
        None => sqlx::query_scalar(READ_LEAVES),
        Some(below) => sqlx::query_scalar(READ_TILE_ROOTS).bind(i16::from(below)),
    };
    let rows: Vec<Option<[u8; 32]>> =
        query.bind(first).bind(end).fetch_all(pool).await.map_err(|error| unread(&error))?;
    // An event without a leaf is one that the tree has not reached.
    Ok(rows.into_iter().map_while(|hash| hash.map(Digest::from_bytes)).collect())
}

/// Adds the leaves of events that a process of an earlier release stored.
pub(crate) async fn complete(pool: &PgPool) -> sqlx::Result<()> {
    loop {
        let mut connection = pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let mut head = Head::lock(&mut transaction).await?;
        if head.is_complete() {
            return transaction.rollback().await;
        }
        tracing::info!(
            leaves = head.frontier.size(),
            events = head.position,
            "completing the tree"
        );
        catch_up_once(&mut transaction, &mut head).await?;
        transaction.commit().await?;
    }
}

async fn catch_up_once(connection: &mut PgConnection, head: &mut Head) -> sqlx::Result<()> {
    let behind = head.frontier.size();
    let envelopes = read::page(&mut *connection, behind, MAX_READ_EVENTS)
        .await
        .map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    let leaves: Vec<Digest> = envelopes.iter().map(entry::leaf).collect();
    let completed: Vec<Completed> =
        leaves.iter().flat_map(|leaf| head.frontier.push(*leaf)).collect();
    let positions: Vec<i64> = envelopes.iter().map(|event| event.position.cast_signed()).collect();
    let hashes: Vec<&[u8]> = leaves.iter().map(|leaf| &leaf.as_bytes()[..]).collect();
    sqlx::query(SET_LEAVES).bind(positions).bind(hashes).execute(&mut *connection).await?;
    if !completed.is_empty() {
        let (levels, indexes, roots) = tile_columns(&completed);
        let query = sqlx::query(INSERT_TILE_ROOTS).bind(levels).bind(indexes).bind(roots);
        query.execute(&mut *connection).await?;
    }
    let size = head.frontier.size().cast_signed();
    sqlx::query(MOVE_TREE).bind(size).bind(head.frontier.to_bytes()).execute(connection).await?;
    Ok(())
}

pub(crate) fn insert_tile_roots(completed: &[Completed]) -> Option<Sent<'_>> {
    if completed.is_empty() {
        return None;
    }
    let (levels, indexes, roots) = tile_columns(completed);
    Some(Sent::new(INSERT_TILE_ROOTS).bind(levels).bind(indexes).bind(roots))
}

pub(crate) fn tile_columns(completed: &[Completed]) -> (Vec<i16>, Vec<i64>, Vec<&[u8]>) {
    (
        completed.iter().map(|tile| i16::from(tile.level)).collect(),
        completed.iter().map(|tile| tile.index.cast_signed()).collect(),
        completed.iter().map(|tile| &tile.root.as_bytes()[..]).collect(),
    )
}

fn unread(error: &sqlx::Error) -> ReadError {
    ReadError::Unavailable(failure::describe(error))
}
