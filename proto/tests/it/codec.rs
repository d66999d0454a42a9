use rap_proto::{
    codec::{self, DecodeError, MAX_DEPTH},
    wire,
};

#[test]
fn the_bytes_must_be_used_up() {
    let mut bytes = codec::encode(&7_u32);
    bytes.push(0);
    assert_eq!(codec::decode::<u32>(&bytes, 64), Err(DecodeError::TrailingBytes { extra: 1 }));
}

#[test]
fn the_size_cap_holds_at_its_edge() {
    let bytes = codec::encode(&"abcd");
    assert!(codec::decode::<String>(&bytes, bytes.len()).is_ok());
    assert_eq!(
        codec::decode::<String>(&bytes, bytes.len() - 1),
        Err(DecodeError::TooLarge { actual: bytes.len(), limit: bytes.len() - 1 })
    );
}

#[test]
fn nesting_beyond_the_depth_cap_is_refused() {
    #[derive(serde::Deserialize)]
    struct Nested(#[allow(dead_code)] Vec<Nested>);
    let nested = |depth: usize| [vec![0x91; depth], vec![0x90]].concat();
    assert!(codec::decode::<Nested>(&nested(4), 1024).is_ok());
    let error = codec::decode::<Nested>(&nested(MAX_DEPTH + 1), 1024).err().unwrap();
    assert!(matches!(error, DecodeError::Malformed(_)), "{error}");
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    // A MessagePack `bin 32` that claims four gigabytes and holds one byte.
    let lie = [0xc6, 0xff, 0xff, 0xff, 0xff, 0x00];
    assert!(codec::decode::<serde_bytes::ByteBuf>(&lie, 64).is_err());
}

#[test]
fn frames_are_bounded_on_both_sides() {
    let largest = u32::try_from(wire::MAX_FRAME_BYTES).unwrap();
    assert_eq!(wire::frame_length(largest.to_be_bytes()), Ok(wire::MAX_FRAME_BYTES));
    assert!(wire::frame_length((largest + 1).to_be_bytes()).is_err());
    let framed = wire::frame(&"hello");
    let (head, body) = framed.split_first_chunk::<4>().unwrap();
    assert_eq!(wire::frame_length(*head), Ok(body.len()));
    assert_eq!(wire::unframe::<String>(body).unwrap(), "hello");
}

#[test]
#[should_panic(expected = "fits no frame")]
fn a_message_larger_than_a_frame_is_our_mistake() {
    wire::frame(&"x".repeat(wire::MAX_FRAME_BYTES));
}
