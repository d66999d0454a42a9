//! NATS tokens: JSON claims (version 2) under an `ed25519-nkey` signature.
//!
//! Absent limits mean zero to a server, so every limit is written out; -1 is "no limit".

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rap_proto::{Digest, Timestamp};
use serde_json::{Map, Value, json};

use super::Revocations;
use crate::MAX_PAYLOAD_BYTES;

const HEADER: &[u8] = br#"{"typ":"JWT","alg":"ed25519-nkey"}"#;
/// A program needs a handful of subscriptions: its subjects and its inbox.
const USER_SUBSCRIPTIONS: u64 = 64;

/// What a token says about its subject, before it is issued.
pub(super) struct Claims {
    name: String,
    subject: String,
    body: Value,
}

pub(super) fn operator(name: &str, key: &str, system_account: &str) -> Claims {
    let body = json!({ "type": "operator", "version": 2, "system_account": system_account });
    Claims { name: name.to_owned(), subject: key.to_owned(), body }
}

pub(super) fn account(name: &str, key: &str, revoked: &Revocations) -> Claims {
    let revocations: Map<String, Value> =
        revoked.iter().map(|(key, at)| (key.clone(), seconds(*at).into())).collect();
    let body = json!({
        "type": "account",
        "version": 2,
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": 0, "exports": 0,
            "wildcards": true, "conn": -1, "leaf": 0,
        },
        "default_permissions": { "pub": { "deny": [">"] }, "sub": { "deny": [">"] } },
        "revocations": revocations,
    });
    Claims { name: name.to_owned(), subject: key.to_owned(), body }
}

pub(super) fn user(name: &str, key: &str, publish: Vec<String>, subscribe: Vec<String>) -> Claims {
    let body = json!({
        "type": "user",
        "version": 2,
        "pub": { "allow": publish },
        "sub": { "allow": subscribe },
        "subs": USER_SUBSCRIPTIONS, "data": -1, "payload": MAX_PAYLOAD_BYTES,
        "allowed_connection_types": ["STANDARD"],
    });
    Claims { name: name.to_owned(), subject: key.to_owned(), body }
}

/// Issues the claims at `now`. NATS counts in seconds: a token lives to the end of the second in
/// which it expires.
pub(super) fn sign(
    claims: Claims,
    now: Timestamp,
    expires_at: Option<Timestamp>,
    issuer: &KeyPair,
) -> String {
    let mut token = json!({
        "iat": seconds(now),
        "iss": issuer.public_key(),
        "sub": claims.subject,
        "name": claims.name,
        "nats": claims.body,
    });
    if let Some(at) = expires_at {
        token["exp"] = (seconds(at) + 1).into();
    }
    token["jti"] = Digest::of(token.to_string().as_bytes()).to_string().into();
    let body = URL_SAFE_NO_PAD.encode(token.to_string());
    let signed = format!("{}.{body}", URL_SAFE_NO_PAD.encode(HEADER));
    let signature = issuer.sign(signed.as_bytes()).expect("an issuer holds its seed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn seconds(time: Timestamp) -> i64 {
    time.unix_millis() / 1000
}
