#![allow(clippy::unwrap_used)]

use rap_proto::Timestamp;
use serde_bytes::ByteBuf;

use super::*;
use crate::{
    Personal,
    personal::MAX_SEALED_BYTES,
    tests::{
        given::{NOW, given},
        samples::{ALICE, MINUTE_MS, after, sealed, secret},
    },
};

const LONGEST_MS: i64 = 30 * 24 * 60 * MINUTE_MS;

fn open(expires_at: Timestamp, device: &str) -> LoginCommand {
    LoginCommand::Open { user: ALICE, secret: secret("login"), expires_at, device: sealed(device) }
}

fn opened() -> LoginEvent {
    let device = sealed("laptop");
    let expires_at = after(LONGEST_MS);
    LoginOpened { user: ALICE, secret: secret("login"), expires_at, device }.into()
}

#[test]
fn a_login_is_opened_once() {
    let state = given::<Login>([]).when(open(after(LONGEST_MS), "laptop")).then([opened()]);
    assert_eq!(state.opened.unwrap().user, ALICE);
    given::<Login>([opened()])
        .when(open(after(LONGEST_MS), "laptop"))
        .rejected(LoginRejection::AlreadyExists);
}

#[test]
fn a_login_keeps_the_limits() {
    for expires_at in [NOW, after(-1), after(LONGEST_MS + 1)] {
        given::<Login>([]).when(open(expires_at, "")).rejected(LoginRejection::LifetimeOutOfRange);
    }
}

#[test]
fn a_device_is_sealed_or_empty() {
    let with = |device| LoginCommand::Open {
        user: ALICE,
        secret: secret("login"),
        expires_at: after(1),
        device,
    };
    let refused = LoginRejection::DeviceNotSealed;
    let large = Personal::Sealed(ByteBuf::from(vec![0; MAX_SEALED_BYTES + 1]));
    for device in [Personal::Clear("laptop".to_owned()), large] {
        given::<Login>([]).when(with(device)).rejected(refused);
    }
    let silent = LoginOpened {
        user: ALICE,
        secret: secret("login"),
        expires_at: after(1),
        device: Personal::default(),
    };
    given::<Login>([]).when(with(Personal::default())).then([silent.into()]);
}

#[test]
fn a_login_is_closed_once() {
    let close = |reason| LoginCommand::Close { reason };
    let closed = LoginClosed { reason: LoginCloseReason::Revoked };
    given::<Login>([]).when(close(LoginCloseReason::Revoked)).rejected(LoginRejection::NotFound);
    given::<Login>([opened()]).when(close(LoginCloseReason::Revoked)).then([closed.clone().into()]);
    given::<Login>([opened(), closed.into()]).when(close(LoginCloseReason::SignedOut)).nothing();
}
