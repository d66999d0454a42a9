#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rap_proto::{ApiScope, Timestamp};

use super::*;
use crate::{
    Aggregate as _,
    tests::{
        given::{NOW, given},
        samples::{ACME, ALICE, MINUTE_MS, after, secret},
    },
};

const LONGEST_MS: i64 = 366 * 24 * 60 * MINUTE_MS;

fn create(scopes: &[ApiScope], expires_at: Timestamp, label: &str) -> ApiTokenCommand {
    ApiTokenCommand::Create {
        user: ALICE,
        secret: secret("api"),
        label: label.to_owned(),
        scopes: scopes.iter().copied().collect(),
        organization: Some(ACME),
        expires_at,
    }
}

fn created() -> ApiTokenEvent {
    ApiTokenCreated {
        user: ALICE,
        secret: secret("api"),
        label: "backup".to_owned(),
        scopes: BTreeSet::from([ApiScope::Read]),
        organization: Some(ACME),
        expires_at: after(LONGEST_MS),
    }
    .into()
}

#[test]
fn an_api_token_is_created_once() {
    let command = create(&[ApiScope::Read], after(LONGEST_MS), "backup");
    let state = given::<ApiToken>([]).when(command.clone()).then([created()]);
    assert_eq!(state.organization(), Some(ACME));
    given::<ApiToken>([created()]).when(command).rejected(ApiTokenRejection::AlreadyExists);
}

#[test]
fn an_api_token_keeps_the_limits() {
    let decide = |command| given::<ApiToken>([]).when(command);
    decide(create(&[], after(1), "")).rejected(ApiTokenRejection::NoScopes);
    for expires_at in [NOW, after(LONGEST_MS + 1)] {
        decide(create(&[ApiScope::Read], expires_at, ""))
            .rejected(ApiTokenRejection::LifetimeOutOfRange);
    }
    decide(create(&[ApiScope::Read], after(1), "\r")).rejected(ApiTokenRejection::TextNotPlain);
}

#[test]
fn an_api_token_is_revoked_once() {
    let revoke = ApiTokenCommand::Revoke;
    given::<ApiToken>([]).when(revoke.clone()).rejected(ApiTokenRejection::NotFound);
    given::<ApiToken>([created()]).when(revoke.clone()).then([ApiTokenRevoked {}.into()]);
    given::<ApiToken>([created(), ApiTokenRevoked {}.into()]).when(revoke).nothing();
}
