#![allow(clippy::unwrap_used)]

use rap_proto::RefusalCode;

use super::*;

fn check<T>(message: &T, golden: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = encode(message);
    let length = body_length(bytes[..4].try_into().unwrap()).unwrap();
    assert_eq!(length, bytes.len() - 4);
    let hex: String = bytes[4..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden, "{message:?}");
    assert_eq!(&decode::<T>(&bytes[4..]).unwrap(), message);
}

fn open() -> Open {
    Open {
        channel: 7,
        kind: ResourceKind::Ssh,
        host: "db.example".to_owned(),
        port: 22,
        allow_local: false,
        traceparent: None,
        takes_socket: false,
    }
}

#[test]
fn frames_have_frozen_bytes() {
    check(&Request::Control { format: 1 }, "81a7636f6e74726f6c81a6666f726d617401");
    check(
        &Request::Open(open()),
        "81a46f70656e86a76368616e6e656c07a46b696e64a3737368a4686f7374aa64622e6578616d706c65a4706f727416ab616c6c6f775f6c6f63616cc2ab7472616365706172656e74c0",
    );
    check(
        &Request::Open(Open { takes_socket: true, ..open() }),
        "81a46f70656e87a76368616e6e656c07a46b696e64a3737368a4686f7374aa64622e6578616d706c65a4706f727416ab616c6c6f775f6c6f63616cc2ab7472616365706172656e74c0ac74616b65735f736f636b6574c3",
    );
    check(&OpenReply::Opened, "a66f70656e6564");
    check(&OpenReply::Handed, "a668616e646564");
    check(
        &OpenReply::Refused(Refusal::new(RefusalCode::TargetRefused, "no")),
        "81a77265667573656482a4636f6465ae7461726765745f72656675736564a76d657373616765a26e6f",
    );
    check(&ControlRequest::Ping { number: 3 }, "81a470696e6781a66e756d62657203");
    check(&ControlRequest::Shutdown { grace_ms: 5 }, "81a873687574646f776e81a867726163655f6d7305");
    check(
        &ControlEvent::Hello {
            format: 1,
            kinds: [ResourceKind::Ssh, ResourceKind::Tcp].into(),
            max_channels: 2,
        },
        "81a568656c6c6f83a6666f726d617401a56b696e647392a3737368a3746370ac6d61785f6368616e6e656c7302",
    );
    check(
        &ControlEvent::Pong { number: 3, open_channels: 1 },
        "81a4706f6e6782a66e756d62657203ad6f70656e5f6368616e6e656c7301",
    );
    check(&ControlEvent::Stopping, "a873746f7070696e67");
}

#[test]
fn the_largest_open_fits_a_frame() {
    let largest = Open {
        channel: u64::MAX,
        host: "h".repeat(crate::limit::MAX_HOST_BYTES),
        traceparent: Some("0".repeat(55)),
        takes_socket: true,
        ..open()
    };
    assert!(encode(&Request::Open(largest)).len() < MAX_FRAME_BYTES);
    let refusal = Refusal::new(RefusalCode::TargetUnreachable, "x".repeat(1000));
    assert!(encode(&OpenReply::Refused(refusal)).len() < MAX_FRAME_BYTES);
}

#[test]
fn what_older_sides_leave_out_is_tolerated_and_unknown_frames_are_not() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Older {
        channel: u64,
        kind: ResourceKind,
        host: String,
        port: u16,
        allow_local: bool,
    }
    let older = Older {
        channel: 7,
        kind: ResourceKind::Ssh,
        host: "db.example".to_owned(),
        port: 22,
        allow_local: false,
    };
    let bytes = codec::encode(&older);
    assert_eq!(decode::<Open>(&bytes).unwrap(), open());
    // The other way round: a worker of before finds all of its own fields and leaves the new one.
    let newer = codec::encode(&Open { takes_socket: true, ..open() });
    assert_eq!(decode::<Older>(&newer).unwrap(), older);
    assert!(decode::<OpenReply>(&codec::encode(&"given")).is_err());
    assert!(decode::<Request>(&codec::encode(&"reboot")).is_err());
}

#[test]
fn an_announced_length_above_the_limit_is_refused() {
    let limit = u32::try_from(MAX_FRAME_BYTES).unwrap();
    assert!(body_length(limit.to_be_bytes()).is_ok());
    assert!(matches!(body_length((limit + 1).to_be_bytes()), Err(DecodeError::TooLarge { .. })));
    let mut trailing = codec::encode(&OpenReply::Opened);
    trailing.push(0);
    assert!(matches!(decode::<OpenReply>(&trailing), Err(DecodeError::TrailingBytes { extra: 1 })));
}
