//! The two ends of a channel, with nothing but bytes between them.

use super::*;

/// One end and what it wrote that has not come.
struct Side {
    end: End,
    written: Vec<u8>,
}

impl Side {
    fn new(kind: ChannelKind) -> Self {
        Self { end: End::new(&of(kind)), written: Vec::new() }
    }

    fn write(&mut self, now: Moment) {
        while let Some(bytes) = self.end.poll_bytes(now) {
            self.written.extend_from_slice(&bytes);
        }
    }

    fn read(&mut self, now: Moment) -> Vec<Message> {
        std::iter::from_fn(|| self.end.poll_message(now)).collect()
    }
}

/// Carries what both wrote until nobody writes any more.
fn carry(one: &mut Side, other: &mut Side, now: Moment) {
    loop {
        one.write(now);
        other.write(now);
        let (ones, others) = (std::mem::take(&mut one.written), std::mem::take(&mut other.written));
        if ones.is_empty() && others.is_empty() {
            return;
        }
        other.end.handle_bytes(now, &ones).unwrap();
        one.end.handle_bytes(now, &others).unwrap();
    }
}

fn pair(kind: ChannelKind) -> (Side, Side) {
    let (mut one, mut other) = (Side::new(kind), Side::new(kind));
    carry(&mut one, &mut other, at(0));
    (one, other)
}

fn kinds() -> Vec<ChannelKind> {
    policies().into_iter().map(|(kind, _)| kind).collect()
}

#[test]
fn each_kind_carries_messages_both_ways_and_ends() {
    for kind in kinds() {
        let (mut one, mut other) = pair(kind);
        one.end.push(at(0), message(Some(1), 10)).unwrap();
        other.end.push(at(0), message(None, 20)).unwrap();
        one.end.finish();
        assert_eq!(one.end.push(at(0), message(None, 1)), Err(NotTaken::Finished), "{kind}");
        carry(&mut one, &mut other, at(0));
        assert_eq!(other.read(at(0)), [message(Some(1), 10)], "{kind}");
        assert!(other.end.is_read() && one.end.is_sent() && !other.end.is_sent(), "{kind}");
        assert_eq!(one.read(at(0)), [message(None, 20)], "{kind}");
        assert_eq!((one.end.handle_end(), other.end.handle_end()), (Err(Broken::CutShort), Ok(())));
        other.end.finish();
        carry(&mut one, &mut other, at(0));
        assert!(one.end.has_all() && one.end.is_read() && other.end.is_sent(), "{kind}");
        let too_large = message(None, of(kind).max_message + 1);
        assert_eq!(Side::new(kind).end.push(at(0), too_large), Err(NotTaken::TooLarge), "{kind}");
    }
}

#[test]
fn nothing_is_sent_before_the_other_end_grants_it() {
    for kind in kinds() {
        let mut one = Side::new(kind);
        one.end.push(at(0), message(None, 1)).unwrap();
        one.write(at(0));
        let grant = Frame::Grant(Amount {
            messages: of(kind).ahead.messages as u64,
            bytes: of(kind).ahead.bytes as u64,
        });
        let mut alone = bytes::BytesMut::from(&[VERSION][..]);
        grant.encode(&mut alone);
        assert_eq!(one.written, alone, "{kind}");
    }
}

#[test]
fn a_reliable_reader_that_does_not_read_holds_the_sender_at_the_bound_and_loses_nothing() {
    for (kind, policy) in policies() {
        if policy.delivery == Delivery::Droppable {
            continue;
        }
        let (mut one, mut other) = pair(kind);
        let length = policy.max_message;
        let (mut pushed, fits) = (0, policy.bound.bytes / length);
        while one.end.push(at(0), message(None, length)).is_ok() {
            pushed += 1;
            carry(&mut one, &mut other, at(0));
        }
        // As many as one bound holds wait here, and as many there.
        let most = fits.min(policy.bound.messages);
        assert_eq!(pushed, 2 * most, "{kind}");
        let mut read = 0;
        while read < pushed {
            read += other.read(at(0)).len();
            carry(&mut one, &mut other, at(0));
        }
        assert_eq!(other.end.arrived().handed_out, pushed as u64, "{kind}");
        assert_eq!(one.end.push(at(0), message(None, length)), Ok(()), "{kind}");
    }
}

#[test]
fn a_droppable_sender_never_waits_and_what_comes_to_a_reader_that_returns_is_new() {
    for (kind, policy) in policies() {
        let Some(stale_after) = policy.stale_after else { continue };
        let (mut one, mut other) = pair(kind);
        let number = |message: &Message| u64::from_be_bytes(*message.bytes.first_chunk().unwrap());
        let step = policy.every.unwrap_or(Duration::from_micros(100));
        let (mut now, mut made) = (at(0), 0_u64);
        // Much more than may be ahead, and for longer than anything stays fresh.
        while now.since(at(0)) < 3 * stale_after {
            let mut bytes = vec![0; policy.max_message.min(64 * 1024)];
            bytes[..8].copy_from_slice(&made.to_be_bytes());
            let one_more = Message { key: None, bytes: bytes.into() };
            assert_eq!(one.end.push(now, one_more), Ok(()), "{kind}");
            made += 1;
            carry(&mut one, &mut other, now);
            let ahead = other.end.arrived().came * policy.max_message.min(64 * 1024) as u64;
            assert!(ahead < (policy.ahead.bytes + policy.max_message) as u64, "{kind}");
            now = now + step;
        }
        let mut read = Vec::new();
        for _ in 0..4 {
            read.extend(other.read(now).iter().map(number));
            carry(&mut one, &mut other, now);
        }
        let fresh = stale_after.as_micros().div_ceil(step.as_micros()) as u64;
        assert!(!read.is_empty() && read.iter().all(|it| it + fresh >= made), "{kind}: {read:?}");
        assert!(read.is_sorted(), "{kind}");
        let counters = one.end.counters();
        assert!(counters.dropped_full + counters.dropped_stale > 0, "{kind}: {counters:?}");
        assert!(other.end.arrived().put_aside > 0, "{kind}: what came early was stale");
    }
}

#[test]
fn a_picture_larger_than_what_may_be_ahead_goes_alone() {
    let policy = of(ChannelKind::Render);
    assert!(policy.max_message > policy.ahead.bytes);
    let (mut one, mut other) = pair(ChannelKind::Render);
    for _ in 0..3 {
        one.end.push(at(0), message(None, policy.max_message)).unwrap();
    }
    carry(&mut one, &mut other, at(0));
    assert_eq!(other.end.arrived().came, 1);
    assert_eq!(other.read(at(0)).len(), 1);
    carry(&mut one, &mut other, at(0));
    assert_eq!(other.end.arrived().came, 2);
}

#[test]
fn pictures_that_wait_to_be_read_give_way_to_newer_ones_of_their_key() {
    let (mut one, mut other) = pair(ChannelKind::Render);
    for length in 1..=5 {
        one.end.push(at(0), message(Some(length % 2), length as usize)).unwrap();
        carry(&mut one, &mut other, at(0));
    }
    let lengths: Vec<usize> = other.read(at(0)).iter().map(|it| it.bytes.len()).collect();
    assert_eq!(lengths, [4, 5]);
    let expected = Arrived { came: 5, handed_out: 2, put_aside: 3 };
    assert_eq!(other.end.arrived(), expected);
}

#[test]
fn an_end_of_the_other_kind_or_a_sender_without_credit_is_refused() {
    let number = |number| {
        let mut bytes = bytes::BytesMut::from(&[VERSION][..]);
        Frame::Message { number, message: message(None, 1) }.encode(&mut bytes);
        bytes
    };
    let mut input = Side::new(ChannelKind::Input);
    assert_eq!(input.end.handle_bytes(at(0), &number(1)), Err(Broken::TooMuch));
    let mut input = Side::new(ChannelKind::Input);
    input.write(at(0));
    let expected = Err(Broken::OutOfOrder { expected: 1, came: 2 });
    assert_eq!(input.end.handle_bytes(at(0), &number(2)), expected);
    let mut render = Side::new(ChannelKind::Render);
    render.write(at(0));
    assert_eq!(render.end.handle_bytes(at(0), &number(2)), Ok(()));
    let malformed = Err(Broken::Malformed(Malformed::Kind(9)));
    assert_eq!(render.end.handle_bytes(at(0), &[9]), malformed);
}

#[test]
fn an_end_within_a_message_is_cut_short() {
    let (mut one, mut other) = pair(ChannelKind::Control);
    one.end.push(at(0), message(None, 100)).unwrap();
    one.end.finish();
    one.write(at(0));
    let cut = one.written.len() - 1;
    other.end.handle_bytes(at(0), &one.written[..cut]).unwrap();
    assert_eq!(other.end.handle_end(), Err(Broken::CutShort));
    other.end.handle_bytes(at(0), &one.written[cut..]).unwrap();
    assert_eq!((other.end.handle_end(), other.end.is_read()), (Ok(()), false));
}

#[test]
fn a_batch_ends_once_it_is_large_enough() {
    let (mut one, mut other) = pair(ChannelKind::FileTransfer);
    for _ in 0..8 {
        one.end.push(at(0), message(None, BATCH_BYTES / 2)).unwrap();
    }
    let batch = one.end.poll_bytes(at(0)).unwrap();
    assert!((BATCH_BYTES..BATCH_BYTES * 2).contains(&batch.len()), "{}", batch.len());
    other.end.handle_bytes(at(0), &batch).unwrap();
    assert_eq!(other.read(at(0)).len(), 2);
}
