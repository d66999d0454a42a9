//! The append transaction, in two trips: one locks the head and finds what the appends are decided
//! by, the other writes what was decided and commits. Each statement handles the whole batch. What
//! [`at_once`] holds is the other way, in one trip.
//!
//! Rows are looked up one by one: a join could be planned as one that reads the whole table.

pub(crate) mod at_once;
mod columns;
mod one;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rap_events::log::{Append, StoredCommand, StreamId};
use rap_proto::{CommandId, Digest};
use tokio_postgres::Row;
use uuid::Uuid;

use self::columns::{Commands, Events, Streams, insert_commands, insert_events, insert_streams};
use crate::{
    batch::{Batch, Found},
    failure::{self, Failure},
    head::{Head, LOCK_HEAD},
    leases,
    pipeline::{Pipeline, Sent, TripError, column},
    subjects, tree,
};

/// The channel of the notifications that tell the tails how far the log has come.
pub(crate) const CHANNEL: &str = "rap_log";

const BEGIN: &str = "BEGIN";
const COMMIT: &str = "COMMIT";
const ROLL_BACK: &str = "ROLLBACK";
/// Commands, and streams, in rows of one shape. A stream without events has no revision.
const FIND: &str = "\
    SELECT command, request_hash, first_position, last_position, reply, NULL \
    FROM commands WHERE command = ANY($1) \
    UNION ALL \
    SELECT asked.stream, NULL, \
           (SELECT revision FROM streams \
            WHERE streams.category = asked.category AND streams.stream = asked.stream), \
           NULL, NULL, asked.category \
    FROM UNNEST($2::text[], $3::uuid[]) AS asked (category, stream)";
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
    UPDATE log_head SET position = $1, leaves = $1, frontier = $2";
const TELL: &str = "SELECT pg_notify($1, $2)";
/// The four statements above as one.
const WRITE: &str = concat!(
    "WITH new_commands AS (",
    insert_commands!(),
    "), new_events AS (",
    insert_events!(),
    "), grown AS (",
    insert_streams!(),
    "ON CONFLICT (category, stream) DO UPDATE SET revision = EXCLUDED.revision) \
     UPDATE log_head SET position = $22, leaves = $22, frontier = $23",
);

/// Begins a transaction, locks the head until it ends, and finds what the database holds about
/// everything that the appends name. What the statements behind the lock see was committed
/// before it was granted.
pub(crate) async fn begin(writer: &mut Pipeline, appends: &[&Append]) -> Result<Found, Failure> {
    let (claims, leases) = (find_claims(appends), leases::find(appends));
    let has_claims = claims.is_some();
    let mut trip = vec![Sent::control(BEGIN), Sent::new(LOCK_HEAD), find(appends)];
    trip.extend(claims);
    trip.extend(leases);
    let answers = writer.send(&trip).await.map_err(|failed| failure::classify(&failed.error))?;
    let mut answers = answers.into_iter().skip(1);
    let mut next = || answers.next().unwrap_or_default();
    let head = match &*next() {
        [row] => Head::of(row)?,
        _ => return Err(Failure::Unavailable("the log has no head".to_owned())),
    };
    let (commands, streams) = commands_and_streams(&next())?;
    let claims = if has_claims { next() } else { Vec::new() };
    let claims = claims.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
    let leases = leases::found(&answers.last().unwrap_or_default())?;
    Ok(Found { head, commands, streams, claims, leases })
}

/// Writes everything that the batch decided, and commits.
pub(crate) async fn commit(writer: &mut Pipeline, batch: &Batch) -> Result<(), TripError> {
    let mut trip = Vec::new();
    trip.extend(move_claims(batch));
    trip.extend(leases::write(batch));
    trip.extend(subjects::write(batch));
    let commands = Commands::of(batch);
    if batch.events.is_empty() {
        trip.push(commands.bind(Sent::new(INSERT_COMMANDS)));
    } else {
        trip.extend(tree::insert_tile_roots(&batch.completed));
        let (events, streams) = (Events::of(batch), Streams::of(batch));
        let write = streams.bind(events.bind(commands.bind(Sent::new(WRITE))));
        trip.push(bind_head(write, batch.head()));
    }
    trip.push(Sent::control(COMMIT));
    writer.send(&trip).await.map(drop)
}

/// Tells the tails of every process, this one's too, how far the log has come.
pub(crate) async fn tell(writer: &mut Pipeline, position: u64) -> Result<(), TripError> {
    let tell = Sent::new(TELL).bind(CHANNEL).bind(position.to_string());
    writer.send(&[tell]).await.map(drop)
}

pub(crate) async fn roll_back(writer: &mut Pipeline) -> Result<(), Failure> {
    let sent = writer.send(&[Sent::control(ROLL_BACK)]).await;
    sent.map(drop).map_err(|failed| failure::classify(&failed.error))
}

/// The rows of events and streams, and what they complete of the tree; neither head nor commands.
pub(crate) fn insert_events(batch: &Batch) -> Vec<Sent<'_>> {
    let mut trip = vec![Events::of(batch).bind(Sent::new(INSERT_EVENTS))];
    trip.push(Streams::of(batch).bind(Sent::new(UPDATE_STREAMS)));
    trip.extend(tree::insert_tile_roots(&batch.completed));
    trip
}

/// Writes how far the log has come, and commits.
pub(crate) fn move_head(head: &Head) -> Vec<Sent<'_>> {
    vec![bind_head(Sent::new(MOVE_HEAD), head), Sent::control(COMMIT)]
}

fn find<'a>(appends: &[&'a Append]) -> Sent<'a> {
    let asked: Vec<Uuid> = appends.iter().map(|append| append.command.uuid()).collect();
    let streams: BTreeSet<&StreamId> =
        appends.iter().flat_map(|append| &append.writes).map(|write| &write.stream).collect();
    let categories: Vec<&str> = streams.iter().map(|stream| stream.category.as_str()).collect();
    let ids: Vec<Uuid> = streams.iter().map(|stream| stream.id).collect();
    Sent::new(FIND).bind(asked).bind(categories).bind(ids)
}

fn find_claims<'a>(appends: &[&'a Append]) -> Option<Sent<'a>> {
    let keys = appends.iter().flat_map(|append| &append.claim).map(String::as_str);
    let keys: Vec<&str> = keys.collect();
    (!keys.is_empty()).then(|| Sent::new(FIND_CLAIMS).bind(keys))
}

fn move_claims(batch: &Batch) -> Vec<Sent<'_>> {
    if batch.keys.is_empty() {
        return Vec::new();
    }
    let moved: Vec<&str> = batch.keys.keys().map(String::as_str).collect();
    let held = batch.keys.iter().filter_map(|(key, holder)| Some((key.as_str(), (*holder)?)));
    let (keys, holders): (Vec<&str>, Vec<Uuid>) = held.unzip();
    let insert = Sent::new(INSERT_CLAIMS).bind(keys).bind(holders);
    vec![Sent::new(DELETE_CLAIMS).bind(moved), insert]
}

fn bind_head<'a>(sent: Sent<'a>, head: &Head) -> Sent<'a> {
    sent.bind(head.position.cast_signed()).bind(head.frontier.to_bytes())
}

type CommandsAndStreams = (BTreeMap<CommandId, StoredCommand>, BTreeMap<StreamId, u64>);

fn commands_and_streams(rows: &[Row]) -> Result<CommandsAndStreams, Failure> {
    let (mut commands, mut streams) = (BTreeMap::new(), BTreeMap::new());
    for row in rows {
        match column::<Option<String>>(row, 5)? {
            None => commands.extend([stored_command(row)?]),
            Some(category) => {
                let Some(revision) = column::<Option<i64>>(row, 2)? else { continue };
                streams.insert(StreamId::new(category, column(row, 0)?), revision.cast_unsigned());
            }
        }
    }
    Ok((commands, streams))
}

fn stored_command(row: &Row) -> Result<(CommandId, StoredCommand), Failure> {
    let hash = column::<&[u8]>(row, 1)?.try_into();
    let hash = hash.map_err(|_| Failure::Unavailable("a request's hash is cut".to_owned()))?;
    let stored = StoredCommand {
        request_hash: Digest::from_bytes(hash),
        first: column::<i64>(row, 2)?.cast_unsigned(),
        last: column::<i64>(row, 3)?.cast_unsigned(),
        reply: Bytes::copy_from_slice(column(row, 4)?),
    };
    Ok((CommandId::from_uuid(column(row, 0)?), stored))
}
