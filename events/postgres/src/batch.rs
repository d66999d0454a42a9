//! Decides which appends of a batch are stored, and as which rows. Pure: the statements around
//! it read what it needs and write what it made, all under the lock of the head.
//!
//! Each append is checked against the state that the ones before it leave behind, in the order
//! that the log's port prescribes. One that fails changes nothing and disturbs no other.

use std::collections::{BTreeMap, BTreeSet};

use rap_events::{
    allowed::encode_actor,
    entry,
    lease::{self, LeaseRow},
    log::{Append, AppendError, Appended, Envelope, StoredCommand, StreamId},
};
use rap_proto::{CommandId, Digest};
use rap_tlog::Completed;
use uuid::Uuid;

use crate::{head::Head, leases::FoundLeases};

/// What the database held about a batch's commands, streams and keys when the head was locked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) head: Head,
    pub(crate) commands: BTreeMap<CommandId, StoredCommand>,
    /// Streams without events are absent.
    pub(crate) streams: BTreeMap<StreamId, u64>,
    pub(crate) claims: BTreeSet<String>,
    pub(crate) leases: FoundLeases,
}

/// One row of `events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRow {
    pub(crate) envelope: Envelope,
    /// MessagePack.
    pub(crate) actor: Vec<u8>,
    pub(crate) leaf: Digest,
}

/// What is to be written. `found` moves along as appends are admitted.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    found: Found,
    pub(crate) events: Vec<EventRow>,
    /// The tiles of the tree that the events complete.
    pub(crate) completed: Vec<Completed>,
    /// The new last revision of each stream that grew.
    pub(crate) streams: BTreeMap<StreamId, u64>,
    pub(crate) commands: Vec<(CommandId, StoredCommand)>,
    /// Each key that was claimed or released: who holds it in the end, if anyone.
    pub(crate) keys: BTreeMap<String, Option<Uuid>>,
    /// Each lease that was given or ended, as it stands in the end.
    pub(crate) leases: BTreeMap<StreamId, LeaseRow>,
    /// Each subject whose key was kept or destroyed: its wrapped key in the end, if any.
    pub(crate) subjects: BTreeMap<Uuid, Option<Vec<u8>>>,
}

impl Batch {
    pub(crate) fn new(found: Found) -> Self {
        Self { found, ..Self::default() }
    }

    /// Behind everything that was admitted.
    pub(crate) fn head(&self) -> &Head {
        &self.found.head
    }

    /// Stores an append in the batch, or says why not.
    pub(crate) fn admit(&mut self, append: &Append) -> Result<Appended, AppendError> {
        if let Some(stored) = self.found.commands.get(&append.command) {
            return replay(stored, append);
        }
        self.check_revisions(append)?;
        self.check_keys(append)?;
        let leases = lease::apply(append, &self.found.leases.rows, self.found.leases.at)?;
        self.move_leases(leases);
        Ok(self.store(append))
    }

    fn move_leases(&mut self, changed: BTreeMap<StreamId, LeaseRow>) {
        for (lease, row) in changed {
            self.found.leases.rows.insert(lease.clone(), row);
            self.leases.insert(lease, row);
        }
    }

    fn check_revisions(&self, append: &Append) -> Result<(), AppendError> {
        for write in &append.writes {
            let actual = self.found.streams.get(&write.stream).copied().unwrap_or(0);
            if actual != write.expected {
                return Err(AppendError::Conflict { stream: write.stream.clone(), actual });
            }
        }
        Ok(())
    }

    fn check_keys(&self, append: &Append) -> Result<(), AppendError> {
        let mut taken_now = BTreeSet::new();
        for key in &append.claim {
            let free = !self.found.claims.contains(key) || append.release.contains(key);
            if !free || !taken_now.insert(key) {
                return Err(AppendError::Claimed { key: key.clone() });
            }
        }
        Ok(())
    }

    fn store(&mut self, append: &Append) -> Appended {
        let first = self.found.head.position + 1;
        let actor = encode_actor(&append.actor, append.allowed.as_ref());
        for write in &append.writes {
            for (event, revision) in write.events.iter().zip(write.expected + 1..) {
                self.found.head.position += 1;
                let event = event.clone();
                let envelope = Envelope {
                    position: self.found.head.position,
                    stream: write.stream.clone(),
                    revision,
                    event_type: event.event_type,
                    schema: event.schema,
                    payload: event.payload,
                    organization: event.organization,
                    actor: append.actor.clone(),
                    allowed: append.allowed.clone(),
                    command: append.command,
                    causation: append.causation,
                    at: append.at,
                };
                let leaf = entry::leaf(&envelope);
                self.completed.extend(self.found.head.frontier.push(leaf));
                self.events.push(EventRow { envelope, actor: actor.clone(), leaf });
            }
            if !write.events.is_empty() {
                let revision = write.expected + write.events.len() as u64;
                self.found.streams.insert(write.stream.clone(), revision);
                self.streams.insert(write.stream.clone(), revision);
            }
        }
        self.move_keys(append);
        self.change_subjects(append);
        let last = self.found.head.position;
        let (request_hash, reply) = (append.request_hash, append.reply.clone());
        let stored = StoredCommand { request_hash, first, last, reply: reply.clone() };
        self.found.commands.insert(append.command, stored.clone());
        self.commands.push((append.command, stored));
        Appended { first, last, replayed: false, reply }
    }

    fn change_subjects(&mut self, append: &Append) {
        for change in &append.subjects {
            self.subjects.insert(change.subject(), change.left().map(<[u8]>::to_vec));
        }
    }

    fn move_keys(&mut self, append: &Append) {
        for key in &append.release {
            self.found.claims.remove(key);
            self.keys.insert(key.clone(), None);
        }
        for key in &append.claim {
            self.found.claims.insert(key.clone());
            self.keys.insert(key.clone(), Some(append.command.uuid()));
        }
    }
}

fn replay(stored: &StoredCommand, append: &Append) -> Result<Appended, AppendError> {
    if stored.request_hash != append.request_hash {
        return Err(AppendError::CommandReused);
    }
    let reply = stored.reply.clone();
    Ok(Appended { first: stored.first, last: stored.last, replayed: true, reply })
}

#[cfg(test)]
pub(crate) mod tests;
