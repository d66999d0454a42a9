#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// What one end wrote, as the other reads it: the data in one piece, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    data: Vec<u8>,
    finished: bool,
    reset: Option<u64>,
    stopped: Option<u64>,
    offsets: Vec<Part>,
}

/// Reads `bytes` as they come in pieces of the given lengths.
fn hear(bytes: &[u8], pieces: &[usize]) -> Result<Heard, Malformed> {
    hear_as(Parts::default(), bytes, pieces)
}

fn hear_as(mut parts: Parts, bytes: &[u8], pieces: &[usize]) -> Result<Heard, Malformed> {
    let (mut heard, mut buffer) = (Heard::default(), Vec::new());
    let mut rest = bytes;
    let mut lengths = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let length = lengths.next().expect("it never ends").clamp(1, rest.len());
        let (piece, after) = rest.split_at(length);
        buffer.extend_from_slice(piece);
        rest = after;
        while let Some((skip, part)) = parts.next(&buffer)? {
            buffer.drain(..skip);
            match part {
                Part::Data(length) => heard.data.extend(buffer.drain(..length)),
                Part::Finished => heard.finished = true,
                Part::Reset(code) => heard.reset = Some(code),
                Part::Stopped(code) => heard.stopped = Some(code),
                Part::Acknowledged(_) | Part::From(_) => heard.offsets.push(part),
            }
        }
    }
    assert!(buffer.is_empty(), "nothing stays unread");
    Ok(heard)
}

fn said(data: &[&[u8]]) -> Vec<u8> {
    data.iter().flat_map(|data| [&data_head(data.len())[..], data].concat()).collect()
}

#[test]
fn the_format_is_frozen() {
    let bytes = [
        &data_head(3)[..],
        b"abc",
        &stopped(0x104),
        &data_head(MAX_DATA)[..],
        &[7; MAX_DATA],
        &finished(),
    ]
    .concat();
    assert_eq!(bytes[..7], *b"\x00\x00\x00\x03abc");
    assert_eq!(bytes[7..19], [3, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 4]);
    assert_eq!(bytes[19..23], [0, 0, 0xff, 0xfc]);
    assert_eq!(bytes[bytes.len() - 4..], [1, 0, 0, 0]);
    assert_eq!(reset(0x106), [2, 0, 0, 8, 0, 0, 0, 0, 0, 0, 1, 6]);
    let heard = hear(&bytes, &[]).unwrap();
    assert_eq!(heard.data.len(), 3 + MAX_DATA);
    assert!(heard.finished);
    assert_eq!(heard.stopped, Some(0x104));
}

#[test]
fn whatever_breaks_the_format_or_the_order_is_refused() {
    let cases: &[(&str, Vec<u8>)] = &[
        ("an unknown kind", vec![4, 0, 0, 0]),
        ("data of no bytes", vec![0, 0, 0, 0]),
        ("more data than a part holds", vec![0, 0, 0xff, 0xfd]),
        ("an end with a body", vec![1, 0, 0, 1]),
        ("a reset without its code", vec![2, 0, 0, 4]),
        ("data after the end", [&finished()[..], &said(&[b"x"])].concat()),
        ("data after a reset", [&reset(0)[..], &said(&[b"x"])].concat()),
        ("two ends", [finished(), finished()].concat()),
        ("an end after a reset", [&reset(0)[..], &finished()].concat()),
        ("stopped twice", [stopped(0), stopped(0)].concat()),
    ];
    for (what, bytes) in cases {
        assert_eq!(hear(bytes, &[]), Err(Malformed), "{what}");
    }
}

#[test]
fn only_a_flow_that_outlives_its_connection_speaks_of_offsets() {
    let said = [&from(3)[..], &said(&[b"ab"]), &finished(), &acknowledged(u64::MAX)].concat();
    assert_eq!(said[..12], [5, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(said[said.len() - 12..], [4, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(hear(&said, &[]), Err(Malformed));
    for piece in [1, 3, said.len()] {
        let pieces = vec![piece; said.len()];
        let heard = hear_as(Parts::default().lasting(), &said, &pieces).unwrap();
        assert_eq!(heard.offsets, [Part::From(3), Part::Acknowledged(u64::MAX)]);
        assert!(heard.data == b"ab" && heard.finished);
    }
    let late = [&finished()[..], &from(3)].concat();
    assert_eq!(hear_as(Parts::default().lasting(), &late, &[]), Err(Malformed));
}

#[test]
fn a_direction_that_is_over_can_still_stop_the_other() {
    let heard = hear(&[&finished()[..], &stopped(9)].concat(), &[]).unwrap();
    assert_eq!(heard, Heard { finished: true, stopped: Some(9), ..Heard::default() });
}

#[test]
fn bulk_tries_tcp_first_and_interactive_quic() {
    assert_eq!(Carrier::order(Lane::Bulk), [Carrier::Tcp, Carrier::Quic]);
    assert_eq!(Carrier::order(Lane::Interactive), [Carrier::Quic, Carrier::Tcp]);
    assert_eq!(Carrier::order(Lane::Media), [Carrier::Quic, Carrier::Tcp]);
}

proptest! {
    #[test]
    fn the_same_is_heard_however_the_bytes_are_cut(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        pieces in prop::collection::vec(1_usize..40, 0..200),
        end in prop::option::of(any::<u64>()),
    ) {
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut bytes = said(&slices);
        match end {
            Some(code) => bytes.extend(reset(code)),
            None => bytes.extend(finished()),
        }
        let heard = hear(&bytes, &pieces).unwrap();
        prop_assert_eq!(heard.data, data.concat());
        prop_assert_eq!(heard.reset, end);
        prop_assert_eq!(heard.finished, end.is_none());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut parts = Parts::default();
        let mut rest = &bytes[..];
        while let Ok(Some((skip, part))) = parts.next(rest) {
            rest = &rest[skip..];
            if let Part::Data(length) = part {
                rest = &rest[length..];
            }
        }
    }
}
