//! The bytes of a message channel: frozen, read however they are cut, and bounded.

use proptest::prelude::*;

use super::*;

fn policy() -> Policy {
    of(ChannelKind::Input)
}

fn said(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::from(&[VERSION][..]);
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes.to_vec()
}

/// What is heard of bytes that come in pieces of the given lengths, and then at once.
fn heard(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Frame>, Malformed> {
    let mut decoder = Decoder::new(&policy());
    let (mut frames, mut rest) = (Vec::new(), bytes);
    let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let length = pieces.next().unwrap().clamp(1, rest.len());
        let (piece, after) = rest.split_at(length);
        decoder.handle_bytes(piece);
        rest = after;
        while let Some(frame) = decoder.poll_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn every_frame() -> Vec<Frame> {
    let message = |key, bytes: &'static [u8]| Message { key, bytes: Bytes::from_static(bytes) };
    vec![
        Frame::Grant(Amount { messages: 256, bytes: 65_536 }),
        Frame::Message { number: 1, message: message(Some(Key(7)), b"move") },
        Frame::Message { number: 2, message: message(None, b"click") },
        Frame::Finished,
        Frame::Grant(Amount { messages: 384, bytes: 98_304 }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_format_is_frozen() {
    let bytes = said(&every_frame());
    let path = format!("{}/golden/message_channel.v1.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(&bytes) + "\n").unwrap();
    }
    assert_eq!(hex(&bytes), std::fs::read_to_string(&path).unwrap().trim());
    assert_eq!(heard(&bytes, &[]), Ok(every_frame()));
}

#[test]
fn what_is_not_of_the_format_is_refused() {
    let limit = policy().max_message;
    let plain = |number: u64, length: u32| {
        [&[0][..], &number.to_be_bytes(), &length.to_be_bytes()].concat()
    };
    let after = |kind: u8| [&[VERSION, 3, kind][..], &[0; 30]].concat();
    let too_large = Malformed::TooLarge { actual: limit + 1, limit };
    let cases = [
        ("another version", vec![2, 3], Malformed::Version(2)),
        ("an unknown kind", vec![VERSION, 4], Malformed::Kind(4)),
        ("an unknown kind after the end", vec![VERSION, 3, 4], Malformed::Kind(4)),
        ("a message after the end", after(0), Malformed::AfterEnd),
        ("a keyed message after the end", after(1), Malformed::AfterEnd),
        ("two ends", vec![VERSION, 3, 3], Malformed::AfterEnd),
        // Its length alone is enough.
        ("a long message", [vec![VERSION], plain(1, limit as u32 + 1)].concat(), too_large),
    ];
    for (what, bytes, error) in cases {
        assert_eq!(heard(&bytes, &[]), Err(error), "{what}");
    }
}

#[test]
fn the_longest_message_is_read_and_no_more_than_one_waits() {
    let policy = policy();
    let bytes = Bytes::from(vec![9; policy.max_message]);
    let message = Message { key: Some(Key(u64::MAX)), bytes };
    let frames = vec![Frame::Message { number: u64::MAX, message }; 3];
    let bytes = said(&frames);
    assert_eq!(heard(&bytes, &[]), Ok(frames));
    let mut decoder = Decoder::new(&policy);
    for byte in bytes {
        decoder.handle_bytes(&[byte]);
        while decoder.poll_frame().unwrap().is_some() {}
        assert!(decoder.waiting() < MAX_HEAD_BYTES + policy.max_message);
    }
    assert_eq!(decoder.waiting(), 0);
}

fn frame() -> impl Strategy<Value = Frame> {
    let key = prop::option::of(any::<u64>().prop_map(Key));
    let bytes = prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        3 => (any::<u64>(), key, bytes).prop_map(|(number, key, bytes)| {
            Frame::Message { number, message: Message { key, bytes: bytes.into() } }
        }),
        1 => any::<[u64; 2]>().prop_map(|[messages, bytes]| {
            Frame::Grant(Amount { messages, bytes })
        }),
    ]
}

proptest! {
    #[test]
    fn the_same_is_heard_however_the_bytes_are_cut(
        frames in prop::collection::vec(frame(), 0..8),
        pieces in prop::collection::vec(1_usize..40, 0..200),
    ) {
        prop_assert_eq!(heard(&said(&frames), &pieces), Ok(frames));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        pieces in prop::collection::vec(1_usize..40, 0..20),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(frames) = heard(&bytes, &pieces) {
            prop_assert!(bytes.starts_with(&said(&frames)) || bytes.is_empty());
        }
    }
}
