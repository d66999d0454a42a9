//! What travels is frozen, and read in the same way however it is cut.

use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frozen(name: &str, bytes: &[u8]) {
    let path = format!("{}/golden/{name}.v1.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("RAP_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, hex(bytes) + "\n").unwrap();
    }
    assert_eq!(hex(bytes), std::fs::read_to_string(&path).unwrap().trim(), "{name}");
}

fn written(item: &Item) -> Vec<u8> {
    match item {
        Item::Message(body) => [&message_item(body.len())[..], &body[..]].concat(),
        Item::Credit(granted) => credit_item(*granted).to_vec(),
        Item::Alone(head, body) => [&alone_item(*head, body.len())[..], &body[..]].concat(),
    }
}

/// Reads `bytes` as they come in pieces of so many.
fn read(policy: &Policy, bytes: &[u8], piece: usize) -> Result<Vec<Item>, Malformed> {
    let mut items = Items::new(policy);
    let mut read = Vec::new();
    for piece in bytes.chunks(piece) {
        items.push(piece);
        while let Some(item) = items.take()? {
            read.push(item);
        }
        assert!(items.waiting() < ITEM_HEAD_BYTES + MAX_HEAD_BYTES + policy.max_message);
    }
    Ok(read)
}

const HEAD: Head = Head { number: 300, key: Some(Key(7)) };

#[test]
fn what_travels_is_frozen() {
    let message = Item::Message(Bytes::from_static(b"hello"));
    frozen("channel_message", &written(&message));
    let credit = Item::Credit(Amount { messages: 3, bytes: 70_000 });
    frozen("channel_credit", &written(&credit));
    frozen("channel_alone", &[&alone_head(5, HEAD)[..], b"hi"].concat());
    frozen("channel_alone_item", &written(&Item::Alone(HEAD, Bytes::from_static(b"hi"))));
}

#[test]
fn variable_lengths_are_those_of_the_standard() {
    // RFC 9000, appendix A.1.
    let known: [(u64, &[u8]); 4] = [
        (37, &[0x25]),
        (15_293, &[0x7b, 0xbd]),
        (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
        (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
    ];
    let head = Head { number: 1, key: None };
    for (number, said) in known {
        let bytes = alone_head(number, head);
        assert_eq!(bytes, [said, &[1, 0]].concat());
        assert_eq!(read_alone(bytes.into()), Ok((number, head, Bytes::new())));
    }
    // Two bytes where one would do.
    let longer = Bytes::from_static(&[0x40, 0x25, 1, 0]);
    assert_eq!(read_alone(longer), Ok((37, head, Bytes::new())));
}

#[test]
#[should_panic(expected = "has no variable length")]
fn a_number_beyond_the_greatest_is_a_fault_of_ours() {
    alone_head(MAX_VARINT + 1, HEAD);
}

#[test]
#[should_panic(expected = "are no item")]
fn a_message_that_three_bytes_cannot_measure_is_a_fault_of_ours() {
    message_item(1 << 24);
}

#[test]
fn the_greatest_head_has_the_bytes_that_are_kept_for_it() {
    let head = Head { number: MAX_VARINT, key: Some(Key(u64::MAX)) };
    assert_eq!(alone_head(MAX_VARINT, head).len(), MAX_HEAD_BYTES);
}

#[test]
fn what_is_cut_within_its_head_or_says_what_nobody_says_is_malformed() {
    let whole = [&alone_head(5, HEAD)[..], b"hi"].concat();
    let head = whole.len() - 2;
    for length in 0..head {
        let cut = Bytes::copy_from_slice(&whole[..length]);
        assert_eq!(read_alone(cut), Err(Malformed), "{length} bytes");
    }
    assert_eq!(read_alone(whole[..head].to_vec().into()), Ok((5, HEAD, Bytes::new())));
    assert_eq!(read_alone(Bytes::from_static(&[5, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0])), Err(Malformed));
}

#[test]
fn what_no_item_of_the_channel_has_is_refused_before_its_body_comes() {
    let (control, render) = (of(ChannelKind::Control), of(ChannelKind::Render));
    let refused = |policy: &Policy, head: &[u8]| read(policy, head, 100) == Err(Malformed);
    let largest = message_item(control.max_message);
    assert_eq!(read(&control, &largest, 100), Ok(Vec::new()), "its body has to come");
    assert!(refused(&control, &message_item(control.max_message + 1)));
    let credit = credit_item(Amount { messages: 1, bytes: 1 });
    assert!(!refused(&control, &credit) && refused(&render, &credit[..4]));
    assert!(refused(&control, &[1, 0, 0, 15]) && refused(&control, &[1, 0, 0, 17]));
    assert!(refused(&render, &message_item(1)) && refused(&control, &alone_item(HEAD, 1)[..4]));
    assert!(refused(&control, &[3, 0, 0, 0]) && refused(&render, &[3, 0, 0, 0]));
    assert!(!refused(&render, &alone_item(HEAD, render.max_message)));
    assert!(refused(&render, &alone_item(HEAD, render.max_message + MAX_HEAD_BYTES)));
    // The length allows for the greatest head. With a smaller one the message is too large.
    let over = Item::Alone(HEAD, Bytes::from(vec![0; render.max_message + 1]));
    assert!(refused(&render, &written(&over)));
    assert!(refused(&render, &[2, 0, 0, 2, 1, 2]), "a key is there, or it is not");
}

fn key() -> impl Strategy<Value = Option<Key>> {
    prop::option::of(any::<u64>().prop_map(Key))
}

fn head() -> impl Strategy<Value = Head> {
    (0..=MAX_VARINT, key()).prop_map(|(number, key)| Head { number, key })
}

fn body() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
}

fn of_reliable() -> impl Strategy<Value = Item> {
    prop_oneof![
        body().prop_map(Item::Message),
        any::<(u64, u64)>().prop_map(|(messages, bytes)| Item::Credit(Amount { messages, bytes })),
    ]
}

fn of_droppable() -> impl Strategy<Value = Item> {
    (head(), body()).prop_map(|(head, body)| Item::Alone(head, body))
}

proptest! {
    #[test]
    fn items_are_read_as_they_were_written_however_they_are_cut(
        reliable in prop::collection::vec(of_reliable(), 0..20),
        droppable in prop::collection::vec(of_droppable(), 0..20),
        piece in 1_usize..200,
    ) {
        for (kind, items) in [(ChannelKind::Control, reliable), (ChannelKind::Render, droppable)] {
            let bytes: Vec<u8> = items.iter().flat_map(written).collect();
            prop_assert_eq!(read(&of(kind), &bytes, piece), Ok(items));
        }
    }

    #[test]
    fn what_travels_alone_is_read_as_it_was_written(
        channel in 0..=MAX_VARINT, head in head(), body in body()
    ) {
        let bytes = [&alone_head(channel, head)[..], &body[..]].concat();
        prop_assert_eq!(read_alone(bytes.into()), Ok((channel, head, body)));
    }

    #[test]
    fn whatever_comes_is_read_alike_however_it_is_cut(
        bytes in prop::collection::vec(0_u8..4, 0..100), piece in 1_usize..100
    ) {
        for kind in [ChannelKind::Control, ChannelKind::Render] {
            let whole = read(&of(kind), &bytes, 100);
            prop_assert_eq!(read(&of(kind), &bytes, piece), whole);
        }
    }
}
