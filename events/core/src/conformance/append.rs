use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use rap_proto::{ApiTokenId, CommandId, Digest, LoginId, NodeId, Timestamp, UserId};

use super::{all, command, event, head, stored, stream, with_keys, write};
use crate::log::{
    Actor, Append, AppendError, Appended, Envelope, Limit, Log, MAX_EVENTS_PER_APPEND,
    MAX_KEY_BYTES, MAX_KEYS_PER_APPEND, MAX_PAYLOAD_BYTES, MAX_STREAMS_PER_APPEND, StoredCommand,
};
use crate::{
    allowed::{Allowed, MAX_ALLOWED_ACTIONS, MAX_ALLOWED_RULES},
    session::{Basis, MAX_RULE_BYTES},
};

pub(super) async fn an_empty_log_has_nothing(log: Arc<dyn Log>) {
    assert_eq!(head(&log).await, 0);
    assert_eq!(all(&log).await, []);
    assert_eq!(log.read_stream(&stream(1), 0, 10).await, Ok(Vec::new()));
    assert_eq!(log.command(CommandId::from_u128(1)).await, Ok(None));
}

pub(super) async fn positions_and_revisions_have_no_gaps(log: Arc<dyn Log>) {
    let first = stored(&log, command(1, vec![write(1, 0, &["a", "b"])])).await;
    let second = stored(&log, command(2, vec![write(2, 0, &["c"]), write(1, 2, &["d"])])).await;
    assert_eq!((first.first, first.last), (1, 2));
    assert_eq!((second.first, second.last), (3, 4));
    assert!(!first.replayed && !second.replayed);
    assert_eq!(head(&log).await, 4);

    let events = all(&log).await;
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, [1, 2, 3, 4]);
    let places: Vec<_> =
        events.iter().map(|event| (event.stream.id.as_u128(), event.revision)).collect();
    assert_eq!(places, [(1, 1), (1, 2), (2, 1), (1, 3)]);
}

pub(super) async fn an_event_is_returned_as_it_was_stored(log: Arc<dyn Log>) {
    let user = UserId::from_u128(5);
    let actors = [
        Actor::Setup,
        Actor::User { user, login: LoginId::from_u128(6) },
        Actor::ApiToken { user, token: ApiTokenId::from_u128(8) },
        Actor::Node(NodeId::from_u128(9)),
        Actor::System { process: "session-expiry".to_owned() },
    ];
    let basis = Basis {
        rules: BTreeSet::from(["builtin/organization_admin".to_owned()]),
        policy_hash: Some(Digest::of(b"policies")),
        entity_version: Some(3),
    };
    let allowed = Allowed { actions: BTreeSet::from(["resource.create".to_owned()]), basis };
    let people =
        actors.iter().filter(|actor| matches!(actor, Actor::User { .. } | Actor::ApiToken { .. }));
    let allowed = people.map(|actor| (actor.clone(), Some(allowed.clone())));
    let all_of_them: Vec<_> =
        actors.iter().map(|actor| (actor.clone(), None)).chain(allowed).collect();
    for (revision, (actor, allowed)) in (0..).zip(all_of_them) {
        let mut append = command(100 + u128::from(revision), vec![write(1, revision, &["x"])]);
        append.actor = actor.clone();
        append.allowed = allowed.clone();
        append.causation = (revision > 0).then_some(revision);
        append.at = Timestamp::from_unix_millis(i64::try_from(revision).unwrap_or(0) * 1_001);
        append.writes[0].events[0].organization = None;
        let expected = Envelope {
            position: revision + 1,
            stream: stream(1),
            revision: revision + 1,
            event_type: "conformance.happened".to_owned(),
            schema: 3,
            payload: Bytes::from_static(b"x"),
            organization: None,
            actor,
            allowed,
            command: append.command,
            causation: append.causation,
            at: append.at,
        };
        stored(&log, append).await;
        assert_eq!(all(&log).await.last(), Some(&expected));
    }
}

pub(super) async fn the_largest_and_the_smallest_payload_are_kept(log: Arc<dyn Log>) {
    let mut append = command(1, vec![write(1, 0, &["", ""])]);
    let largest = Bytes::from(vec![0xa5; MAX_PAYLOAD_BYTES]);
    append.writes[0].events[1].payload = largest.clone();
    append.reply = largest.clone();
    assert_eq!(stored(&log, append).await.reply, largest);
    let events = all(&log).await;
    assert_eq!((events[0].payload.len(), &events[1].payload), (0, &largest));
    assert_eq!(events[0].organization, event("").organization);
}

pub(super) async fn an_append_without_events_stores_only_the_command(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let mut append = command(2, Vec::new());
    append.reply = Bytes::from_static(b"nothing to do");
    let expected = Appended { first: 2, last: 1, replayed: false, reply: append.reply.clone() };
    assert_eq!(stored(&log, append.clone()).await, expected);
    assert_eq!(stored(&log, append).await, Appended { replayed: true, ..expected });
    assert_eq!(head(&log).await, 1);
}

pub(super) async fn a_repeated_command_is_answered_as_before(log: Arc<dyn Log>) {
    let mut append = with_keys(command(1, vec![write(1, 0, &["a", "b"])]), &["name/a"], &[]);
    append.reply = Bytes::from_static(b"the reply");
    let first = stored(&log, append.clone()).await;
    stored(&log, command(2, vec![write(1, 2, &["c"])])).await;

    // Neither the stream that moved meanwhile nor the key that it holds itself is in its way.
    let again = stored(&log, append.clone()).await;
    assert_eq!(again, Appended { replayed: true, ..first.clone() });
    assert_eq!(head(&log).await, 3);
    let expected = StoredCommand {
        request_hash: append.request_hash,
        first: first.first,
        last: first.last,
        reply: append.reply,
    };
    assert_eq!(log.command(append.command).await, Ok(Some(expected)));
}

pub(super) async fn a_command_id_serves_one_request(log: Arc<dyn Log>) {
    stored(&log, command(1, vec![write(1, 0, &["a"])])).await;
    let mut other = command(1, vec![write(1, 1, &["b"])]);
    other.request_hash = Digest::of(b"another request");
    assert_eq!(log.append(other).await, Err(AppendError::CommandReused));
    assert_eq!(head(&log).await, 1);
}

pub(super) async fn every_limit_is_enforced(log: Arc<dyn Log>) {
    for (limit, greatest, fitting, oversized) in limits().into_iter().chain(allowed_limits()) {
        let actual = match log.append(oversized).await {
            Err(AppendError::TooLarge { limit: hit, actual, greatest: told }) => {
                assert_eq!((hit, told), (limit, greatest));
                actual
            }
            other => panic!("{limit}: expected a refusal and got {other:?}"),
        };
        assert_eq!(actual, greatest + 1, "{limit}");
        stored(&log, fitting).await;
    }
}

/// Those of what a person was allowed.
fn allowed_limits() -> Vec<(Limit, usize, Append, Append)> {
    let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<BTreeSet<_>>();
    let allowed = |id: u128, actions, rules| {
        let mut append = command(id, Vec::new());
        let (user, login) = (UserId::from_u128(5), LoginId::from_u128(6));
        append.actor = Actor::User { user, login };
        append.allowed = Some(Allowed { actions, basis: Basis { rules, ..Basis::default() } });
        append
    };
    let actions = |id, count| allowed(id, names(count), BTreeSet::new());
    let rules = |id, count| allowed(id, BTreeSet::new(), names(count));
    let bytes = |id, count| allowed(id, BTreeSet::new(), ["r".repeat(count)].into());
    let pair = |limit, greatest, id, make: &dyn Fn(u128, usize) -> Append| {
        (limit, greatest, make(id, greatest), make(id + 1, greatest + 1))
    };
    vec![
        pair(Limit::AllowedActions, MAX_ALLOWED_ACTIONS, 70, &actions),
        pair(Limit::AllowedRules, MAX_ALLOWED_RULES, 80, &rules),
        pair(Limit::RuleBytes, MAX_RULE_BYTES, 90, &bytes),
    ]
}

/// Each limit with an append that just keeps it and one that just does not.
fn limits() -> Vec<(Limit, usize, Append, Append)> {
    let events = |id: u128, count: usize| command(id, vec![write(id, 0, &vec!["e"; count])]);
    let streams = |id: u128, count: usize| {
        let numbers = (0..count).map(|n| id * 1_000 + n as u128);
        command(id, numbers.map(|number| write(number, 0, &["s"])).collect())
    };
    let keys = |id: u128, count: usize| {
        let mut append = command(id, Vec::new());
        append.claim = (0..count).map(|n| format!("key/{id}/{n}")).collect();
        append.release = append.claim.split_off(count / 2);
        append
    };
    let key_bytes = |id: u128, count: usize| {
        let mut append = command(id, Vec::new());
        append.claim = vec!["k".repeat(count)];
        append
    };
    let payload = |id: u128, count: usize| command(id, vec![write(id, 0, &[&"p".repeat(count)])]);
    let reply = |id: u128, count: usize| {
        let mut append = command(id, Vec::new());
        append.reply = Bytes::from(vec![b'r'; count]);
        append
    };
    let pair = |limit, greatest, id, make: &dyn Fn(u128, usize) -> Append| {
        (limit, greatest, make(id, greatest), make(id + 1, greatest + 1))
    };
    vec![
        pair(Limit::Events, MAX_EVENTS_PER_APPEND, 10, &events),
        pair(Limit::Streams, MAX_STREAMS_PER_APPEND, 20, &streams),
        pair(Limit::Keys, MAX_KEYS_PER_APPEND, 30, &keys),
        pair(Limit::KeyBytes, MAX_KEY_BYTES, 40, &key_bytes),
        pair(Limit::PayloadBytes, MAX_PAYLOAD_BYTES, 50, &payload),
        pair(Limit::ReplyBytes, MAX_PAYLOAD_BYTES, 60, &reply),
    ]
}
