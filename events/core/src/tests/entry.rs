use bytes::Bytes;
use rap_proto::{ApiTokenId, CommandId, LoginId, NodeId, OrganizationId, Timestamp, UserId, codec};
use uuid::Uuid;

use crate::{
    entry::{EntryError, decode, encode},
    log::{Actor, Envelope, StreamId},
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
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/entries/v1.hex");
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: Vec<String> = every_actor().iter().map(encode).map(hex).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "what was hashed changed");
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
