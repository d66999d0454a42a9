#![allow(clippy::unwrap_used)]

mod anything;
mod carried;
mod end_to_end;
mod ends;
mod frames;
mod planted;
mod world;

use std::time::Duration;

use rap_proto::{ChannelKind, Lane, Moment};

use super::*;

fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

fn ms(millis: u64) -> Moment {
    at(millis * 1_000)
}

/// A message of so many bytes.
fn message(key: Option<u64>, length: usize) -> Message {
    Message { key: key.map(Key), bytes: Bytes::from(vec![7; length]) }
}

fn policies() -> Vec<(ChannelKind, Policy)> {
    let known = ChannelKind::ALL.iter().filter_map(|kind| Some((*kind, *Policy::of(*kind)?)));
    known.collect()
}

fn of(kind: ChannelKind) -> Policy {
    *Policy::of(kind).unwrap()
}

/// Everything that the queue hands out now.
fn all(queue: &mut Queue, now: Moment) -> Vec<Message> {
    std::iter::from_fn(|| queue.poll(now)).collect()
}

#[test]
fn every_kind_but_the_byte_stream_has_a_promise_that_can_be_kept() {
    assert_eq!(policies().len(), ChannelKind::ALL.len() - 1);
    assert_eq!(Policy::of(ChannelKind::Stream), None);
    for (kind, policy) in policies() {
        assert!(policy.bound.messages > 0 && policy.max_message > 0, "{kind}");
        assert!(policy.every.is_none_or(|every| !every.is_zero()), "{kind}");
        match policy.delivery {
            Delivery::Reliable => {
                assert!(2 * policy.max_message <= policy.ahead.bytes, "{kind}");
                assert_eq!(policy.ahead, policy.bound, "{kind}");
                assert_eq!((policy.order, policy.stale_after), (Order::AsSent, None), "{kind}");
            }
            Delivery::Droppable => {
                assert!(policy.ahead.messages <= policy.bound.messages, "{kind}");
                let most = policy.ahead.bytes + policy.max_message;
                assert!(policy.ahead.bytes > 0 && most <= policy.bound.bytes, "{kind}");
                assert_ne!(policy.order, Order::AsSent, "{kind}: what is dropped leaves a gap");
                assert!(policy.stale_after.is_some_and(|after| !after.is_zero()), "{kind}");
            }
        }
    }
}

#[test]
fn what_waits_for_a_person_shares_no_lane_with_pictures_or_bulk() {
    let lane = |kind| of(kind).lane;
    for kind in [ChannelKind::Input, ChannelKind::Control, ChannelKind::Clipboard] {
        assert_eq!((lane(kind), of(kind).delivery), (Lane::Interactive, Delivery::Reliable));
    }
    assert_eq!(lane(ChannelKind::Render), Lane::Media);
    for kind in [ChannelKind::FileTransfer, ChannelKind::VpnPackets, ChannelKind::Telemetry] {
        assert_eq!(lane(kind), Lane::Bulk, "{kind}");
    }
}

#[test]
fn every_bound_is_reached_and_not_passed() {
    for (kind, policy) in policies() {
        for length in [1, policy.max_message] {
            let fits = policy.bound.messages.min(policy.bound.bytes / length);
            let mut queue = Queue::new(&policy);
            for _ in 0..fits {
                assert_eq!(queue.push(at(0), message(None, length)), Ok(()), "{kind}");
            }
            assert_eq!(queue.counters().dropped_full, 0, "{kind}");
            let more = message(None, length);
            let dropped = match policy.delivery {
                Delivery::Reliable => {
                    assert_eq!(queue.push(at(0), more.clone()), Err(Refused::Full(more)), "{kind}");
                    0
                }
                Delivery::Droppable => {
                    assert_eq!(queue.push(at(0), more), Ok(()), "{kind}");
                    1
                }
            };
            assert_eq!((queue.len(), queue.bytes()), (fits, fits * length), "{kind}");
            assert_eq!(queue.counters().dropped_full, dropped, "{kind}");
        }
        let mut queue = Queue::new(&policy);
        let larger = message(None, policy.max_message + 1);
        assert_eq!(queue.push(at(0), larger), Err(Refused::TooLarge), "{kind}");
        assert!(queue.is_empty() && queue.counters() == Counters::default());
    }
}

#[test]
fn a_full_droppable_queue_drops_its_oldest_and_as_many_as_needed() {
    let mut queue = Queue::new(&of(ChannelKind::Render));
    let mib = 1024 * 1024;
    for length in [mib, mib, mib, mib - 1, 1] {
        queue.push(at(0), message(None, length)).unwrap();
    }
    queue.push(at(0), message(None, mib)).unwrap();
    queue.push(at(0), message(None, 2)).unwrap();
    let lengths: Vec<usize> = all(&mut queue, at(0)).iter().map(|one| one.bytes.len()).collect();
    assert_eq!(lengths, [mib, mib - 1, 1, mib, 2]);
    assert_eq!(queue.counters().dropped_full, 2);
}

#[test]
fn a_picture_is_stale_after_200_ms_and_is_dropped_then_even_if_nobody_asks() {
    let mut queue = Queue::new(&of(ChannelKind::Render));
    queue.push(ms(0), message(Some(1), 10)).unwrap();
    queue.push(ms(150), message(Some(2), 10)).unwrap();
    assert_eq!(queue.poll_timeout(), Some(ms(200)));
    queue.handle_timeout(at(199_999));
    assert_eq!(queue.len(), 2);
    queue.handle_timeout(ms(200));
    assert_eq!((queue.len(), queue.bytes(), queue.poll_timeout()), (1, 10, Some(ms(350))));
    assert_eq!(queue.poll(ms(349)), Some(message(Some(2), 10)));
    let expected = Counters { taken_in: 2, sent: 1, dropped_stale: 1, ..Counters::default() };
    assert_eq!((queue.counters(), queue.poll_timeout()), (expected, None));
}

#[test]
fn a_move_gives_way_to_a_later_one_and_passes_no_click() {
    let mut queue = Queue::new(&of(ChannelKind::Input));
    queue.grant(Amount { messages: 100, bytes: 1_000 });
    let (pointer, pen, click) = (Some(1), Some(2), None);
    let pushed =
        [(pointer, 1), (pen, 2), (pointer, 3), (click, 4), (pointer, 5), (pen, 6), (pointer, 7)];
    for (key, length) in pushed {
        queue.push(at(0), message(key, length)).unwrap();
    }
    let lengths: Vec<usize> = all(&mut queue, at(0)).iter().map(|one| one.bytes.len()).collect();
    assert_eq!(lengths, [2, 3, 4, 6, 7]);
    assert_eq!(queue.counters().coalesced, 2);
    // What was sent is not replaced any more.
    queue.push(at(0), message(pointer, 8)).unwrap();
    assert_eq!((queue.len(), queue.counters().coalesced), (1, 2));
}

#[test]
fn a_move_finds_room_in_a_full_queue_where_an_older_one_gives_its_place() {
    let policy = of(ChannelKind::Input);
    let mut queue = Queue::new(&policy);
    for _ in 1..policy.bound.messages {
        queue.push(at(0), message(None, 1)).unwrap();
    }
    queue.push(at(0), message(Some(1), 1)).unwrap();
    assert_eq!(queue.push(at(0), message(Some(1), 2)), Ok(()));
    let other = message(Some(2), 1);
    assert_eq!(queue.push(at(0), other.clone()), Err(Refused::Full(other)));
    assert_eq!(queue.len(), policy.bound.messages);
}

#[test]
fn nothing_reliable_is_sent_without_credit_and_smaller_words_say_nothing_new() {
    let mut queue = Queue::new(&of(ChannelKind::Control));
    for length in [10, 20, 30, 40] {
        queue.push(at(0), message(None, length)).unwrap();
    }
    assert_eq!(queue.poll(at(0)), None, "nobody said that anything may be sent");
    queue.grant(Amount { messages: 9, bytes: 29 });
    assert_eq!(all(&mut queue, at(0)), [message(None, 10)]);
    queue.grant(Amount { messages: 1, bytes: 30 });
    assert_eq!(all(&mut queue, at(0)), [message(None, 20)]);
    queue.grant(Amount { messages: 2, bytes: 99 });
    assert_eq!(all(&mut queue, at(0)), [message(None, 30)], "nine messages were granted before");
    queue.grant(Amount { messages: 4, bytes: 98 });
    assert_eq!(queue.poll(at(0)), None);
    queue.grant(Amount { messages: 4, bytes: 100 });
    queue.grant(Amount { messages: 4, bytes: 50 });
    assert_eq!(all(&mut queue, at(0)), [message(None, 40)], "a hundred bytes were granted before");
    let expected = Counters { taken_in: 4, sent: 4, ..Counters::default() };
    assert_eq!(queue.counters(), expected);
}

#[test]
fn telemetry_is_the_newest_of_each_key_and_ten_messages_a_second() {
    let mut queue = Queue::new(&of(ChannelKind::Telemetry));
    for millis in 0..1_000 {
        queue.push(ms(millis), message(Some(millis % 3), 8)).unwrap();
        assert!(all(&mut queue, ms(millis)).len() <= 1);
        assert!(queue.len() <= 3);
    }
    assert_eq!(queue.counters().sent, 10);
    assert_eq!(queue.poll_timeout(), Some(ms(1_000)), "the pace says when the next can be sent");
    assert!(queue.poll(ms(1_000)).is_some());
}

#[test]
fn a_reader_grants_its_bound_and_tells_when_half_of_it_is_free() {
    let policy = of(ChannelKind::Clipboard);
    let mut window = Window::new(&policy);
    assert_eq!(window.handle_message(1), Err(TooMuch), "nothing was granted yet");
    let first = Amount { messages: 16, bytes: 65_536 };
    assert_eq!((window.poll_grant(), window.poll_grant()), (Some(first), None));
    assert_eq!(window.handle_message(policy.max_message + 1), Err(TooMuch));
    for _ in 0..4 {
        assert_eq!(window.handle_message(policy.max_message), Ok(()));
    }
    assert_eq!(window.handle_message(1), Err(TooMuch), "all bytes were used");
    assert_eq!(window.handle_message(0), Ok(()), "and twelve messages were not");
    // Of the five that came.
    window.leave(Bound { messages: 4, bytes: 3 * policy.max_message });
    assert_eq!(window.poll_grant(), None, "a quarter is free");
    window.leave(Bound { messages: 3, bytes: 2 * policy.max_message });
    assert_eq!(window.poll_grant(), Some(Amount { messages: 18, bytes: 65_536 + 32_768 }));
}

#[test]
fn a_reader_tells_of_free_messages_too() {
    let mut window = Window::new(&of(ChannelKind::Clipboard));
    window.poll_grant().unwrap();
    for _ in 0..16 {
        assert_eq!(window.handle_message(1), Ok(()));
    }
    assert_eq!(window.handle_message(1), Err(TooMuch));
    for left in (9..16).rev() {
        window.leave(Bound { messages: left, bytes: left });
        assert_eq!(window.poll_grant(), None);
    }
    window.leave(Bound { messages: 8, bytes: 8 });
    assert_eq!(window.poll_grant(), Some(Amount { messages: 24, bytes: 65_544 }));
}

#[test]
fn an_older_picture_that_comes_late_is_put_aside_and_a_late_packet_is_not() {
    let mut pictures = Arrivals::new(&of(ChannelKind::Render));
    let [one, other] = [Some(Key(1)), Some(Key(2))];
    let seen = [(2, one), (1, one), (1, other), (2, other), (4, None), (3, None), (5, one)];
    let handed = seen.map(|(number, key)| pictures.handle_message(number, key));
    assert_eq!(handed, [true, false, true, false, true, false, true]);
    assert_eq!(pictures.late(), 3);
    let mut packets = Arrivals::new(&of(ChannelKind::VpnPackets));
    assert!([2, 1].iter().all(|number| packets.handle_message(*number, None)));
    assert_eq!(packets.late(), 0);
}

#[test]
fn of_more_keys_than_are_told_apart_the_oldest_is_forgotten_and_never_goes_back() {
    let mut pictures = Arrivals::new(&of(ChannelKind::Render));
    let most = MAX_KEYS as u64;
    for number in 2..=most + 2 {
        assert!(pictures.handle_message(number, Some(Key(number))));
    }
    // The key of number 2 was forgotten, and with it whatever is as old.
    assert!(!pictures.handle_message(1, Some(Key(2))) && !pictures.handle_message(2, Some(Key(2))));
    assert!(!pictures.handle_message(1, Some(Key(0))), "as old as what was forgotten");
    assert!(pictures.handle_message(most + 3, Some(Key(2))));
    assert_eq!(pictures.late(), 3);
}

#[test]
fn a_timeout_that_was_handled_is_not_asked_for_again() {
    let policy = Policy { every: Some(Duration::from_millis(20)), ..of(ChannelKind::Render) };
    let mut queue = Queue::new(&policy);
    queue.push(ms(0), message(None, 1)).unwrap();
    queue.push(ms(0), message(None, 1)).unwrap();
    assert!(queue.poll(ms(0)).is_some());
    assert_eq!(queue.poll_timeout(), Some(ms(20)));
    queue.handle_timeout(ms(20));
    assert_eq!(queue.poll_timeout(), Some(ms(200)));
    queue.handle_timeout(ms(200));
    assert_eq!(queue.poll_timeout(), None);
}
