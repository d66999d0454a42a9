//! What every log must do: one suite, run over each implementation.
//!
//! Each case gets a log of its own without events, and panics when the log misbehaves.

mod append;
mod atomic;
pub mod beat;
pub mod heads;
pub mod lease;
mod read;
pub mod subjects;
mod tree;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rap_proto::{CommandId, Digest, NodeId, OrganizationId, Timestamp};
use uuid::Uuid;

use crate::log::{Actor, Append, Appended, Envelope, Log, NewEvent, StreamId, StreamWrite};

/// One requirement, by a name that says it.
pub struct Case {
    pub name: &'static str,
    pub run: fn(Arc<dyn Log>) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident: $($name:ident),* $(,)?;)*) => {
        /// Every case, to be run each on a fresh log.
        pub fn cases() -> Vec<Case> {
            vec![$($(Case {
                name: stringify!($name),
                run: |log| Box::pin($module::$name(log)),
            },)*)*]
        }
    };
}

cases! {
    append:
        an_empty_log_has_nothing,
        positions_and_revisions_have_no_gaps,
        an_event_is_returned_as_it_was_stored,
        the_largest_and_the_smallest_payload_are_kept,
        an_append_without_events_stores_only_the_command,
        a_repeated_command_is_answered_as_before,
        a_command_id_serves_one_request,
        every_limit_is_enforced;
    atomic:
        a_moved_stream_is_a_conflict,
        one_conflict_stores_nothing_of_the_append,
        a_stream_can_be_checked_without_being_written,
        a_stream_twice_is_refused,
        a_key_has_one_owner,
        a_key_is_released_and_claimed_in_one_append,
        of_many_appends_to_one_revision_one_wins,
        of_many_claims_of_one_key_one_wins,
        one_command_sent_many_times_at_once_is_stored_once,
        many_streams_at_once_make_one_order;
    read:
        pages_follow_each_other,
        no_page_exceeds_the_greatest,
        a_stream_is_read_without_the_others,
        an_organization_is_read_without_the_others,
        waiting_ends_with_the_next_event,
        waiting_for_the_past_ends_at_once;
    tree:
        the_tree_grows_with_the_log,
        what_stores_nothing_leaves_the_tree,
        full_tiles_become_hashes_of_the_next_level,
        tiles_hold_what_was_stored,
        every_event_and_every_earlier_tree_is_proven;
}

/// Runs every case; `fresh` makes an empty log for each.
pub async fn run_all(fresh: impl AsyncFn() -> Arc<dyn Log>) {
    for case in cases() {
        let log = fresh().await;
        (case.run)(log).await;
    }
}

fn stream(number: u128) -> StreamId {
    StreamId::new("conformance", Uuid::from_u128(number))
}

fn event(text: &str) -> NewEvent {
    NewEvent {
        event_type: "conformance.happened".to_owned(),
        schema: 3,
        payload: Bytes::copy_from_slice(text.as_bytes()),
        organization: Some(OrganizationId::from_u128(7)),
    }
}

fn write(number: u128, expected: u64, events: &[&str]) -> StreamWrite {
    let events = events.iter().map(|text| event(text)).collect();
    StreamWrite { stream: stream(number), expected, events }
}

/// An append of the given command and writes, with no keys and an empty reply.
fn command(id: u128, writes: Vec<StreamWrite>) -> Append {
    Append {
        request_hash: Digest::of(&id.to_be_bytes()),
        actor: Actor::Node(NodeId::from_u128(9)),
        ..Append::plain(
            CommandId::from_u128(id),
            Timestamp::from_unix_millis(1_700_000_000_123),
            writes,
        )
    }
}

fn with_keys(mut append: Append, claim: &[&str], release: &[&str]) -> Append {
    append.claim = claim.iter().map(|key| (*key).to_owned()).collect();
    append.release = release.iter().map(|key| (*key).to_owned()).collect();
    append
}

async fn stored(log: &Arc<dyn Log>, append: Append) -> Appended {
    log.append(append).await.expect("the log stores a well-formed append")
}

async fn all(log: &Arc<dyn Log>) -> Vec<Envelope> {
    log.read(0, usize::MAX).await.expect("the log can be read")
}

async fn head(log: &Arc<dyn Log>) -> u64 {
    log.head().await.expect("the log has a head")
}

fn texts(events: &[Envelope]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.payload).expect("a text")).collect()
}
