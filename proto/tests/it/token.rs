use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rap_proto::{
    ChannelKind, Lane, RefusalCode, Signer, codec,
    token::{AccessClaims, CLOCK_SKEW_MS, ChannelGrant, Proof},
};
use serde::Serialize;

use crate::fixtures::{NOW, claims, key};

const SKEW: Duration = Duration::from_millis(CLOCK_SKEW_MS);
const MS: Duration = Duration::from_millis(1);

#[test]
fn a_token_is_good_between_its_times_give_or_take_the_skew() {
    let claims = claims();
    let connect = |at| claims.check_connect(at);
    let open = |at| claims.check_open(at);
    assert_eq!(connect(NOW), Ok(()));
    assert_eq!(connect(NOW - SKEW), Ok(()));
    assert_eq!(connect(NOW - SKEW - MS), Err(RefusalCode::TokenNotYetValid));
    assert_eq!(connect(claims.connect_by + SKEW), Ok(()));
    assert_eq!(connect(claims.connect_by + SKEW + MS), Err(RefusalCode::TokenExpired));
    assert_eq!(open(claims.connect_by + SKEW + MS), Ok(()), "channels open until the grant ends");
    assert_eq!(open(claims.expires_at + SKEW), Ok(()));
    assert_eq!(open(claims.expires_at + SKEW + MS), Err(RefusalCode::TokenExpired));
}

#[test]
fn a_token_that_lives_too_long_is_malformed() {
    let mut claims = claims();
    claims.expires_at = claims.expires_at + Duration::from_secs(3600);
    assert_eq!(claims.check_open(NOW), Err(RefusalCode::Malformed));
}

#[test]
fn a_channel_needs_its_grant_and_its_lane() {
    let mut claims = claims();
    assert_eq!(claims.check_channel(ChannelKind::Stream, Lane::Interactive), Ok(()));
    let denied = Err(RefusalCode::ChannelNotPermitted);
    assert_eq!(claims.check_channel(ChannelKind::Stream, Lane::Bulk), denied);
    claims.channels.clear();
    assert_eq!(claims.check_channel(ChannelKind::Stream, Lane::Interactive), denied);
}

/// A grant as a later release may write it.
#[derive(Serialize)]
struct LaterGrant {
    lanes: BTreeSet<&'static str>,
    max_open: u32,
    max_rate: u32,
}

#[test]
fn what_a_node_does_not_know_it_does_not_permit_and_the_rest_counts() {
    let lanes = BTreeSet::from(["interactive", "media", "urgent"]);
    let later = LaterGrant { lanes, max_open: 3, max_rate: 7 };
    let read: ChannelGrant = codec::decode(&codec::encode(&later), 1024).unwrap();
    let known = BTreeSet::from([Lane::Interactive, Lane::Media]);
    assert_eq!(read, ChannelGrant { lanes: known, max_open: 3 });

    let claims = claims();
    let word = codec::encode(&"stream");
    let at = position(&codec::encode(&claims), &word);
    let mut bytes = codec::encode(&claims);
    bytes[at..at + word.len()].copy_from_slice(&codec::encode(&"dreams"));
    let read: AccessClaims = codec::decode(&bytes, 8 * 1024).unwrap();
    assert_eq!(read, AccessClaims { channels: BTreeMap::new(), ..claims });
}

/// Where `part` is in `bytes`: once.
fn position(bytes: &[u8], part: &[u8]) -> usize {
    let mut found = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(part));
    let first = found.next().unwrap();
    assert_eq!(found.next(), None);
    first
}

#[test]
fn a_proof_is_for_one_key_one_token_and_one_connection() {
    let proof = Proof::make(b"token", [1; 32], &key(7));
    assert!(proof.holds(b"token", &key(7).public_key()));
    assert!(!proof.holds(b"other", &key(7).public_key()));
    assert!(!proof.holds(b"token", &key(8).public_key()));
    let elsewhere = Proof { exported: [2; 32], ..proof };
    assert!(!elsewhere.holds(b"token", &key(7).public_key()));
}
