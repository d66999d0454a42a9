//! Who calls: the bearer token of a request, and the principal behind it.

use actix_web::{HttpRequest, http::header};
use rap_control_core::{Principal, State};
use rap_proto::{
    Digest, Timestamp,
    secret::{ApiSecret, LoginSecret, Secret, SecretKind},
};

use super::{call::unauthenticated, failure::Failure};

/// The longest bearer token that is looked at, in bytes.
const MAX_BEARER_BYTES: usize = 128;

/// A bearer token's digest, and what kind of token it is.
pub(crate) enum Credential {
    Login(Digest),
    ApiToken(Digest),
}

/// `None` without an `Authorization` header; one that is not understood is an error.
pub(crate) fn credential(request: &HttpRequest) -> Result<Option<Credential>, Failure> {
    if request.headers().get(header::AUTHORIZATION).is_none() {
        return Ok(None);
    }
    let text = bearer(request).ok_or_else(unauthenticated)?;
    let credential = if text.starts_with(ApiSecret::PREFIX) {
        Secret::<ApiSecret>::parse(text).map(|secret| Credential::ApiToken(secret.digest()))
    } else {
        Secret::<LoginSecret>::parse(text).map(|secret| Credential::Login(secret.digest()))
    };
    Ok(Some(credential.map_err(|_| unauthenticated())?))
}

pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let bounded = token.len() <= MAX_BEARER_BYTES;
    (scheme.eq_ignore_ascii_case("bearer") && bounded).then_some(token)
}

pub(crate) fn authenticate(
    state: &State,
    credential: &Credential,
    now: Timestamp,
) -> Option<Principal> {
    match credential {
        Credential::Login(secret) => state.principal_of_login(secret, now),
        Credential::ApiToken(secret) => state.principal_of_api_token(secret, now),
    }
}
