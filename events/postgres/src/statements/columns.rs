//! The rows of a batch, column by column, as statements take them.
//!
//! Arrays are unfolded where the rows are selected, side by side, and not in `FROM`: there the
//! server would write each of them to a store of its own first, and read the rows from those.

use uuid::Uuid;

use crate::{batch::Batch, pipeline::Sent};

/// What adds the rows of `$1` to `$5` to `commands`, once for each row of what follows.
macro_rules! insert_commands {
    () => {
        "INSERT INTO commands (command, request_hash, first_position, last_position, reply) \
         SELECT unnest($1::uuid[]), unnest($2::bytea[]), unnest($3::bigint[]), \
                unnest($4::bigint[]), unnest($5::bytea[]) "
    };
}
/// The same of `$6` to `$18` and `events`.
macro_rules! insert_events {
    () => {
        "INSERT INTO events (position, category, stream, revision, event_type, schema, payload, \
                             organization, actor, command, causation, recorded_at, leaf) \
         SELECT unnest($6::bigint[]), unnest($7::text[]), unnest($8::uuid[]), \
                unnest($9::bigint[]), unnest($10::text[]), unnest($11::integer[]), \
                unnest($12::bytea[]), unnest($13::uuid[]), unnest($14::bytea[]), \
                unnest($15::uuid[]), unnest($16::bigint[]), unnest($17::bigint[]), \
                unnest($18::bytea[]) "
    };
}
/// The same of `$19` to `$21` and `streams`.
macro_rules! insert_streams {
    () => {
        "INSERT INTO streams (category, stream, revision) \
         SELECT unnest($19::text[]), unnest($20::uuid[]), unnest($21::bigint[]) "
    };
}
pub(super) use {insert_commands, insert_events, insert_streams};

/// The columns of new rows of `commands`.
pub(super) struct Commands<'a> {
    ids: Vec<Uuid>,
    hashes: Vec<&'a [u8]>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    replies: Vec<&'a [u8]>,
}

impl<'a> Commands<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        let stored = || batch.commands.iter().map(|(_, stored)| stored);
        Self {
            ids: batch.commands.iter().map(|(id, _)| id.uuid()).collect(),
            hashes: stored().map(|stored| &stored.request_hash.as_bytes()[..]).collect(),
            firsts: stored().map(|stored| stored.first.cast_signed()).collect(),
            lasts: stored().map(|stored| stored.last.cast_signed()).collect(),
            replies: stored().map(|stored| &*stored.reply).collect(),
        }
    }

    pub(super) fn bind(self, sent: Sent<'a>) -> Sent<'a> {
        let Self { ids, hashes, firsts, lasts, replies } = self;
        sent.bind(ids).bind(hashes).bind(firsts).bind(lasts).bind(replies)
    }
}

/// The columns of new rows of `events`.
pub(super) struct Events<'a> {
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
    pub(super) fn of(batch: &'a Batch) -> Self {
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

    pub(super) fn bind(self, sent: Sent<'a>) -> Sent<'a> {
        sent.bind(self.positions)
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
pub(super) struct Streams<'a> {
    categories: Vec<&'a str>,
    ids: Vec<Uuid>,
    revisions: Vec<i64>,
}

impl<'a> Streams<'a> {
    pub(super) fn of(batch: &'a Batch) -> Self {
        Self {
            categories: batch.streams.keys().map(|id| id.category.as_str()).collect(),
            ids: batch.streams.keys().map(|id| id.id).collect(),
            revisions: batch.streams.values().map(|last| last.cast_signed()).collect(),
        }
    }

    pub(super) fn bind(self, sent: Sent<'a>) -> Sent<'a> {
        sent.bind(self.categories).bind(self.ids).bind(self.revisions)
    }
}
