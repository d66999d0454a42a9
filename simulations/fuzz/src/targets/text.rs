//! Everything that people and files write as text: what parses is written the same way.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use rap_proto::{
    Capability, Digest, Lane, Name, NodeId, NodeRole, OrganizationRole, ResourceKind, Timestamp,
    api::Reference,
    name::MAX_NAME_BYTES,
    secret::{ApiSecret, InviteSecret, JoinSecret, LoginSecret, Secret, SecretKind, SetupCode},
};

use crate::round_trip::{Check, choose};

const CHECKS: &[Check] = &[
    name,
    exact::<Digest>,
    exact::<NodeRole>,
    exact::<Capability>,
    exact::<OrganizationRole>,
    exact::<ResourceKind>,
    exact::<Lane>,
    value::<Timestamp>,
    value::<NodeId>,
    value::<Reference>,
    secret::<JoinSecret>,
    secret::<LoginSecret>,
    secret::<ApiSecret>,
    secret::<InviteSecret>,
    secret::<SetupCode>,
];

pub fn target(data: &[u8]) {
    choose(CHECKS, data);
}

/// A name can stand anywhere without being escaped.
fn name(bytes: &[u8]) {
    exact::<Name>(bytes);
    if let Some(name) = parsed::<Name>(bytes) {
        let text = name.as_str();
        assert!((1..=MAX_NAME_BYTES).contains(&text.len()));
        assert!(text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'));
    }
}

/// There is one way to write it.
fn exact<T: FromStr + Display>(bytes: &[u8]) {
    if let Some(value) = parsed::<T>(bytes) {
        assert_eq!(value.to_string().as_bytes(), bytes);
    }
}

/// There are several ways to write it, and ours reads as the same value.
fn value<T: FromStr + Display + PartialEq + Debug>(bytes: &[u8]) {
    if let Some(value) = parsed::<T>(bytes) {
        assert_eq!(value.to_string().parse().ok(), Some(value));
    }
}

/// One text per secret, so that a stored digest has one text that opens it.
fn secret<K: SecretKind>(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(secret) = Secret::<K>::parse(text) {
        assert_eq!(secret.reveal(), text);
        assert!(secret.matches(&secret.digest()));
        assert!(!format!("{secret:?}").contains(&text[K::PREFIX.len()..]));
    }
}

fn parsed<T: FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
