#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rap_proto::{ApiScope, Timestamp};
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    Aggregate as _, Personal,
    personal::MAX_SEALED_BYTES,
    tests::{
        given::{NOW, given},
        samples::{ACME, ALICE, MINUTE_MS, after, sealed, secret},
    },
};

const LONGEST_MS: i64 = 366 * 24 * 60 * MINUTE_MS;

fn create(scopes: &[ApiScope], expires_at: Timestamp, label: &str) -> ApiTokenCommand {
    ApiTokenCommand::Create {
        user: ALICE,
        secret: secret("api"),
        label: sealed(label),
        scopes: scopes.iter().copied().collect(),
        organization: Some(ACME),
        expires_at,
    }
}

fn created() -> ApiTokenEvent {
    ApiTokenCreated {
        user: ALICE,
        secret: secret("api"),
        label: sealed("backup"),
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
}

#[test]
fn a_label_is_sealed_or_empty() {
    let with = |label| match create(&[ApiScope::Read], after(1), "") {
        ApiTokenCommand::Create { user, secret, scopes, organization, expires_at, .. } => {
            ApiTokenCommand::Create { user, secret, label, scopes, organization, expires_at }
        }
        revoke @ ApiTokenCommand::Revoke => revoke,
    };
    let large = Personal::Sealed(ByteBuf::from(vec![0; MAX_SEALED_BYTES + 1]));
    for label in [Personal::Clear("Alice's laptop".to_owned()), large] {
        let refused = ApiTokenRejection::LabelNotSealed;
        given::<ApiToken>([]).when(with(label)).rejected(refused);
    }
    let decided = ApiToken::default().decide(with(Personal::default()), NOW);
    assert_eq!(decided.map(|events| events.len()), Ok(1));
}

#[test]
fn an_api_token_is_revoked_once() {
    let revoke = ApiTokenCommand::Revoke;
    given::<ApiToken>([]).when(revoke.clone()).rejected(ApiTokenRejection::NotFound);
    given::<ApiToken>([created()]).when(revoke.clone()).then([ApiTokenRevoked {}.into()]);
    given::<ApiToken>([created(), ApiTokenRevoked {}.into()]).when(revoke).nothing();
}
