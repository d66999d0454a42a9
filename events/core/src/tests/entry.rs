use bytes::Bytes;
use rap_proto::{
    ApiTokenId, CommandId, Digest, LoginId, NodeId, OrganizationId, Timestamp, UserId, codec,
};
use uuid::Uuid;

use crate::{
    allowed::{Allowed, MAX_ALLOWED_ACTIONS, MAX_ALLOWED_RULES},
    entry::{EntryError, MAX_ENTRY_BYTES, decode, encode},
    log::{Actor, Envelope, MAX_KEY_BYTES, StreamId},
    session::{Basis, MAX_RULE_BYTES},
};

fn envelope(actor: Actor) -> Envelope {
    Envelope {
        position: 300,
        stream: StreamId::new("thing", Uuid::from_u128(1)),
        revision: 7,
        event_type: "thing.happened".to_owned(),
        schema: 2,
        payload: Bytes::from_static(b"\x81\xa1a\x01"),
        organization: Some(OrganizationId::from_u128(2)),
        actor,
        allowed: None,
        command: CommandId::from_u128(3),
        causation: Some(299),
        at: Timestamp::from_unix_millis(1_700_000_000_123),
    }
}

fn every_actor() -> Vec<Envelope> {
    let (user, login) = (UserId::from_u128(4), LoginId::from_u128(5));
    let token = ApiTokenId::from_u128(6);
    let mut envelopes: Vec<Envelope> = [
        Actor::Setup,
        Actor::User { user, login },
        Actor::ApiToken { user, token },
        Actor::Node(NodeId::from_u128(8)),
        Actor::System { process: "process".to_owned() },
    ]
    .map(envelope)
    .into();
    envelopes.push(Envelope { organization: None, causation: None, ..envelope(Actor::Setup) });
    envelopes
}

#[test]
fn an_entry_gives_back_what_it_was_made_of() {
    for envelope in every_actor() {
        assert_eq!(decode(&encode(&envelope)), Ok((&envelope).into()));
    }
}

#[test]
fn every_entry_keeps_its_bytes() {
    check_golden("golden/entries/v1.hex", &every_actor());
}

fn check_golden(file: &str, envelopes: &[Envelope]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> = envelopes.iter().map(encode).map(hex).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "what was hashed changed");
}

/// What somebody was allowed, as much of it as there can be.
fn allowed() -> Allowed {
    let names = |many: usize| (0..many).map(|at| format!("{at:a>MAX_RULE_BYTES$}")).collect();
    let basis = Basis {
        rules: names(MAX_ALLOWED_RULES),
        policy_hash: Some(Digest::of(b"policies")),
        entity_version: Some(u64::MAX),
    };
    Allowed { actions: names(MAX_ALLOWED_ACTIONS), basis }
}

#[test]
fn the_entry_of_a_command_that_somebody_was_allowed_keeps_its_bytes() {
    let small = Allowed {
        actions: ["resource.create".to_owned()].into(),
        basis: Basis {
            rules: ["builtin/organization_admin".to_owned()].into(),
            policy_hash: Some(Digest::of(b"policies")),
            entity_version: Some(41),
        },
    };
    let people = every_actor()
        .into_iter()
        .filter(|envelope| matches!(envelope.actor, Actor::User { .. } | Actor::ApiToken { .. }));
    let people = people.map(|envelope| Envelope { allowed: Some(small.clone()), ..envelope });
    check_golden("golden/entries/v1-allowed.hex", &people.collect::<Vec<_>>());
}

#[test]
fn the_largest_entry_is_read() {
    let (user, login) = (UserId::from_u128(u128::MAX), LoginId::from_u128(u128::MAX));
    let long = "a".repeat(MAX_KEY_BYTES);
    let largest = Envelope {
        position: u64::MAX,
        stream: StreamId::new(long.clone(), Uuid::max()),
        revision: u64::MAX,
        event_type: long,
        schema: u16::MAX,
        allowed: Some(allowed()),
        causation: Some(u64::MAX),
        ..envelope(Actor::User { user, login })
    };
    let bytes = encode(&largest);
    assert!(bytes.len() <= MAX_ENTRY_BYTES, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok((&largest).into()));
}

#[test]
fn other_bytes_are_refused() {
    let good = encode(&envelope(Actor::Setup));
    let cut = decode(&good[..good.len() - 1]);
    assert!(matches!(cut, Err(EntryError::Malformed(_))), "{cut:?}");
    let longer = decode(&[good.as_slice(), b"\0"].concat());
    assert!(matches!(longer, Err(EntryError::Malformed(_))), "{longer:?}");
    let version = good.iter().position(|byte| *byte == 1).unwrap();
    let mut newer = good.clone();
    newer[version] = 2;
    assert_eq!(decode(&newer), Err(EntryError::Version(2)));
    assert!(decode(&codec::encode(&"text")).is_err());
}
