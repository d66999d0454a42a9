#![allow(clippy::unwrap_used)]

use rap_proto::Timestamp;

use super::*;
use crate::tests::{
    given::{NOW, given},
    samples::{ALICE, MINUTE_MS, after, secret},
};

const LONGEST_MS: i64 = 30 * 24 * 60 * MINUTE_MS;

fn open(expires_at: Timestamp, device: &str) -> LoginCommand {
    LoginCommand::Open {
        user: ALICE,
        secret: secret("login"),
        expires_at,
        device: device.to_owned(),
    }
}

fn opened() -> LoginEvent {
    let device = "laptop".to_owned();
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
    given::<Login>([]).when(open(after(1), "a\tb")).rejected(LoginRejection::TextNotPlain);
}

#[test]
fn a_login_is_closed_once() {
    let close = |reason| LoginCommand::Close { reason };
    let closed = LoginClosed { reason: LoginCloseReason::Revoked };
    given::<Login>([]).when(close(LoginCloseReason::Revoked)).rejected(LoginRejection::NotFound);
    given::<Login>([opened()]).when(close(LoginCloseReason::Revoked)).then([closed.clone().into()]);
    given::<Login>([opened(), closed.into()]).when(close(LoginCloseReason::SignedOut)).nothing();
}
