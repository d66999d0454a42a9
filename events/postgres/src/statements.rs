//! The statements of the append transaction. Each handles the whole batch at once, and there are as
//! few as can be: what an append takes is mostly the way to the database and back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rap_events::log::{Append, StoredCommand, StreamId};
use rap_proto::{CommandId, Digest};
use rap_tlog::Frontier;
use sqlx::{
    Executor as _, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use crate::{
    batch::{Batch, Found},
    leases, subjects, tree,
};

/// The channel of the one notification that each batch sends.
pub(crate) const CHANNEL: &str = "rap_log";

macro_rules! lock_head {
    () => {
        "SELECT position, leaves, frontier FROM log_head FOR UPDATE"
    };
}
const LOCK_HEAD: &str = lock_head!();
const BEGIN_AND_LOCK: &str = concat!("BEGIN; ", lock_head!());
const FIND_COMMANDS: &str = "\
    SELECT command, request_hash, first_position, last_position, reply \
    FROM commands WHERE command = ANY($1)";
/// Commands, and streams, in rows of one shape.
const FIND: &str = "\
    SELECT command, request_hash, first_position, last_position, reply, NULL \
    FROM commands WHERE command = ANY($1) \
    UNION ALL \
    SELECT stream, NULL, revision, NULL, NULL, category FROM streams \
    JOIN UNNEST($2::text[], $3::uuid[]) AS asked (category, stream) USING (category, stream)";
const FIND_CLAIMS: &str = "SELECT claim FROM claims WHERE claim = ANY($1)";
const INSERT_COMMANDS: &str = "\
    INSERT INTO commands (command, request_hash, first_position, last_position, reply) \
    SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[])";
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
const DELETE_CLAIMS: &str = "DELETE FROM claims WHERE claim = ANY($1)";
const INSERT_CLAIMS: &str = "\
    INSERT INTO claims (claim, command) SELECT * FROM UNNEST($1::text[], $2::uuid[])";
const MOVE_HEAD: &str = "\
    WITH moved AS (UPDATE log_head SET position = $1, leaves = $1, frontier = $2 \
                   RETURNING position) \
    SELECT pg_notify($3, position::text) FROM moved";
/// The four statements above as one.
const WRITE: &str = "\
    WITH new_commands AS ( \
        INSERT INTO commands (command, request_hash, first_position, last_position, reply) \
        SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[]) \
    ), new_events AS ( \
        INSERT INTO events (position, category, stream, revision, event_type, schema, payload, \
                            organization, actor, command, causation, recorded_at, leaf) \
        SELECT * FROM UNNEST($6::bigint[], $7::text[], $8::uuid[], $9::bigint[], $10::text[], \
                             $11::integer[], $12::bytea[], $13::uuid[], $14::bytea[], \
                             $15::uuid[], $16::bigint[], $17::bigint[], $18::bytea[]) \
    ), grown AS ( \
        INSERT INTO streams (category, stream, revision) \
        SELECT * FROM UNNEST($19::text[], $20::uuid[], $21::bigint[]) \
        ON CONFLICT (category, stream) DO UPDATE SET revision = EXCLUDED.revision \
    ), moved AS ( \
        UPDATE log_head SET position = $22, leaves = $22, frontier = $23 RETURNING position \
    ) \
    SELECT pg_notify($24, position::text) FROM moved";

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

/// Begins a transaction and locks the head until it ends; returns the head. What the next
/// statements see was committed before the lock was granted.
pub(crate) async fn begin(connection: &mut PgConnection) -> sqlx::Result<Head> {
    head(&connection.fetch_one(BEGIN_AND_LOCK).await?)
}

/// The same within a transaction that was begun.
pub(crate) async fn lock_head(connection: &mut PgConnection) -> sqlx::Result<Head> {
    head(&sqlx::query(LOCK_HEAD).fetch_one(connection).await?)
}

pub(crate) async fn commit(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("COMMIT").await.map(drop)
}

pub(crate) async fn roll_back(connection: &mut PgConnection) -> sqlx::Result<()> {
    connection.execute("ROLLBACK").await.map(drop)
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
    let (commands, streams) = find_commands_and_streams(&mut *connection, appends).await?;
    let claims = find_claims(&mut *connection, appends).await?;
    let leases = leases::find(connection, appends).await?;
    Ok(Found { head, commands, streams, claims, leases })
}

type CommandsAndStreams = (BTreeMap<CommandId, StoredCommand>, BTreeMap<StreamId, u64>);

async fn find_commands_and_streams(
    connection: &mut PgConnection,
    appends: &[&Append],
) -> sqlx::Result<CommandsAndStreams> {
    let asked: Vec<Uuid> = appends.iter().map(|append| append.command.uuid()).collect();
    let streams: BTreeSet<&StreamId> =
        appends.iter().flat_map(|append| &append.writes).map(|write| &write.stream).collect();
    let categories: Vec<&str> = streams.iter().map(|stream| stream.category.as_str()).collect();
    let ids: Vec<Uuid> = streams.iter().map(|stream| stream.id).collect();
    let query = sqlx::query(FIND).bind(asked).bind(categories).bind(ids);
    let (mut commands, mut streams) = (BTreeMap::new(), BTreeMap::new());
    for row in query.fetch_all(connection).await? {
        match row.try_get::<Option<String>, _>(5)? {
            None => commands.extend([stored_command(&row)?]),
            Some(category) => {
                let revision = row.try_get::<i64, _>(2)?.cast_unsigned();
                streams.insert(StreamId::new(category, row.try_get(0)?), revision);
            }
        }
    }
    Ok((commands, streams))
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
    move_claims(&mut *connection, batch).await?;
    leases::write(&mut *connection, batch).await?;
    subjects::write(&mut *connection, batch).await?;
    let commands = Commands::of(batch);
    if batch.events.is_empty() {
        commands.bind(sqlx::query(INSERT_COMMANDS)).execute(connection).await?;
        return Ok(());
    }
    tree::insert_tile_roots(&mut *connection, &batch.completed).await?;
    let (events, streams) = (Events::of(batch), Streams::of(batch));
    let query = streams.bind(events.bind(commands.bind(sqlx::query(WRITE))));
    bind_head(query, batch.head()).execute(connection).await?;
    Ok(())
}

/// Writes how far the log has come, and tells the tails.
pub(crate) async fn move_head(connection: &mut PgConnection, head: &Head) -> sqlx::Result<()> {
    bind_head(sqlx::query(MOVE_HEAD), head).execute(connection).await?;
    Ok(())
}

pub(crate) async fn insert_events(
    connection: &mut PgConnection,
    batch: &Batch,
) -> sqlx::Result<()> {
    Events::of(batch).bind(sqlx::query(INSERT_EVENTS)).execute(connection).await?;
    Ok(())
}

pub(crate) async fn update_streams(
    connection: &mut PgConnection,
    batch: &Batch,
) -> sqlx::Result<()> {
    Streams::of(batch).bind(sqlx::query(UPDATE_STREAMS)).execute(connection).await?;
    Ok(())
}

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

fn bind_head<'q>(query: PgQuery<'q>, head: &Head) -> PgQuery<'q> {
    let Head { position, frontier } = head;
    query.bind(position.cast_signed()).bind(frontier.to_bytes()).bind(CHANNEL)
}

/// The columns of new rows of `commands`.
struct Commands<'a> {
    ids: Vec<Uuid>,
    hashes: Vec<&'a [u8]>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    replies: Vec<&'a [u8]>,
}

impl<'a> Commands<'a> {
    fn of(batch: &'a Batch) -> Self {
        let stored = || batch.commands.iter().map(|(_, stored)| stored);
        Self {
            ids: batch.commands.iter().map(|(id, _)| id.uuid()).collect(),
            hashes: stored().map(|stored| &stored.request_hash.as_bytes()[..]).collect(),
            firsts: stored().map(|stored| stored.first.cast_signed()).collect(),
            lasts: stored().map(|stored| stored.last.cast_signed()).collect(),
            replies: stored().map(|stored| &*stored.reply).collect(),
        }
    }

    fn bind(self, query: PgQuery<'a>) -> PgQuery<'a> {
        let Self { ids, hashes, firsts, lasts, replies } = self;
        query.bind(ids).bind(hashes).bind(firsts).bind(lasts).bind(replies)
    }
}

/// The columns of new rows of `events`.
struct Events<'a> {
    positions: Vec<i64>,
    categories: Vec<&'a str>,
    streams: Vec<Uuid>,
    revisions: Vec<i64>,
    types: Vec<&'a str>,
    schemas: Vec<i32>,
    payloads: Vec<&'a [u8]>,
    organizations: Vec<Option<Uuid>>,
    actors: Vec<&'a [u8]>,
    commands: Vec<Uuid>,
    causes: Vec<Option<i64>>,
    times: Vec<i64>,
    leaves: Vec<&'a [u8]>,
}

impl<'a> Events<'a> {
    fn of(batch: &'a Batch) -> Self {
        let rows = &batch.events;
        let events = || rows.iter().map(|row| &row.envelope);
        Self {
            positions: events().map(|event| event.position.cast_signed()).collect(),
            categories: events().map(|event| event.stream.category.as_str()).collect(),
            streams: events().map(|event| event.stream.id).collect(),
            revisions: events().map(|event| event.revision.cast_signed()).collect(),
            types: events().map(|event| event.event_type.as_str()).collect(),
            schemas: events().map(|event| i32::from(event.schema)).collect(),
            payloads: events().map(|event| &*event.payload).collect(),
            organizations: events().map(|event| event.organization.map(|id| id.uuid())).collect(),
            actors: rows.iter().map(|row| &*row.actor).collect(),
            commands: events().map(|event| event.command.uuid()).collect(),
            causes: events().map(|event| event.causation.map(u64::cast_signed)).collect(),
            times: events().map(|event| event.at.unix_millis()).collect(),
            leaves: rows.iter().map(|row| &row.leaf.as_bytes()[..]).collect(),
        }
    }

    fn bind(self, query: PgQuery<'a>) -> PgQuery<'a> {
        query
            .bind(self.positions)
            .bind(self.categories)
            .bind(self.streams)
            .bind(self.revisions)
            .bind(self.types)
            .bind(self.schemas)
            .bind(self.payloads)
            .bind(self.organizations)
            .bind(self.actors)
            .bind(self.commands)
            .bind(self.causes)
            .bind(self.times)
            .bind(self.leaves)
    }
}

/// The columns of the rows of `streams` that change.
struct Streams<'a> {
    categories: Vec<&'a str>,
    ids: Vec<Uuid>,
    revisions: Vec<i64>,
}

impl<'a> Streams<'a> {
    fn of(batch: &'a Batch) -> Self {
        Self {
            categories: batch.streams.keys().map(|id| id.category.as_str()).collect(),
            ids: batch.streams.keys().map(|id| id.id).collect(),
            revisions: batch.streams.values().map(|last| last.cast_signed()).collect(),
        }
    }

    fn bind(self, query: PgQuery<'a>) -> PgQuery<'a> {
        query.bind(self.categories).bind(self.ids).bind(self.revisions)
    }
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
