#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use rap_proto::{Timestamp, UserId};

use super::*;
use crate::tests::{
    given::{NOW, given},
    samples::{ALICE, BOB, after},
};

fn notice(accounts: &[(UserId, u32)], unnamed: u32) -> GuessingCommand {
    GuessingCommand::Notice { accounts: accounts.iter().copied().collect(), unnamed }
}

fn noticed(accounts: &[(UserId, u32)], unnamed: u32, at: Timestamp) -> GuessingEvent {
    let accounts = accounts.iter().copied().collect();
    GuessingNoticed { accounts, unnamed, noticed_at: at }.into()
}

#[test]
fn wrong_passwords_are_recorded_with_their_numbers() {
    let command = notice(&[(ALICE, 5), (BOB, 0)], 2);
    let state = given::<Guessing>([]).when(command).then([noticed(&[(ALICE, 5)], 2, NOW)]);
    assert_eq!(state.noticed_at, Some(NOW));
    given::<Guessing>([]).when(notice(&[], 9)).then([noticed(&[], 9, NOW)]);
    for nothing in [notice(&[], 0), notice(&[(ALICE, 0)], 0)] {
        given::<Guessing>([]).when(nothing).rejected(GuessingRejection::NothingGuessed);
    }
}

#[test]
fn whatever_is_guessed_makes_one_event_in_an_interval() {
    let interval = i64::try_from(NOTICE_INTERVAL_MS).unwrap();
    let before = || [noticed(&[(ALICE, 5)], 0, NOW)];
    for early in [NOW, after(interval - 1), after(-1)] {
        given::<Guessing>(before()).at(early).when(notice(&[(BOB, 50)], 1_000)).nothing();
    }
    let next = after(interval);
    let expected = noticed(&[(BOB, 50)], 1_000, next);
    given::<Guessing>(before()).at(next).when(notice(&[(BOB, 50)], 1_000)).then([expected]);
}

#[test]
fn of_too_many_accounts_the_most_guessed_are_named_and_the_others_counted() {
    let user = |number: usize| UserId::from_u128(100 + number as u128);
    let mut accounts: Vec<_> = (0..=MAX_NAMED_ACCOUNTS).map(|number| (user(number), 2)).collect();
    accounts[0].1 = 1;
    let named: BTreeMap<_, _> = accounts[1..].iter().copied().collect();
    let expected = GuessingNoticed { accounts: named, unnamed: 4, noticed_at: NOW };
    given::<Guessing>([]).when(notice(&accounts, 3)).then([expected.into()]);
}
