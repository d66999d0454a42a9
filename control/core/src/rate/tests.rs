#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use proptest::prelude::*;
use rap_proto::{ApiTokenId, LoginId, Moment, UserId};

use super::*;
use crate::authorization::Principal;

const fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second, burst }
}

fn table(each: Rate) -> RateTable {
    RateTable::new(Rates { user: each, api_token: each, address: each, node: each })
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1_000)
}

fn user(number: u128) -> Payer {
    Payer::User(UserId::from_u128(number))
}

fn address(number: u32) -> Payer {
    Payer::Address(AddressBlock::of(Ipv4Addr::from_bits(number).into()))
}

#[test]
fn a_burst_passes_and_then_one_each_interval() {
    let mut table = table(rate(10, 3));
    for _ in 0..3 {
        assert_eq!(table.admit(at(0), &[user(1)]), Ok(()));
    }
    let limited = table.admit(at(0), &[user(1)]).unwrap_err();
    assert_eq!(limited.class, PayerClass::User);
    assert_eq!(limited.retry_after, Duration::from_millis(100));
    assert!(table.admit(at(99), &[user(1)]).is_err());
    assert_eq!(table.admit(at(100), &[user(1)]), Ok(()));
    assert!(table.admit(at(100), &[user(1)]).is_err());
    // Others have buckets of their own, and a long rest fills no more than the burst.
    assert_eq!(table.admit(at(100), &[user(2)]), Ok(()));
    let passed = (0..10).filter(|_| table.admit(at(60_000), &[user(1)]).is_ok()).count();
    assert_eq!(passed, 3);
}

#[test]
fn whoever_waits_as_long_as_was_said_is_admitted() {
    let mut table = table(rate(7, 2));
    let mut now = at(5);
    for _ in 0..50 {
        if let Err(limited) = table.admit(now, &[user(1)]) {
            now = now + limited.retry_after;
            assert_eq!(table.admit(now, &[user(1)]), Ok(()));
        }
    }
}

#[test]
fn an_api_token_pays_twice_and_a_refused_request_pays_nothing() {
    let rates = Rates { user: rate(1, 5), api_token: rate(1, 2), ..Rates::default() };
    let mut table = RateTable::new(rates);
    let principal = |token| Principal::ApiToken {
        user: UserId::from_u128(1),
        token: ApiTokenId::from_u128(token),
        scopes: BTreeSet::new(),
        organization: None,
    };
    let nowhere = AddressBlock::of(Ipv4Addr::LOCALHOST.into());
    let payers = |token| Payer::of(Some(&principal(token)), nowhere);
    let mut admit = |token| table.admit(at(0), &payers(token));
    assert_eq!((admit(1), admit(1)), (Ok(()), Ok(())));
    for _ in 0..10 {
        assert_eq!(admit(1).unwrap_err().class, PayerClass::ApiToken);
    }
    // Refusals took nothing of the user: three of five are left, whatever the token.
    assert_eq!((admit(2), admit(2), admit(3)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(admit(4).unwrap_err().class, PayerClass::User);
    let login = Principal::User { user: UserId::from_u128(1), login: LoginId::from_u128(1) };
    assert!(table.admit(at(0), &Payer::of(Some(&login), nowhere)).is_err());
}

#[test]
fn nobody_gets_a_fresh_bucket_by_crowding_the_table() {
    let mut table = table(rate(1, 2));
    let greedy = address(u32::MAX);
    assert_eq!((table.admit(at(0), &[greedy]), table.admit(at(0), &[greedy])), (Ok(()), Ok(())));
    for number in 1..MAX_BUCKETS as u32 {
        assert_eq!(table.admit(at(0), &[address(number)]), Ok(()));
    }
    assert_eq!(table.remembered(PayerClass::Address), MAX_BUCKETS);
    // Newcomers share one bucket, and no one who is known is forgotten for them.
    let admitted =
        (0..1_000).filter(|n| table.admit(at(0), &[address(1_000_000 + n)]).is_ok()).count();
    assert_eq!(admitted, 2);
    assert!(table.admit(at(0), &[greedy]).is_err());
    assert_eq!(table.remembered(PayerClass::Address), MAX_BUCKETS);
    // Other classes have room.
    assert_eq!(table.admit(at(0), &[user(1)]), Ok(()));
    // What is full again makes room, a few with each request.
    for number in 0..1_000 {
        assert_eq!(table.admit(at(1_500), &[address(2_000_000 + number)]), Ok(()));
    }
    assert!(table.remembered(PayerClass::Address) < MAX_BUCKETS - 2_000);
}

#[test]
fn one_caller_has_one_bucket_however_many_addresses_it_has() {
    let block = |text: &str| AddressBlock::of(text.parse::<IpAddr>().unwrap());
    assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff::9"));
    assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
    assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
    assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
}

#[test]
fn rates_are_written_as_they_are_read() {
    assert_eq!("50/200".parse(), Ok(rate(50, 200)));
    assert_eq!(rate(50, 200).to_string(), "50/200");
    for text in ["", "50", "0/1", "1/0", "-1/1", "1/1/1", "100001/1", "1/100001", "a/b"] {
        assert_eq!(text.parse::<Rate>(), Err(ParseRateError), "{text}");
    }
}

proptest! {
    /// In no window of time does anybody get more than the burst and what was gained meanwhile.
    #[test]
    fn nobody_gets_more_than_burst_and_rate(
        per_second in 1_u32..50,
        burst in 1_u32..20,
        pauses in prop::collection::vec(0_u64..400, 1..200),
    ) {
        let mut table = table(rate(per_second, burst));
        let (mut now, mut admitted) = (0, Vec::new());
        for pause in pauses {
            now += pause;
            if table.admit(at(now), &[user(1)]).is_ok() {
                admitted.push(now);
            }
        }
        let token = 1_000_000 / u64::from(per_second);
        for (first, since) in admitted.iter().enumerate() {
            for (last, until) in admitted.iter().enumerate().skip(first) {
                let taken = (last - first + 1) as u64 * token;
                prop_assert!(taken <= u64::from(burst) * token + (until - since) * 1_000);
            }
        }
    }
}
