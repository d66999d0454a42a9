//! The statements of the append transaction. Each handles the whole batch at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rap_events::log::{Append, StoredCommand, StreamId};
use rap_proto::{CommandId, Digest};
use rap_tlog::Frontier;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{
    batch::{Batch, Found},
    leases, subjects, tree,
};

/// The channel of the one notification that each batch sends.
pub(crate) const CHANNEL: &str = "rap_log";

const LOCK_HEAD: &str = "SELECT position, leaves, frontier FROM log_head FOR UPDATE";
const FIND_COMMANDS: &str = "\
    SELECT command, request_hash, first_position, last_position, reply \
    FROM commands WHERE command = ANY($1)";
const FIND_STREAMS: &str = "\
    SELECT category, stream, revision FROM streams \
    JOIN UNNEST($1::text[], $2::uuid[]) AS asked (category, stream) USING (category, stream)";
const FIND_CLAIMS: &str = "SELECT claim FROM claims WHERE claim = ANY($1)";
const INSERT_EVENTS: &str = "\
    INSERT INTO events (position, category, stream, revision, event_type, schema, payload, \
                        organization, actor, command, causation, recorded_at, leaf) \
    SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], \
                         $6::integer[], $7::bytea[], $8::uuid[], $9::bytea[], $10::uuid[], \
                         $11::bigint[], $12::bigint[], $13::bytea[])";
const UPDATE_STREAMS: &str = "\
    INSERT INTO streams (category, stream, revision) \
    SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[]) \
    ON CONFLICT (category, stream) DO UPDATE SET revision = EXCLUDED.revision";
const INSERT_COMMANDS: &str = "\
    INSERT INTO commands (command, request_hash, first_position, last_position, reply) \
    SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[])";
const DELETE_CLAIMS: &str = "DELETE FROM claims WHERE claim = ANY($1)";
const INSERT_CLAIMS: &str = "\
    INSERT INTO claims (claim, command) SELECT * FROM UNNEST($1::text[], $2::uuid[])";
const MOVE_HEAD: &str = "\
    WITH moved AS (UPDATE log_head SET position = $1, leaves = $1, frontier = $2 \
                   RETURNING position) \
    SELECT pg_notify($3, position::text) FROM moved";

/// How far the log has come, and its tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: u64,
    pub(crate) frontier: Frontier,
}

impl Head {
    /// Whether every event has its leaf.
    pub(crate) fn is_complete(&self) -> bool {
        self.frontier.size() == self.position
    }
}

/// Locks the head until the transaction ends, and returns it. A statement of its own: what the
/// next ones see must have been committed before the lock was granted.
pub(crate) async fn lock_head(connection: &mut PgConnection) -> sqlx::Result<Head> {
    head(&sqlx::query(LOCK_HEAD).fetch_one(connection).await?)
}

/// The head that a row holds: position, leaves and frontier.
pub(crate) fn head(row: &PgRow) -> sqlx::Result<Head> {
    let position = row.try_get::<i64, _>(0)?.cast_unsigned();
    Ok(Head { position, frontier: tree::frontier(row, 1, 2)? })
}

/// What is stored about the given commands.
pub(crate) async fn find_commands(
    connection: &mut PgConnection,
    commands: impl Iterator<Item = CommandId>,
) -> sqlx::Result<BTreeMap<CommandId, StoredCommand>> {
    let asked: Vec<Uuid> = commands.map(CommandId::uuid).collect();
    let rows = sqlx::query(FIND_COMMANDS).bind(asked).fetch_all(connection).await?;
    rows.iter().map(stored_command).collect()
}

/// What the database holds about everything that the appends name.
pub(crate) async fn find(
    connection: &mut PgConnection,
    head: Head,
    appends: &[&Append],
) -> sqlx::Result<Found> {
    let commands = appends.iter().map(|append| append.command);
    let commands = find_commands(&mut *connection, commands).await?;
    let streams = find_streams(&mut *connection, appends).await?;
    let claims = find_claims(&mut *connection, appends).await?;
    let leases = leases::find(connection, appends).await?;
    Ok(Found { head, commands, streams, claims, leases })
}

async fn find_streams(
    connection: &mut PgConnection,
    appends: &[&Append],
) -> sqlx::Result<BTreeMap<StreamId, u64>> {
    let streams: BTreeSet<&StreamId> =
        appends.iter().flat_map(|append| &append.writes).map(|write| &write.stream).collect();
    let categories: Vec<&str> = streams.iter().map(|stream| stream.category.as_str()).collect();
    let ids: Vec<Uuid> = streams.iter().map(|stream| stream.id).collect();
    let rows = sqlx::query(FIND_STREAMS).bind(categories).bind(ids).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let stream = StreamId::new(row.try_get::<String, _>(0)?, row.try_get(1)?);
            Ok((stream, row.try_get::<i64, _>(2)?.cast_unsigned()))
        })
        .collect()
}

async fn find_claims(
    connection: &mut PgConnection,
    appends: &[&Append],
) -> sqlx::Result<BTreeSet<String>> {
    let keys: Vec<&str> =
        appends.iter().flat_map(|append| &append.claim).map(String::as_str).collect();
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<String> =
        sqlx::query_scalar(FIND_CLAIMS).bind(keys).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Writes everything that the batch decided, and tells the tails.
pub(crate) async fn write(connection: &mut PgConnection, batch: &Batch) -> sqlx::Result<()> {
    insert_commands(&mut *connection, batch).await?;
    move_claims(&mut *connection, batch).await?;
    leases::write(&mut *connection, batch).await?;
    subjects::write(&mut *connection, batch).await?;
    if batch.events.is_empty() {
        return Ok(());
    }
    insert_events(&mut *connection, batch).await?;
    update_streams(&mut *connection, batch).await?;
    tree::insert_tile_roots(&mut *connection, &batch.completed).await?;
    move_head(connection, batch.head()).await
}

/// Writes how far the log has come, and tells the tails.
pub(crate) async fn move_head(connection: &mut PgConnection, head: &Head) -> sqlx::Result<()> {
    let Head { position, frontier } = head;
    let query = sqlx::query(MOVE_HEAD).bind(position.cast_signed()).bind(frontier.to_bytes());
    query.bind(CHANNEL).execute(connection).await?;
    Ok(())
}

pub(crate) async fn insert_events(
    connection: &mut PgConnection,
    batch: &Batch,
) -> sqlx::Result<()> {
    let rows = &batch.events;
    let events = || rows.iter().map(|row| &row.envelope);
    let positions: Vec<i64> = events().map(|event| event.position.cast_signed()).collect();
    let categories: Vec<&str> = events().map(|event| event.stream.category.as_str()).collect();
    let streams: Vec<Uuid> = events().map(|event| event.stream.id).collect();
    let revisions: Vec<i64> = events().map(|event| event.revision.cast_signed()).collect();
    let types: Vec<&str> = events().map(|event| event.event_type.as_str()).collect();
    let schemas: Vec<i32> = events().map(|event| i32::from(event.schema)).collect();
    let payloads: Vec<&[u8]> = events().map(|event| &*event.payload).collect();
    let organizations: Vec<Option<Uuid>> =
        events().map(|event| event.organization.map(|id| id.uuid())).collect();
    let actors: Vec<&[u8]> = rows.iter().map(|row| &*row.actor).collect();
    let commands: Vec<Uuid> = events().map(|event| event.command.uuid()).collect();
    let causes: Vec<Option<i64>> =
        events().map(|event| event.causation.map(u64::cast_signed)).collect();
    let times: Vec<i64> = events().map(|event| event.at.unix_millis()).collect();
    let leaves: Vec<&[u8]> = rows.iter().map(|row| &row.leaf.as_bytes()[..]).collect();
    sqlx::query(INSERT_EVENTS)
        .bind(positions)
        .bind(categories)
        .bind(streams)
        .bind(revisions)
        .bind(types)
        .bind(schemas)
        .bind(payloads)
        .bind(organizations)
        .bind(actors)
        .bind(commands)
        .bind(causes)
        .bind(times)
        .bind(leaves)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn update_streams(
    connection: &mut PgConnection,
    batch: &Batch,
) -> sqlx::Result<()> {
    let categories: Vec<&str> = batch.streams.keys().map(|id| id.category.as_str()).collect();
    let ids: Vec<Uuid> = batch.streams.keys().map(|id| id.id).collect();
    let revisions: Vec<i64> = batch.streams.values().map(|last| last.cast_signed()).collect();
    let query = sqlx::query(UPDATE_STREAMS).bind(categories).bind(ids).bind(revisions);
    query.execute(connection).await?;
    Ok(())
}

async fn insert_commands(connection: &mut PgConnection, batch: &Batch) -> sqlx::Result<()> {
    let commands = &batch.commands;
    let ids: Vec<Uuid> = commands.iter().map(|(id, _)| id.uuid()).collect();
    let hashes: Vec<&[u8]> =
        commands.iter().map(|(_, stored)| &stored.request_hash.as_bytes()[..]).collect();
    let firsts: Vec<i64> = commands.iter().map(|(_, stored)| stored.first.cast_signed()).collect();
    let lasts: Vec<i64> = commands.iter().map(|(_, stored)| stored.last.cast_signed()).collect();
    let replies: Vec<&[u8]> = commands.iter().map(|(_, stored)| &*stored.reply).collect();
    sqlx::query(INSERT_COMMANDS)
        .bind(ids)
        .bind(hashes)
        .bind(firsts)
        .bind(lasts)
        .bind(replies)
        .execute(connection)
        .await?;
    Ok(())
}

async fn move_claims(connection: &mut PgConnection, batch: &Batch) -> sqlx::Result<()> {
    if batch.keys.is_empty() {
        return Ok(());
    }
    let moved: Vec<&str> = batch.keys.keys().map(String::as_str).collect();
    sqlx::query(DELETE_CLAIMS).bind(moved).execute(&mut *connection).await?;
    let held = batch.keys.iter().filter_map(|(key, holder)| Some((key.as_str(), (*holder)?)));
    let (keys, holders): (Vec<&str>, Vec<Uuid>) = held.unzip();
    sqlx::query(INSERT_CLAIMS).bind(keys).bind(holders).execute(connection).await?;
    Ok(())
}

fn stored_command(row: &PgRow) -> sqlx::Result<(CommandId, StoredCommand)> {
    let hash: Vec<u8> = row.try_get(1)?;
    let hash: [u8; 32] = hash.try_into().map_err(|_| sqlx::Error::ColumnDecode {
        index: "request_hash".to_owned(),
        source: "not 32 bytes".into(),
    })?;
    let stored = StoredCommand {
        request_hash: Digest::from_bytes(hash),
        first: row.try_get::<i64, _>(2)?.cast_unsigned(),
        last: row.try_get::<i64, _>(3)?.cast_unsigned(),
        reply: Bytes::from(row.try_get::<Vec<u8>, _>(4)?),
    };
    Ok((CommandId::from_uuid(row.try_get(0)?), stored))
}
